package compile

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
	"github.com/meshd-io/meshd/pkg/compile/object"
	"github.com/meshd-io/meshd/pkg/compile/policy"
	"github.com/meshd-io/meshd/pkg/crds"
	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/report"
)

// defaultName is the name of the one MeshConfig and CertificateAuthority that count.
const defaultName = "default"

// The defaults that API.md writes beside MeshConfig's fields.
const (
	defaultTrustDomain = "cluster.local"
	defaultMaxSeries   = 2000
)

// settings are MeshConfig's, compiled.
type settings struct {
	model    model.Settings
	defaults policy.Defaults
}

// settings compiles MeshConfig "default"; where it cannot be, its last good
// version, then the defaults.
func (m memory) settings(snap *crds.Snapshot, config Config) (settings, []report.Finding) {
	var fs []report.Finding
	var current *meshv1a1.MeshConfig
	for _, obj := range snap.MeshConfigs {
		if obj.Name != defaultName {
			fs = append(fs, notDefault(object.Origin("MeshConfig", obj)))
			continue
		}
		current = obj
	}
	out := readMeshConfig(&meshv1a1.MeshConfig{}, report.Origin{}, config.TrustDomain)
	if current == nil {
		clear(m.meshConfigs)
	} else {
		read := readMeshConfig(current, object.Origin("MeshConfig", current), config.TrustDomain)
		fs = append(fs, read.findings...)
		accepted := len(read.findings) == 0
		if last := m.meshConfigs[object.Name(current)]; !accepted && last != nil {
			read = readMeshConfig(last, object.Origin("MeshConfig", last), config.TrustDomain)
		}
		if len(read.findings) == 0 {
			out = read
		}
		remember(m.meshConfigs, current, accepted)
	}
	if config.TrustDomain != "" {
		out.model.TrustDomain, out.defaults.TrustDomain = config.TrustDomain, config.TrustDomain
	}
	return out.settings, fs
}

func notDefault(o report.Origin) report.Finding {
	return object.Refused(o, report.Invalid, "metadata.name", "only the %s named %q counts: rename or remove this one", o.Kind, defaultName)
}

// meshConfigReader reads one object and gathers what is wrong with it.
type meshConfigReader struct {
	settings
	origin   report.Origin
	findings []report.Finding
}

func (r *meshConfigReader) refuse(reason report.Reason, field, format string, args ...any) {
	r.findings = append(r.findings, object.Refused(r.origin, reason, field, format, args...))
}

func readMeshConfig(obj *meshv1a1.MeshConfig, o report.Origin, pinned string) *meshConfigReader {
	r := &meshConfigReader{origin: o}
	spec := obj.Spec
	out := &r.model
	out.Origin = o
	out.TrustDomain = r.trustDomain("spec.trustDomain", cmp.Or(spec.TrustDomain, pinned, defaultTrustDomain))
	if pinned != "" && out.TrustDomain != pinned {
		r.refuse(report.Immutable, "spec.trustDomain", "it may not change from %s while proxies live: stop them, or keep it", pinned)
	}
	for i, alias := range spec.TrustDomainAliases {
		out.TrustDomainAliases = append(out.TrustDomainAliases, r.trustDomain(fmt.Sprintf("spec.trustDomainAliases[%d]", i), alias))
	}
	slices.Sort(out.TrustDomainAliases)
	out.TrustDomainAliases = slices.Compact(out.TrustDomainAliases)
	out.TrustDomainAliases = slices.DeleteFunc(out.TrustDomainAliases, func(a string) bool { return a == out.TrustDomain })
	out.CIDRs = r.prefixes("spec.cidrs", spec.CIDRs)
	r.prefixes("spec.injection.exclude.outboundCIDRs", spec.Injection.Exclude.OutboundCIDRs)
	r.egress(spec.Egress)
	r.telemetry(spec.Telemetry)
	out.ScopeAll = spec.Scope == "All"
	if spec.Scope != "" && spec.Scope != "Learned" && spec.Scope != "All" {
		r.refuse(report.Invalid, "spec.scope", "%q is not Learned or All", spec.Scope)
	}
	r.policyDefaults(spec.Defaults)
	r.defaults.Origin = o
	r.defaults.TrustDomain, r.defaults.Aliases = out.TrustDomain, out.TrustDomainAliases
	return r
}

