package envoy

import (
	"fmt"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	httprbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	netrbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/report"
)

const (
	httpRBACType = "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC"
	tcpRBACType  = "type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC"
)

// The RBAC filters of a chain, in order. Shadow rules come before what enforces:
// a denial ends evaluation.
//
// On HTTP the verdict of Allow is taken by two filters: allow evaluates the
// rules without enforcing, and verdict denies what was not allowed, under a
// name that says which policies had no matching rule. An Allow that enforced
// would call it "none". verdict fails closed: no evaluation, no passage.
const (
	auditPart   = "audit"
	denyPart    = "deny"
	allowPart   = "allow"
	verdictPart = "verdict"

	tcpPrefix  = "tcp-"
	httpPrefix = "http-"
)

const (
	allowStat     = "allow_"
	allowVerdict  = allowStat + "shadow_engine_result"
	verdictPassed = "allowed"
	httpRBACSpace = "envoy.filters.http.rbac"

	// defaultPolicy is what denied where no policy applies: MeshConfig's default.
	defaultPolicy = "MeshConfig/default"
	// escapedSlash is what denied a path with %2f or %5c where paths are looked at.
	escapedSlash = "escaped slash"
	// maxNamed bounds how many policies a denial names.
	maxNamed = 5
)

func httpRBACParts() []string {
	return []string{httpPrefix + auditPart, httpPrefix + denyPart, httpPrefix + allowPart, httpPrefix + verdictPart}
}

func tcpRBACParts() []string {
	return []string{tcpPrefix + auditPart, tcpPrefix + denyPart, tcpPrefix + allowPart}
}

// fromECDS has a filter's configuration come on ADS: a change drains nothing.
func fromECDS(typeURL string) *corev3.ExtensionConfigSource {
	return &corev3.ExtensionConfigSource{ConfigSource: adsSource(0), TypeUrls: []string{typeURL}}
}

// rbac adds the configurations of a port's filters.
func (t *translation) rbac(p model.InboundPort) {
	g := guard{port: p, trusted: trustedHops(t.view.Settings)}
	origins := authzOrigins(p.Authz)
	tcp := g.as(false)
	for part, m := range map[string]*netrbacv3.RBAC{
		auditPart: {ShadowRules: tcp.allowing(p.Authz.AuditAllow), ShadowRulesStatPrefix: "audit_allow_"},
		denyPart: {
			Rules: tcp.denying(p.Authz.Deny), ShadowRules: tcp.denying(p.Authz.AuditDeny), ShadowRulesStatPrefix: "audit_deny_",
		},
		allowPart: {Rules: tcp.enforcedAllow(p.Authz)},
	} {
		m.StatPrefix = inStat(p) + "." + part + "."
		name := rbacName(p.Port, tcpPrefix+part)
		t.put(ExtensionType, name, extension(name, m), origins)
	}
	if !p.Protocol.MayBeHTTP() {
		return
	}
	http := g.as(true)
	denied := http.denying(p.Authz.Deny)
	if hasPathRules(p.Authz) {
		denied = refuseEscapedSlashes(denied)
	}
	for part, m := range map[string]*httprbacv3.RBAC{
		auditPart: {ShadowRules: http.allowing(p.Authz.AuditAllow), ShadowRulesStatPrefix: "audit_allow_"},
		denyPart: {
			Rules: denied, ShadowRules: http.denying(p.Authz.AuditDeny),
			RulesStatPrefix: "deny_", ShadowRulesStatPrefix: "audit_deny_", TrackPerRuleStats: true,
		},
		allowPart:   {ShadowRules: orAnybody(http.enforcedAllow(p.Authz)), ShadowRulesStatPrefix: allowStat, TrackPerRuleStats: true},
		verdictPart: {Rules: verdict(p.Authz), RulesStatPrefix: "verdict_"},
	} {
		name := rbacName(p.Port, httpPrefix+part)
		t.put(ExtensionType, name, extension(name, m), origins)
	}
}

// guard translates the policies of one port, for requests or for bytes.
type guard struct {
	port    model.InboundPort
	trusted []string
	http    bool
	denies  bool
}

func (g guard) as(http bool) guard {
	g.http = http
	return g
}

// enforcedAllow is nil where everybody may pass.
func (g guard) enforcedAllow(a model.Authz) *rbacv3.RBAC {
	if len(a.Allow) == 0 && !a.DefaultDeny {
		return nil
	}
	if rules := g.allowing(a.Allow); rules != nil {
		return rules
	}
	return &rbacv3.RBAC{Action: rbacv3.RBAC_ALLOW}
}

// allowing lets through what one rule of the policies matches; nil without policies.
func (g guard) allowing(list []model.AuthzPolicy) *rbacv3.RBAC {
	if len(list) == 0 {
		return nil
	}
	out := &rbacv3.RBAC{Action: rbacv3.RBAC_ALLOW, Policies: map[string]*rbacv3.Policy{}}
	for _, p := range list {
		g.rules(out.Policies, p)
	}
	return out
}

