package policy

import (
	"slices"
	"time"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
	"github.com/meshd-io/meshd/pkg/compile/object"
	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/report"
)

// The levels above serviceLevel.
const (
	routeLevel = serviceLevel + 1
	ruleLevel  = serviceLevel + 2
)

// HTTPRoutes are those that the policy targets, whether they exist or not.
func (p Policy) HTTPRoutes() []model.Name {
	var out []model.Name
	for _, t := range p.targets {
		name := model.Name{Namespace: p.Origin.Namespace, Name: t.name}
		if t.kind == kindHTTPRoute && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

// notOfRoutes tells of settings that are a backend's, where a policy targets a route.
func notOfRoutes(o report.Origin, s meshv1a1.TrafficSettings) []report.Finding {
	var fs []report.Finding
	for _, f := range []struct {
		field string
		set   bool
	}{
		{"timeout.idle", s.Timeout != nil && differs(s.Timeout.Idle, defaultIdle)},
		{"timeout.connect", s.Timeout != nil && differs(s.Timeout.Connect, defaultConnect)},
		{"retry.budget", s.Retry != nil && s.Retry.Budget != nil},
		{"circuitBreaker", s.CircuitBreaker != nil},
		{"outlierDetection", s.OutlierDetection != nil},
		{"loadBalancing", s.LoadBalancing != nil},
		{"protocol", s.Protocol != ""},
	} {
		if f.set {
			fs = append(fs, object.Refused(o, report.Ignored, "spec."+f.field, "a route has none of its own: target the Service that its requests are sent to"))
		}
	}
	return fs
}

// differs reports whether a duration is said, and another than the schema fills in.
func differs(d meshv1a1.Duration, otherwise time.Duration) bool {
	said, err := object.Duration(d, otherwise)
	return err == nil && said != otherwise
}

// RouteTraffic is what the policies of a route say of its requests.
type RouteTraffic struct {
	At     report.Object
	Losses []Loss
	// whole is of rules that no policy names, rules of those that one does.
	whole overlay
	rules map[string]overlay
}

// overlay is what policies put over a Service's Traffic; nil is nothing.
type overlay struct {
	timeout *Timeouts
	retry   *model.Retry
	origins []report.Origin
}

// MergeForRoute merges what the policies of a route, the older first, say of it and of its rules.
func MergeForRoute(route model.Name, policies []*Traffic) *RouteTraffic {
	out := &RouteTraffic{At: report.Object{Kind: kindHTTPRoute, Namespace: route.Namespace, Name: route.Name}, rules: map[string]overlay{}}
	out.whole = out.merge(policies, route.Name, "")
	for _, p := range policies {
		for _, t := range p.targets {
			if _, done := out.rules[t.section]; t.kind == kindHTTPRoute && t.name == route.Name && t.section != "" && !done {
				out.rules[t.section] = out.merge(policies, route.Name, t.section)
			}
		}
	}
	return out
}

func (m *RouteTraffic) merge(policies []*Traffic, route, section string) overlay {
	all := candidatesAt(policies, func(t target) level {
		switch {
		case t.kind != kindHTTPRoute || t.name != route:
			return none
		case t.section == "":
			return routeLevel
		case t.section == section:
			return ruleLevel
		}
		return none
	})
	var out overlay
	for _, g := range groups() {
		if g.name != timeoutGroup && g.name != retryGroup {
			continue
		}
		winner, losses := g.decide(all)
		for _, l := range losses {
			if !slices.Contains(m.Losses, l) {
				m.Losses = append(m.Losses, l)
			}
		}
		switch {
		case winner == nil:
			continue
		case g.name == timeoutGroup:
			out.timeout = winner.settings.Timeout
		default:
			out.retry = winner.settings.Retry
		}
		out.origins = withOrigin(out.origins, winner.origin)
	}
	return out
}

// Over is how requests of a rule are sent ("": one without a name) to a Service
// that is called in a certain way otherwise.
func (m *RouteTraffic) Over(t model.Traffic, rule string) model.Traffic {
	over, named := m.rules[rule]
	if !named {
		over = m.whole
	}
	if over.timeout != nil {
		t.RequestTimeout, t.BackendTimeout = over.timeout.Request, over.timeout.Backend
	}
	if over.retry != nil {
		t.Retry = *over.retry
	}
	for _, o := range over.origins {
		t.Origins = withOrigin(t.Origins, o)
	}
	return t
}
