package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
	"github.com/meshd-io/meshd/pkg/compile/object"
	"github.com/meshd-io/meshd/pkg/compile/services"
	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/report"
)

// trafficPolicy is a TrafficPolicy in force.
type trafficPolicy struct {
	object   metav1.Object
	origin   report.Origin
	targets  targets
	settings Settings
}

func readTrafficPolicy(obj *meshv1a1.TrafficPolicy) (trafficPolicy, []report.Finding) {
	c := trafficPolicy{object: obj, origin: object.Origin("TrafficPolicy", obj)}
	if len(obj.Spec.TargetRefs) == 0 {
		return c, []report.Finding{object.Refused(c.origin, report.Invalid, "spec.targetRefs", "name at least one target")}
	}
	ts, fs := readTargets(c.origin, obj.Spec.TargetRefs, kindService, kindNamespace, kindHTTPRoute, kindGRPCRoute, kindGateway)
	c.targets = ts
	for _, t := range ts {
		if t.kind == kindHTTPRoute || t.kind == kindGRPCRoute || t.kind == kindGateway {
			fs = append(fs, object.Refused(c.origin, report.Unsupported, t.field, "this version of meshd serves no %s: target a Service or the Namespace", t.kind))
		}
	}
	settings, faults := ReadSettings(c.origin, "spec", obj.Spec.TrafficSettings)
	c.settings = settings
	return c, append(fs, faults...)
}

// group is one field group of TrafficSettings: it is won and lost as a whole.
type group struct {
	name string
	set  func(Settings) bool
	take func(to *services.Carriage, from Settings)
}

// groups are merged one by one (API.md, Merge).
func groups() []group {
	return []group{
		{"timeout", func(s Settings) bool { return s.Timeout != nil }, func(to *services.Carriage, from Settings) {
			t := &to.Traffic
			t.RequestTimeout, t.BackendTimeout = from.Timeout.Request, from.Timeout.Backend
			t.IdleTimeout, t.ConnectTimeout = from.Timeout.Idle, from.Timeout.Connect
		}},
		{"retry", func(s Settings) bool { return s.Retry != nil }, func(to *services.Carriage, from Settings) {
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

// Traffic merges TrafficPolicies per Service and per namespace.
func (p *Policies) Traffic(names []model.Name) (services.Carriages, []report.Finding) {
	out := services.Carriages{
		Services:   make(map[model.Name]services.Carriage, len(names)),
		Namespaces: map[string]services.Carriage{},
	}
	losses := losses{}
	out.Mesh = p.merge(nil, report.Object{}, losses)
	for _, c := range p.traffic {
		ns := c.origin.Namespace
		if _, done := out.Namespaces[ns]; !done {
			out.Namespaces[ns] = p.merge(p.candidates(ns, ""), report.Object{Kind: kindNamespace, Name: ns}, losses)
		}
	}
	for _, n := range names {
		at := report.Object{Kind: kindService, Namespace: n.Namespace, Name: n.Name}
		out.Services[n] = p.merge(p.candidates(n.Namespace, n.Name), at, losses)
	}
	return out, losses.findings()
}

// candidates of a Service, or (service "") of a namespace.
func (p *Policies) candidates(namespace, service string) []candidate {
	var out []candidate
	for _, i := range p.trafficAt.of(namespace, model.Name{Namespace: namespace, Name: service}) {
		c := p.traffic[i]
		best := candidate{settings: c.settings, origin: c.origin}
		for _, t := range c.targets {
			at := none
			switch {
			case t.kind == kindNamespace:
				at = namespaceLevel
			case t.kind == kindService && service != "" && t.name == service:
				at = serviceLevel
			}
			if at > best.level {
				best.level, best.target = at, t.field
			}
		}
		if best.level != none {
			out = append(out, best)
		}
	}
	slices.SortStableFunc(out, func(a, b candidate) int { return cmp.Compare(b.level, a.level) })
	return out
}

// merge lets the first candidate that says a field group win it; MeshConfig's
// defaults come last, then the built-in ones.
func (p *Policies) merge(candidates []candidate, at report.Object, losses losses) services.Carriage {
	out := services.Carriage{Traffic: builtIn()}
	all := append(slices.Clone(candidates), candidate{settings: p.defaults.Traffic, origin: p.defaults.Origin})
	for _, g := range groups() {
		var winner *candidate
		for i := range all {
			c := &all[i]
			if !g.set(c.settings) {
				continue
			}
			if winner != nil {
				if c.level != none {
					losses.add(*c, g.name, *winner, at)
				}
				continue
			}
			winner = c
			g.take(&out, c.settings)
			if g.name == "protocol" {
				out.ProtocolOrigin = c.origin
			} else {
				out.Traffic.Origins = withOrigin(out.Traffic.Origins, c.origin)
			}
		}
	}
	return out
}

// losses are the field groups that policies lost, and where.
type losses map[loss][]report.Object

type loss struct {
	loser  report.Origin
	target string // the loser's
	group  string
	winner report.Object
	how    string // "older" or "more specific"
}

func (l losses) add(loser candidate, group string, winner candidate, at report.Object) {
	how := "older"
	if winner.level != loser.level {
		how = "more specific"
	}
	k := loss{loser.origin, loser.target, group, winner.origin.Object, how}
	l[k] = append(l[k], at)
}

// findings has one finding for each loser, its target, group and winner, however many Services are concerned.
func (l losses) findings() []report.Finding {
	const listed = 3
	var fs []report.Finding
	for k, at := range l {
		slices.SortFunc(at, report.Object.Compare)
		var names []string
		for _, o := range at[:min(listed, len(at))] {
			names = append(names, o.String())
		}
		where := strings.Join(names, ", ")
		if len(at) > listed {
			where += fmt.Sprintf(" and %d more", len(at)-listed)
		}
		fs = append(fs, object.Overridden(k.loser, k.winner, k.target, "spec."+k.group, "%s, which is %s, has the say at %s", k.winner, k.how, where))
	}
	return fs
}
