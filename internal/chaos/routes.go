package chaos

import (
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/meshd-io/meshd/pkg/crds"
)

// newHTTPRoute is of one to three rules; some of what it says is wrong.
func (c *Mesh) newHTTPRoute(m metav1.ObjectMeta) *gwv1.HTTPRoute {
	out := &gwv1.HTTPRoute{ObjectMeta: m}
	for range 1 + c.r.IntN(2) {
		ref := gwv1.ParentReference{Group: new(gwv1.Group("")), Kind: new(gwv1.Kind("Service")), Name: gwv1.ObjectName(c.app())}
		switch {
		case c.chance(20):
			ref.Port = new(c.port())
		case c.chance(10):
			ref.SectionName = new(gwv1.SectionName("http"))
		case c.chance(40):
			ref.Namespace = new(gwv1.Namespace(c.namespace()))
		case c.chance(10):
			ref.Group, ref.Kind = nil, nil
		}
		out.Spec.ParentRefs = append(out.Spec.ParentRefs, ref)
	}
	for range 1 + c.r.IntN(3) {
		out.Spec.Rules = append(out.Spec.Rules, c.routeRule())
	}
	if c.chance(70) {
		out.Spec.Rules[0].Name = new(gwv1.SectionName("first"))
	}
	if c.chance(10) {
		out.Spec.Hostnames = []gwv1.Hostname{"x.example"}
	}
	return out
}

func (c *Mesh) routeRule() gwv1.HTTPRouteRule {
	var out gwv1.HTTPRouteRule
	for range c.r.IntN(3) {
		match := gwv1.HTTPRouteMatch{Path: &gwv1.HTTPPathMatch{
			Type:  new(gwv1.PathMatchType(c.pick("PathPrefix", "PathPrefix", "Exact", "RegularExpression", "Fuzzy"))),
			Value: new(c.pick("/", "/x", "/x/y", "/[")),
		}}
		if c.chance(40) {
			match.Headers = []gwv1.HTTPHeaderMatch{{Name: "version", Value: c.app()}}
		}
		if c.chance(20) {
			match.Method = new(gwv1.HTTPMethod(c.pick("GET", "POST")))
		}
		out.Matches = append(out.Matches, match)
	}
	for range c.r.IntN(3) {
		ref := gwv1.HTTPBackendRef{}
		ref.Name, ref.Port, ref.Weight = gwv1.ObjectName(c.app()), new(c.port()), new(int32(c.r.IntN(3)))
		if c.chance(20) {
			ref.Namespace = new(gwv1.Namespace(c.namespace()))
		}
		out.BackendRefs = append(out.BackendRefs, ref)
	}
	if c.chance(20) {
		out.Timeouts = &gwv1.HTTPRouteTimeouts{Request: new(gwv1.Duration(c.pick("1s", "0s", "soon")))}
	}
	if c.chance(30) {
		out.Filters = []gwv1.HTTPRouteFilter{c.routeFilter()}
	}
	return out
}

func (c *Mesh) routeFilter() gwv1.HTTPRouteFilter {
	switch c.r.IntN(4) {
	case 0:
		return gwv1.HTTPRouteFilter{Type: gwv1.HTTPRouteFilterRequestHeaderModifier, RequestHeaderModifier: &gwv1.HTTPHeaderFilter{
			Set: []gwv1.HTTPHeader{{Name: gwv1.HTTPHeaderName(c.pick("x", "host")), Value: c.app()}},
		}}
	case 1:
		return gwv1.HTTPRouteFilter{Type: gwv1.HTTPRouteFilterRequestRedirect, RequestRedirect: &gwv1.HTTPRequestRedirectFilter{
			Hostname: new(gwv1.PreciseHostname("x.example")),
		}}
	case 2:
		return gwv1.HTTPRouteFilter{Type: gwv1.HTTPRouteFilterRequestMirror, RequestMirror: &gwv1.HTTPRequestMirrorFilter{
			BackendRef: gwv1.BackendObjectReference{Name: gwv1.ObjectName(c.app()), Port: new(c.port())},
		}}
	}
	return gwv1.HTTPRouteFilter{Type: gwv1.HTTPRouteFilterCORS}
}

// AddRoutes adds n HTTPRoutes to a Big mesh, dealt out to its Services in turn: each sends
// a path of its own to the Service and to the next one, by weight.
func AddRoutes(s *crds.Snapshot, n int) {
	for i := range n {
		own, next := s.Services[i%len(s.Services)].Name, s.Services[(i+1)%len(s.Services)].Name
		route := &gwv1.HTTPRoute{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("route-%05d", i), Namespace: "shop"}}
		route.Spec.ParentRefs = []gwv1.ParentReference{{Group: new(gwv1.Group("")), Kind: new(gwv1.Kind("Service")), Name: gwv1.ObjectName(own)}}
		rule := gwv1.HTTPRouteRule{Matches: []gwv1.HTTPRouteMatch{{
			Path:    &gwv1.HTTPPathMatch{Type: new(gwv1.PathMatchPathPrefix), Value: new(fmt.Sprintf("/%d", i))},
			Headers: []gwv1.HTTPHeaderMatch{{Name: "version", Value: "v2"}},
		}}}
		for j, name := range []string{own, next} {
			ref := gwv1.HTTPBackendRef{}
			ref.Name, ref.Port, ref.Weight = gwv1.ObjectName(name), new(gwv1.PortNumber(80)), new(int32(j+1))
			rule.BackendRefs = append(rule.BackendRefs, ref)
		}
		route.Spec.Rules = []gwv1.HTTPRouteRule{rule}
		s.HTTPRoutes = append(s.HTTPRoutes, route)
	}
}

// ChangeRoute shifts the weights of one route of a mesh that AddRoutes was called for.
func ChangeRoute(s *crds.Snapshot, i int) {
	s.HTTPRoutes = slices.Clone(s.HTTPRoutes)
	s.HTTPRoutes[i] = s.HTTPRoutes[i].DeepCopy()
	route := s.HTTPRoutes[i]
	route.Generation++
	route.Spec.Rules[0].BackendRefs[0].Weight = new(int32(route.Generation%100 + 1))
}
