package envoy

import (
	"slices"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/report"
	"github.com/meshd-io/meshd/pkg/xds/scope"
)

// scopedRoutes are the routes of one destination, found by its address.
func (t *translation) scopedRoutes(d *scope.Destination) *routev3.ScopedRouteConfiguration {
	name := Scope(d.Address)
	return &routev3.ScopedRouteConfiguration{
		Name: name,
		Key: &routev3.ScopedRouteConfiguration_Key{Fragments: []*routev3.ScopedRouteConfiguration_Key_Fragment{{
			Type: &routev3.ScopedRouteConfiguration_Key_Fragment_StringKey{StringKey: name},
		}}},
		RouteConfiguration: &routev3.RouteConfiguration{
			Name:                   name,
			RequestHeadersToRemove: []string{destinationHeader},
			VirtualHosts:           []*routev3.VirtualHost{{Name: name, Domains: []string{"*"}, Routes: t.routes(d.Routes)}},
		},
	}
}

// routes are tried in order.
func (t *translation) routes(list []model.Route) []*routev3.Route {
	var out []*routev3.Route
	for _, r := range list {
		out = append(out, t.route(r)...)
	}
	return out
}

// route is one Envoy route, and before it one for the share that leads nowhere,
// and one for what may not be sent twice where the retry policy makes a difference.
func (t *translation) route(r model.Route) []*routev3.Route {
	share, whole := t.nowhere(r)
	switch {
	case r.Redirect != nil:
		return []*routev3.Route{redirected(r)}
	case whole && r.Nowhere != 0:
		return []*routev3.Route{refused(r, r.Name)}
	}
	var out []*routev3.Route
	if share > 0 && r.Nowhere != 0 {
		part := refused(r, r.Name+"|nowhere")
		part.Match.RuntimeFraction = fraction(share)
		out = append(out, part)
	}
	careful, bold := retryPolicies(r.Traffic)
	if careful != nil {
		once := t.oneRoute(r, r.Name+"|once", careful)
		once.Match.Headers = append(once.Match.Headers, &routev3.HeaderMatcher{
			Name: ":method", HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: fully("POST|PATCH")},
		})
		out = append(out, once)
	}
	return append(out, t.oneRoute(r, r.Name, bold))
}

func (t *translation) oneRoute(r model.Route, name string, retry *routev3.RetryPolicy) *routev3.Route {
	action := &routev3.RouteAction{Timeout: seconds(r.Traffic.RequestTimeout), RetryPolicy: retry}
	t.target(action, r)
	rewrite(action, r)
	t.mirror(action, r.Mirrors)
	out := &routev3.Route{Name: name, Match: routeMatch(r.Match), Action: &routev3.Route_Route{Route: action}}
	out.RequestHeadersToAdd, out.RequestHeadersToRemove = headersOf(r.Headers.Request)
	out.ResponseHeadersToAdd, out.ResponseHeadersToRemove = headersOf(r.Headers.Response)
	return out
}

// nowhere is the share of requests, in millionths, that belong to no backend
// that exists; whole is all of them.
func (t *translation) nowhere(r model.Route) (share uint64, whole bool) {
	var all, lost uint64
	for _, b := range r.Backends {
		all += uint64(b.Weight)
		if t.backends[b.Ref] == nil {
			lost += uint64(b.Weight)
		}
	}
	if all == lost {
		return million, true
	}
	return (lost*million + all/2) / all, false
}

// target sends to the backends by weight. What does not exist is answered 503
// with a flag, so that nobody takes it for the application's answer, unless
// the route has another answer for it.
func (t *translation) target(action *routev3.RouteAction, r model.Route) {
	weighted := &routev3.WeightedCluster{}
	plain := true
	for _, b := range r.Backends {
		cluster := BlockedCluster
		switch {
		case b.Weight == 0:
			continue
		case t.backends[b.Ref] != nil:
			cluster = OutCluster(b.Ref)
		case r.Nowhere != 0:
			continue
		}
		one := &routev3.WeightedCluster_ClusterWeight{Name: cluster, Weight: number(b.Weight)}
		one.RequestHeadersToAdd, one.RequestHeadersToRemove = headersOf(b.Headers.Request)
		one.ResponseHeadersToAdd, one.ResponseHeadersToRemove = headersOf(b.Headers.Response)
		weighted.Clusters = append(weighted.Clusters, one)
		plain = plain && b.Headers.Empty()
	}
	switch {
	case len(weighted.Clusters) == 0:
		action.ClusterSpecifier = &routev3.RouteAction_Cluster{Cluster: BlockedCluster}
	case len(weighted.Clusters) == 1 && plain:
		action.ClusterSpecifier = &routev3.RouteAction_Cluster{Cluster: weighted.Clusters[0].Name}
	default:
		action.ClusterSpecifier = &routev3.RouteAction_WeightedClusters{WeightedClusters: weighted}
	}
}

// targets are the backends that exist among those that routes send requests to, and
// those that they send copies to.
func (t *translation) targets(list []model.Route) (requests, copies []*model.Backend) {
	add := func(to []*model.Backend, ref model.BackendRef, share uint32) []*model.Backend {
		if found := t.backends[ref]; found != nil && share > 0 && !slices.Contains(to, found) {
			to = append(to, found)
		}
		return to
	}
	for _, r := range list {
		for _, b := range r.Backends {
			requests = add(requests, b.Ref, b.Weight)
		}
		for _, m := range r.Mirrors {
			copies = add(copies, m.Ref, m.Numerator)
		}
	}
	return requests, copies
}

// routeOrigins are the objects that routes were made from.
func routeOrigins(list []model.Route) []report.Origin {
	var out []report.Origin
	for _, r := range list {
		out = append(append(out, r.Origins...), r.Traffic.Origins...)
	}
	return joined(out)
}
