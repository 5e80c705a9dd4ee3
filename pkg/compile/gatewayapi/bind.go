package gatewayapi

import (
	"fmt"
	"slices"
	"strings"

	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/meshd-io/meshd/pkg/compile/object"
	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/report"
)

// maxWeight is the API's.
const maxWeight = 1_000_000

// kindService is the only kind of parent and of backend.
const kindService = "Service"

// parent is a parentRef that is a Service.
type parent struct {
	field   string
	service model.Name
	port    uint16 // 0 is any
	section string // the port's name; "" is any
}

// parentsOf are those that are Services. Others are left to those who know them.
func parentsOf(obj *gwv1.HTTPRoute) []parent {
	var out []parent
	for i, ref := range obj.Spec.ParentRefs {
		if !OfService(ref) {
			continue
		}
		out = append(out, parent{
			field:   fmt.Sprintf("spec.parentRefs[%d]", i),
			service: model.Name{Namespace: string(valueOr(ref.Namespace, gwv1.Namespace(obj.Namespace))), Name: string(ref.Name)},
			port:    uint16(valueOr(ref.Port, 0)),
			section: string(valueOr(ref.SectionName, "")),
		})
	}
	return out
}

// OfService reports whether a parent is a Service, and the route with it the mesh's.
func OfService(ref gwv1.ParentReference) bool {
	return ref.Group != nil && *ref.Group == "" && ref.Kind != nil && *ref.Kind == kindService
}

// reference names a backend.
type reference struct {
	field string
	kind  string // GROUP/KIND where it is no Service
	ref   model.BackendRef
}

func referenceOf(o report.Origin, field string, in gwv1.BackendObjectReference) reference {
	out := reference{field: field, ref: model.BackendRef{
		Service: model.Name{Namespace: string(valueOr(in.Namespace, gwv1.Namespace(o.Namespace))), Name: string(in.Name)},
		Port:    uint16(valueOr(in.Port, 0)),
	}}
	if group, kind := valueOr(in.Group, ""), valueOr(in.Kind, kindService); group != "" || kind != kindService {
		out.kind = strings.TrimPrefix(string(group)+"/"+string(kind), "/")
	}
	return out
}

// backend is a share of a rule.
type backend struct {
	reference
	weight  uint32
	headers model.HeaderChanges
	// broken: its filters cannot be carried out.
	broken bool
}

func (r *reader) backend(field string, in *gwv1.HTTPBackendRef) backend {
	out := backend{reference: referenceOf(r.origin, field, in.BackendObjectReference), weight: 1}
	if in.Weight != nil {
		out.weight = uint32(min(max(0, *in.Weight), maxWeight))
	}
	before := len(r.faults)
	for i := range in.Filters {
		r.headerFilter(fmt.Sprintf("%s.filters[%d]", field, i), &in.Filters[i], &out.headers)
	}
	out.broken = len(r.faults) > before
	return out
}

// Front is a Service as routes see it.
type Front struct {
	Headless bool
	Ports    []FrontPort // sorted by number
}

// FrontPort is a port of a Service.
type FrontPort struct {
	Name     string
	Port     uint16
	Protocol model.Protocol
	// Ready: it has an endpoint that is.
	Ready bool
}

// FrontOf a Service.
func FrontOf(s *model.Service) *Front {
	out := &Front{Headless: s.Headless}
	for _, p := range s.Ports {
		out.Ports = append(out.Ports, FrontPort{Name: p.Name, Port: p.Port, Protocol: p.Backend.Protocol, Ready: len(p.Backend.Endpoints) > 0})
	}
	return out
}

// Bound is a Route with the Services that it names.
type Bound struct {
	route       *Route
	attachments []attachment
	rules       []boundRule
}

// attachment is to some ports of a Service.
type attachment struct {
	to    model.RoutingKey
	ports []uint16 // sorted
}

// boundRule is a rule with its backends.
type boundRule struct {
	*rule
	backends []model.WeightedBackend
	mirrors  []model.Mirror
}

// Routings are those that the route is a part of, each once.
func (b *Bound) Routings() []model.RoutingKey {
	var out []model.RoutingKey
	for _, a := range b.attachments {
		if !slices.Contains(out, a.to) {
			out = append(out, a.to)
		}
	}
	return out
}

