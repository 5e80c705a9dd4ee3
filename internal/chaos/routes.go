package chaos

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// newHTTPRoute is of one to three rules; some of what it says is wrong.
func (c *Mesh) newHTTPRoute(m metav1.ObjectMeta) *gwv1.HTTPRoute {
	out := &gwv1.HTTPRoute{ObjectMeta: m}
	for range 1 + c.r.IntN(2) {
		ref := gwv1.ParentReference{Group: new(gwv1.Group("")), Kind: new(gwv1.Kind("Service")), Name: gwv1.ObjectName(c.app())}
		switch {
		case c.chance(20):
			ref.Port = new(gwv1.PortNumber(c.port()))
		case c.chance(10):
			ref.SectionName = new(gwv1.SectionName("http"))
		case c.chance(10):
			ref.Namespace = new(gwv1.Namespace(c.namespace()))
		case c.chance(10):
			ref.Group, ref.Kind = nil, nil
		}
		out.Spec.ParentRefs = append(out.Spec.ParentRefs, ref)
	}
	for range 1 + c.r.IntN(3) {
		out.Spec.Rules = append(out.Spec.Rules, c.routeRule())
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
		ref.Name, ref.Port, ref.Weight = gwv1.ObjectName(c.app()), new(gwv1.PortNumber(c.port())), new(int32(c.r.IntN(3)))
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
			BackendRef: gwv1.BackendObjectReference{Name: gwv1.ObjectName(c.app()), Port: new(gwv1.PortNumber(c.port()))},
		}}
	}
	return gwv1.HTTPRouteFilter{Type: gwv1.HTTPRouteFilterCORS}
}
