package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
	"github.com/meshd-io/meshd/pkg/compile/object"
	"github.com/meshd-io/meshd/pkg/compile/services"
	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/report"
)

// Traffic is a TrafficPolicy in force.
type Traffic struct {
	Policy
	settings Settings
}

// ReadTraffic reads the object.
func ReadTraffic(obj *meshv1a1.TrafficPolicy) (*Traffic, []report.Finding) {
	c := &Traffic{Policy: policyOf(kindTrafficPolicy, obj)}
	if len(obj.Spec.TargetRefs) == 0 {
		return c, []report.Finding{object.Refused(c.Origin, report.Invalid, "spec.targetRefs", "name at least one target")}
	}
	ts, fs := readTargets(c.Origin, obj.Spec.TargetRefs, kindService, kindNamespace, kindHTTPRoute, kindGRPCRoute, kindGateway)
	c.targets = ts
	for _, t := range ts {
		if t.kind == kindGRPCRoute || t.kind == kindGateway {
			fs = append(fs, object.Refused(c.Origin, report.Unsupported, t.field, "this version of meshd serves no %s: target a Service, an HTTPRoute or the Namespace", t.kind))
		}
	}
	if len(c.HTTPRoutes()) > 0 {
		fs = append(fs, notOfRoutes(c.Origin, obj.Spec.TrafficSettings)...)
	}
	settings, faults := ReadSettings(c.Origin, "spec", obj.Spec.TrafficSettings)
	c.settings = settings
	return c, append(fs, faults...)
}

// group is one field group of TrafficSettings: it is won and lost as a whole.
type group struct {
	name string
	set  func(Settings) bool
	take func(to *services.Carriage, from Settings)
}

// The groups that routes have too.
const (
	timeoutGroup = "timeout"
	retryGroup   = "retry"
)

// groups are merged one by one (API.md, Merge).
func groups() []group {
	return []group{
		{timeoutGroup, func(s Settings) bool { return s.Timeout != nil }, func(to *services.Carriage, from Settings) {
			t := to.Traffic
			t.RequestTimeout, t.BackendTimeout = from.Timeout.Request, from.Timeout.Backend
			t.IdleTimeout, t.ConnectTimeout = from.Timeout.Idle, from.Timeout.Connect
		}},
		{retryGroup, func(s Settings) bool { return s.Retry != nil }, func(to *services.Carriage, from Settings) {
			to.Traffic.Retry = *from.Retry
		}},
		{"circuitBreaker", func(s Settings) bool { return s.CircuitBreaker != nil }, func(to *services.Carriage, from Settings) {
			to.Traffic.CircuitBreaker = *from.CircuitBreaker
		}},
		{"outlierDetection", func(s Settings) bool { return s.OutlierDetection != nil }, func(to *services.Carriage, from Settings) {
			to.Traffic.OutlierDetection = *from.OutlierDetection
		}},
		{"loadBalancing", func(s Settings) bool { return s.LoadBalancing != nil }, func(to *services.Carriage, from Settings) {
			to.Traffic.LoadBalancing = *from.LoadBalancing
		}},
		{"protocol", func(s Settings) bool { return s.Protocol != model.Undeclared }, func(to *services.Carriage, from Settings) {
			to.Protocol = from.Protocol
		}},
	}
}

// candidate is a policy at a target, the most specific first, of one level the older.
type candidate struct {
	settings Settings
	origin   report.Origin
	level    level
	target   string // the reference by which it is one
}

// serviceLevel is above namespaceLevel.
const serviceLevel = podLevel

// candidates of a Service, or (service "") of a namespace.
func candidates(policies []*Traffic, service string) []candidate {
	return candidatesAt(policies, func(t target) level {
		switch {
		case t.kind == kindNamespace:
			return namespaceLevel
		case t.kind == kindService && service != "" && t.name == service:
			return serviceLevel
		}
		return none
	})
}

// candidatesAt are the policies with a target that is at a level.
func candidatesAt(policies []*Traffic, at func(target) level) []candidate {
	var out []candidate
	for _, c := range policies {
		best := candidate{settings: c.settings, origin: c.Origin}
		for _, t := range c.targets {
			if l := at(t); l > best.level {
				best.level, best.target = l, t.field
			}
		}
		if best.level != none {
			out = append(out, best)
		}
	}
	slices.SortStableFunc(out, func(a, b candidate) int { return cmp.Compare(b.level, a.level) })
	return out
}

// Merged is how a Service's ports or a namespace's pods are called, and what policies lost there.
type Merged struct {
	services.Carriage
	At     report.Object
	Losses []Loss
}

// MergeFor merges what the policies of its namespace, the older first, say of a
// Service, or of the namespace itself (service ""), or of no namespace in particular ("").
func MergeFor(namespace, service string, policies []*Traffic, d Defaults) *Merged {
	at := report.Object{Kind: kindService, Namespace: namespace, Name: service}
	if service == "" {
		at = report.Object{Kind: kindNamespace, Name: namespace}
	}
	return merge(candidates(policies, service), at, d)
}

// merge lets the first candidate that says a field group win it; MeshConfig's
// defaults come last, then the built-in ones.
func merge(candidates []candidate, at report.Object, d Defaults) *Merged {
	traffic := builtIn()
	out := &Merged{Carriage: services.Carriage{Traffic: &traffic}, At: at}
	all := append(slices.Clone(candidates), candidate{settings: d.Traffic, origin: d.Origin})
	for _, g := range groups() {
		winner, losses := g.decide(all)
		out.Losses = append(out.Losses, losses...)
		if winner == nil {
			continue
		}
		g.take(&out.Carriage, winner.settings)
		if g.name == "protocol" {
			out.ProtocolOrigin = winner.origin
		} else {
			out.Traffic.Origins = withOrigin(out.Traffic.Origins, winner.origin)
		}
	}
	return out
}

// decide finds the first candidate that says the group; nil is none.
func (g group) decide(all []candidate) (winner *candidate, losses []Loss) {
	for i := range all {
		switch c := &all[i]; {
		case !g.set(c.settings):
		case winner == nil:
			winner = c
		case c.level != none:
			losses = append(losses, lost(*c, g.name, *winner))
		}
	}
	return winner, losses
}

// Loss is a field group that a policy has lost somewhere.
type Loss struct {
	loser  report.Origin
	target string // the loser's
	group  string
	winner report.Object
	how    string // "older" or "more specific"
}

func lost(loser candidate, group string, winner candidate) Loss {
	how := "older"
	if winner.level != loser.level {
		how = "more specific"
	}
	return Loss{loser.origin, loser.target, group, winner.origin.Object, how}
}

// Finding is one for a loss, however many places, sorted, are concerned.
func (l Loss) Finding(at []report.Object) report.Finding {
	const listed = 3
	var names []string
	for _, o := range at[:min(listed, len(at))] {
		names = append(names, o.String())
	}
	where := strings.Join(names, ", ")
	if len(at) > listed {
		where += fmt.Sprintf(" and %d more", len(at)-listed)
	}
	return object.Overridden(l.loser, l.winner, l.target, "spec."+l.group, "%s, which is %s, has the say at %s", l.winner, l.how, where)
}