// Bind looks up what a route names; front is nil where there is no such Service.
// A route of which no rule is in force is attached to nothing.
func Bind(route *Route, front func(model.Name) *Front) (*Bound, []report.Finding) {
	b := &binder{route: route, front: front, out: &Bound{route: route}}
	for _, p := range route.parents {
		b.attach(p)
	}
	for i := range route.rules {
		b.rule(&route.rules[i])
	}
	if len(route.rules) == 0 {
		b.out.attachments = nil
	}
	return b.out, b.findings
}

type binder struct {
	route    *Route
	front    func(model.Name) *Front
	out      *Bound
	findings []report.Finding
}

func (b *binder) attach(p parent) {
	refuse := func(sub, format string, args ...any) {
		b.findings = append(b.findings, object.Refused(b.route.origin, report.NoMatchingParent, p.field+sub, format, args...))
	}
	s := b.front(p.service)
	switch {
	case s == nil:
		refuse(".name", "there is no Service %s that has an address", p.service)
		return
	case s.Headless:
		refuse(".name", "Service %s is headless: there is no address of it that a route could be for", p.service)
		return
	}
	named, out := 0, attachment{to: model.RoutingKey{Service: p.service}}
	if own := b.route.origin.Namespace; p.service.Namespace != own {
		out.to.Client = own // a consumer's, who has a say over their own clients
	}
	for _, port := range s.Ports {
		if (p.port != 0 && p.port != port.Port) || (p.section != "" && p.section != port.Name) {
			continue
		}
		named++
		if port.Protocol.MayBeHTTP() {
			out.ports = append(out.ports, port.Port)
		}
	}
	switch {
	case named == 0 && p.port != 0 && p.section != "":
		refuse("", "Service %s has no TCP port %d that is called %q", p.service, p.port, p.section)
	case named == 0 && p.port != 0:
		refuse(".port", "Service %s has no TCP port %d", p.service, p.port)
	case named == 0:
		refuse(".sectionName", "Service %s has no TCP port that is called %q", p.service, p.section)
	case len(out.ports) == 0:
		refuse("", "no port of Service %s that is meant speaks HTTP: say so by its appProtocol or its name", p.service)
	default:
		b.out.attachments = append(b.out.attachments, out)
	}
}

func (b *binder) rule(r *rule) {
	out := boundRule{rule: r}
	for _, in := range r.backends {
		one := model.WeightedBackend{Weight: in.weight, Headers: in.headers}
		if b.resolves(in.reference) && !in.broken {
			one.Ref = in.ref
		}
		out.backends = append(out.backends, one)
	}
	if !r.broken && r.filters.redirect == nil && !slices.ContainsFunc(r.backends, func(in backend) bool { return in.weight > 0 }) {
		b.findings = append(b.findings, object.Unresolved(b.route.origin, report.NoEndpoints, fmt.Sprintf("spec.rules[%d].backendRefs", r.index),
			"there is none with a weight: requests of the rule get %d", failure))
	}
	for _, m := range r.filters.mirrors {
		if b.resolves(m.reference) {
			out.mirrors = append(out.mirrors, model.Mirror{Ref: m.ref, Numerator: m.numerator, Denominator: m.denominator})
		}
	}
	b.out.rules = append(b.out.rules, out)
}

// resolves reports whether there is such a backend. Backends of any namespace
// may be named: a route of a Service exposes nothing that its clients could not
// reach without it (GEP-1294), and the backend's own policies hold.
func (b *binder) resolves(r reference) bool {
	refuse := func(reason report.Reason, sub, format string, args ...any) {
		b.findings = append(b.findings, object.Unresolved(b.route.origin, reason, r.field+sub, format, args...))
	}
	if r.kind != "" {
		refuse(report.InvalidKind, ".kind", "%s is no kind of backend: name a Service", r.kind)
		return false
	}
	s := b.front(r.ref.Service)
	if s == nil {
		refuse(report.BackendNotFound, ".name", "there is no Service %s that has endpoints", r.ref.Service)
		return false
	}
	i := slices.IndexFunc(s.Ports, func(p FrontPort) bool { return p.Port == r.ref.Port })
	switch {
	case i < 0:
		refuse(report.BackendNotFound, ".port", "Service %s has no TCP port %d", r.ref.Service, r.ref.Port)
		return false
	case !s.Ports[i].Protocol.MayBeHTTP():
		refuse(report.UnsupportedProtocol, ".port", "port %d of Service %s does not speak HTTP: if it does, say so by its appProtocol or its name", r.ref.Port, r.ref.Service)
		return false
	case !s.Ports[i].Ready:
		refuse(report.NoEndpoints, "", "Service %s has no ready endpoint: what is sent there gets 503", r.ref.Service)
	}
	return true
}