// denying refuses what one rule of the policies matches; nil without policies.
// A Deny without rules could never be compiled, and denies all.
func (g guard) denying(list []model.AuthzPolicy) *rbacv3.RBAC {
	if len(list) == 0 {
		return nil
	}
	g.denies = true
	out := &rbacv3.RBAC{Action: rbacv3.RBAC_DENY, Policies: map[string]*rbacv3.Policy{}}
	for _, p := range list {
		if len(p.Rules) == 0 {
			p.Rules = []model.AuthzRule{{}}
		}
		g.rules(out.Policies, p)
	}
	return out
}

func (g guard) rules(into map[string]*rbacv3.Policy, p model.AuthzPolicy) {
	for i, r := range p.Rules {
		sources, to := g.sources(r.Sources), g.to(r.To)
		if len(sources) == 0 || len(to) == 0 {
			continue // matches nothing
		}
		into[ruleName(p, i)] = &rbacv3.Policy{Principals: sources, Permissions: to}
	}
}

// ruleName is what a denial says: the object, and the rule where it has several.
func ruleName(p model.AuthzPolicy, i int) string {
	if len(p.Rules) == 1 {
		return p.Name.String()
	}
	return fmt.Sprintf("%s|rules[%d]", p.Name, i)
}

// orAnybody evaluates to "allowed" where there is nothing to evaluate, so that
// whether Allow is in force is said by one resource alone.
func orAnybody(r *rbacv3.RBAC) *rbacv3.RBAC {
	if r != nil {
		return r
	}
	return &rbacv3.RBAC{Action: rbacv3.RBAC_ALLOW, Policies: map[string]*rbacv3.Policy{"*": {
		Principals: []*rbacv3.Principal{anyone()}, Permissions: []*rbacv3.Permission{anything()},
	}}}
}

// verdict denies what the filter before it has not called allowed.
func verdict(a model.Authz) *rbacv3.RBAC {
	return &rbacv3.RBAC{Action: rbacv3.RBAC_DENY, Policies: map[string]*rbacv3.Policy{allowNames(a): {
		Permissions: []*rbacv3.Permission{anything()},
		Principals: []*rbacv3.Principal{notID(&rbacv3.Principal{Identifier: &rbacv3.Principal_SourcedMetadata{
			SourcedMetadata: &rbacv3.SourcedMetadata{MetadataMatcher: &matcherv3.MetadataMatcher{
				Filter: httpRBACSpace,
				Path: []*matcherv3.MetadataMatcher_PathSegment{{
					Segment: &matcherv3.MetadataMatcher_PathSegment_Key{Key: allowVerdict},
				}},
				Value: &matcherv3.ValueMatcher{MatchPattern: &matcherv3.ValueMatcher_StringMatch{StringMatch: exactly(verdictPassed)}},
			}},
		}})},
	}}}
}

// allowNames are the policies of which none has a matching rule.
func allowNames(a model.Authz) string {
	if len(a.Allow) == 0 {
		return defaultPolicy
	}
	var names []string
	for _, p := range a.Allow {
		names = append(names, p.Name.String())
	}
	if len(names) > maxNamed {
		names = append(names[:maxNamed:maxNamed], "...")
	}
	return strings.Join(names, ",")
}

func authzOrigins(a model.Authz) []report.Origin {
	var out []report.Origin
	for _, list := range [][]model.AuthzPolicy{a.Deny, a.Allow, a.AuditDeny, a.AuditAllow} {
		for _, p := range list {
			out = append(out, p.Origin)
		}
	}
	return out
}

// refuseEscapedSlashes denies what the connection manager answers with 400: a
// connection that is older than the first path rule still has the former one.
func refuseEscapedSlashes(r *rbacv3.RBAC) *rbacv3.RBAC {
	if r == nil {
		r = &rbacv3.RBAC{Action: rbacv3.RBAC_DENY, Policies: map[string]*rbacv3.Policy{}}
	}
	r.Policies[escapedSlash] = &rbacv3.Policy{
		Principals: []*rbacv3.Principal{anyone()}, Permissions: []*rbacv3.Permission{urlPath(fully("(?i).*%(?:2f|5c).*"))},
	}
	return r
}

// hasPathRules reports whether any rule in force looks at paths: then %2f and %5c are refused.
func hasPathRules(a model.Authz) bool {
	for _, list := range [][]model.AuthzPolicy{a.Deny, a.Allow} {
		for _, p := range list {
			for _, r := range p.Rules {
				if slices.ContainsFunc(r.To, func(to model.AuthzTo) bool { return len(to.Paths)+len(to.GRPC) > 0 }) {
					return true
				}
			}
		}
	}
	return false
}