func (r *meshConfigReader) trustDomain(field, name string) string {
	td, err := spiffeid.TrustDomainFromString(name)
	if err != nil || td.Name() != name {
		r.refuse(report.Invalid, field, "%q is not a trust domain such as cluster.local", name)
		return defaultTrustDomain
	}
	return name
}

func (r *meshConfigReader) egress(spec meshv1a1.EgressSpec) {
	out := &r.model.Egress
	out.Deny = spec.Mode == "Deny"
	if spec.Mode != "" && spec.Mode != "Allow" && spec.Mode != "Deny" {
		r.refuse(report.Invalid, "spec.egress.mode", "%q is not Allow or Deny", spec.Mode)
	}
	for i, h := range spec.Hosts {
		host, err := object.Host(h)
		if err != nil {
			r.refuse(report.Invalid, fmt.Sprintf("spec.egress.hosts[%d]", i), "%v", err)
			continue
		}
		out.Hosts = append(out.Hosts, host)
	}
	slices.Sort(out.Hosts)
	out.Hosts = slices.Compact(out.Hosts)
	out.CIDRs = r.prefixes("spec.egress.cidrs", spec.CIDRs)
}

func (r *meshConfigReader) telemetry(spec meshv1a1.TelemetrySpec) {
	out := &r.model.Telemetry
	switch spec.AccessLog {
	case "", "Errors":
	case "Off":
		out.AccessLog = model.AccessLogOff
	case "All":
		out.AccessLog = model.AccessLogAll
	default:
		r.refuse(report.Invalid, "spec.telemetry.accessLog", "%q is not Off, Errors or All", spec.AccessLog)
	}
	out.OTLP = spec.Tracing.OTLP
	if out.OTLP != "" && !isHostPort(out.OTLP) {
		r.refuse(report.Invalid, "spec.telemetry.tracing.otlp", "%q is not HOST:PORT", out.OTLP)
	}
	if p := spec.Tracing.SamplePercent; p < 0 || p > 100 {
		r.refuse(report.Invalid, "spec.telemetry.tracing.samplePercent", "%d is not from 0 to 100", p)
	} else {
		out.TracingSamplePercent = uint32(p)
	}
	out.MaxSeries = defaultMaxSeries
	if n := spec.Metrics.MaxSeries; n < 0 {
		r.refuse(report.Invalid, "spec.telemetry.metrics.maxSeries", "%d is less than 0", n)
	} else if n > 0 {
		out.MaxSeries = uint32(n)
	}
}

func isHostPort(s string) bool {
	host, port, err := net.SplitHostPort(s)
	if err != nil || host == "" {
		return false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0
}

func (r *meshConfigReader) policyDefaults(spec meshv1a1.DefaultsSpec) {
	mode, ok := policy.Mode(cmp.Or(spec.PeerAuthentication, meshv1a1.Strict))
	if !ok {
		r.refuse(report.Invalid, "spec.defaults.peerAuthentication", "%q is not Strict, Permissive or Disable", spec.PeerAuthentication)
	}
	r.defaults.Mode = mode
	switch spec.Authorization {
	case "", meshv1a1.Allow:
	case meshv1a1.Deny:
		r.defaults.DefaultDeny = true
	default:
		r.refuse(report.Invalid, "spec.defaults.authorization", "%q is not Allow or Deny", spec.Authorization)
	}
	traffic, faults := policy.ReadSettings(r.origin, "spec.defaults.traffic", spec.Traffic)
	r.defaults.Traffic = traffic
	r.findings = append(r.findings, faults...)
}

func (r *meshConfigReader) prefixes(field string, texts []string) []netip.Prefix {
	var out []netip.Prefix
	for i, s := range texts {
		p, err := object.Prefix(s)
		if err != nil {
			r.refuse(report.Invalid, fmt.Sprintf("%s[%d]", field, i), "%v", err)
			continue
		}
		out = append(out, p)
	}
	return sortPrefixes(out)
}
