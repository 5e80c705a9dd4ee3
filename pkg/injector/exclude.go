package injector

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
	"github.com/meshd-io/meshd/pkg/report"
)

// exclusions is what the capture step leaves alone, sorted, each once.
type exclusions struct {
	inboundPorts, outboundPorts []uint16
	outboundCIDRs               []netip.Prefix
	uids                        []uint32
}

// exclusions adds up the mesh's and the pod's. A value that cannot be read is
// told by its place and text; the others beside it hold.
func (s *subject) exclusions(mesh meshv1a1.ExcludeSpec) exclusions {
	var ex exclusions
	ex.inboundPorts = slices.Concat(
		collect(mesh.InboundPorts, portOf, s.meshFault("inboundPorts")),
		collect(s.list(ExcludeInboundPortsAnnotation), parsePort, s.annotationFault(ExcludeInboundPortsAnnotation)))
	ex.outboundPorts = slices.Concat(
		collect(mesh.OutboundPorts, portOf, s.meshFault("outboundPorts")),
		collect(s.list(ExcludeOutboundPortsAnnotation), parsePort, s.annotationFault(ExcludeOutboundPortsAnnotation)))
	ex.outboundCIDRs = slices.Concat(
		collect(mesh.OutboundCIDRs, parseCIDR, s.meshFault("outboundCIDRs")),
		collect(s.list(ExcludeOutboundCIDRsAnnotation), parseCIDR, s.annotationFault(ExcludeOutboundCIDRsAnnotation)))
	ex.uids = collect(mesh.UIDs, uidOf, s.meshFault("uids"))
	ex.inboundPorts, ex.outboundPorts, ex.uids = sorted(ex.inboundPorts), sorted(ex.outboundPorts), sorted(ex.uids)
	slices.SortFunc(ex.outboundCIDRs, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	ex.outboundCIDRs = slices.Compact(ex.outboundCIDRs)
	return ex
}

// args are the flags of `meshd-agent capture`.
func (ex exclusions) args() []string {
	var out []string
	out = appendList(out, "--exclude-inbound-ports=", ex.inboundPorts)
	out = appendList(out, "--exclude-outbound-ports=", ex.outboundPorts)
	out = appendList(out, "--exclude-outbound-cidrs=", ex.outboundCIDRs)
	return appendList(out, "--exclude-uids=", ex.uids)
}

func appendList[T any](args []string, flag string, values []T) []string {
	if len(values) == 0 {
		return args
	}
	texts := make([]string, len(values))
	for i, v := range values {
		texts[i] = fmt.Sprint(v)
	}
	return append(args, flag+strings.Join(texts, ","))
}

// fault tells that the i-th value of a list is bad.
type fault func(i int, value string, err error)

func (s *subject) annotationFault(name string) fault {
	return func(_ int, value string, err error) {
		s.find(report.Invalid, "metadata.annotations["+name+"]", fmt.Sprintf("annotation %s: %q %v", name, value, err))
	}
}

// meshFault blames MeshConfig, and says so at every pod: nothing else looks at these lists.
func (s *subject) meshFault(list string) fault {
	return func(i int, value string, err error) {
		field := fmt.Sprintf("spec.injection.exclude.%s[%d]", list, i)
		s.findings = append(s.findings, report.Finding{
			Object: report.Object{Kind: "MeshConfig", Name: "default"}, Condition: report.Accepted,
			Reason: report.Invalid, Field: field, Message: fmt.Sprintf("%q %v", value, err),
		})
	}
}

// list splits an annotation at commas; "" is an empty list.
func (s *subject) list(annotation string) []string {
	v := strings.TrimSpace(s.pod.Annotations[annotation])
	if v == "" {
		return nil
	}
	parts := strings.Split(v, ",")
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	return parts
}

func collect[In, Out any](values []In, parse func(In) (Out, error), bad fault) []Out {
	var out []Out
	for i, v := range values {
		parsed, err := parse(v)
		if err != nil {
			bad(i, fmt.Sprint(v), err)
			continue
		}
		out = append(out, parsed)
	}
	return out
}

func sorted[T cmp.Ordered](values []T) []T {
	slices.Sort(values)
	return slices.Compact(values)
}

var (
	errPort = errors.New("is not a port; write a number from 1 to 65535")
	errCIDR = errors.New("is not a CIDR; write one such as 192.0.2.0/24, 192.0.2.7/32 or 2001:db8::/32")
	errUID  = errors.New("is not a user ID; write a number from 0 to 4294967294")
)

func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, errPort
	}
	return uint16(n), nil
}

func portOf(n int32) (uint16, error) {
	if n < 1 || n > math.MaxUint16 {
		return 0, errPort
	}
	return uint16(n), nil
}

// parseCIDR takes host bits as they come: 10.1.2.3/8 is 10.0.0.0/8.
func parseCIDR(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil || p.Addr().Is4In6() {
		return netip.Prefix{}, errCIDR
	}
	return p.Masked(), nil
}

func uidOf(n int64) (uint32, error) {
	if n < 0 || n >= math.MaxUint32 {
		return 0, errUID
	}
	return uint32(n), nil
}
