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

// route is one or two Envoy routes: what may not be sent twice has its own
// where the retry policy makes a difference.
func (t *translation) route(r model.Route) []*routev3.Route {
	careful, bold := retryPolicies(r.Traffic)
	all := t.oneRoute(r, r.Name, bold)
	if careful == nil {
		return []*routev3.Route{all}
	}
	first := t.oneRoute(r, r.Name+"|once", careful)
	first.Match.Headers = append(first.Match.Headers, &routev3.HeaderMatcher{
		Name: ":method", HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: fully("POST|PATCH")},
	})
	return []*routev3.Route{first, all}
}

func (t *translation) oneRoute(r model.Route, name string, retry *routev3.RetryPolicy) *routev3.Route {
	action := &routev3.RouteAction{Timeout: seconds(r.Traffic.RequestTimeout), RetryPolicy: retry}
	t.target(action, r.Backends)
	return &routev3.Route{Name: name, Match: routeMatch(r.Match), Action: &routev3.Route_Route{Route: action}}
}

// target sends to the backends by weight. What does not exist is answered 503
// with a flag, so that nobody takes it for the application's answer.
func (t *translation) target(action *routev3.RouteAction, backends []model.WeightedBackend) {
	weighted := &routev3.WeightedCluster{}
	for _, b := range backends {
		if b.Weight == 0 {
			continue
		}
		cluster := BlockedCluster
		if t.backends[b.Ref] != nil {
			cluster = OutCluster(b.Ref)
		}
		weighted.Clusters = append(weighted.Clusters, &routev3.WeightedCluster_ClusterWeight{
			Name: cluster, Weight: number(b.Weight),
		})
	}
	switch len(weighted.Clusters) {
	case 0:
		action.ClusterSpecifier = &routev3.RouteAction_Cluster{Cluster: BlockedCluster}
	case 1:
		action.ClusterSpecifier = &routev3.RouteAction_Cluster{Cluster: weighted.Clusters[0].Name}
	default:
		action.ClusterSpecifier = &routev3.RouteAction_WeightedClusters{WeightedClusters: weighted}
	}
}

func routeMatch(m model.RouteMatch) *routev3.RouteMatch {
	switch {
	case m.PathMatch == model.PathExact:
		return exactPath(m.Path)
	case m.Path == "" || m.Path == "/":
		return &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}}
	}
	return &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_PathSeparatedPrefix{PathSeparatedPrefix: trimmed(m.Path)}}
}

// trimmed is a prefix as Envoy takes it: "/x/" and "/x" cover the same segments.
func trimmed(path string) string {
	for len(path) > 1 && path[len(path)-1] == '/' {
		path = path[:len(path)-1]
	}
	return path
}

// routeRefs are the backends that exist among those that routes send to, sorted.
func (t *translation) routeRefs(list []model.Route) []*model.Backend {
	var out []*model.Backend
	for _, r := range list {
		for _, b := range r.Backends {
			if found := t.backends[b.Ref]; found != nil && b.Weight > 0 && !slices.Contains(out, found) {
				out = append(out, found)
			}
		}
	}
	return out
}

// routeOrigins are the objects that routes were made from.
func routeOrigins(list []model.Route) []report.Origin {
	var out []report.Origin
	for _, r := range list {
		out = append(append(out, r.Origins...), r.Traffic.Origins...)
	}
	return joined(out)
}
