package compile

import (
	"github.com/meshd-io/meshd/pkg/compile/gatewayapi"
	"github.com/meshd-io/meshd/pkg/memo"
	"github.com/meshd-io/meshd/pkg/model"
)

// routeTables are the routes that are attached to Services.
type routeTables struct {
	bound   *memo.Table[model.Name, *gatewayapi.Bound]
	routing *memo.Table[model.RoutingKey, *model.Routing]
	// consumed by namespace of the clients.
	consumed *memo.Table[string, *model.Consumed]
}

// routes are bound to the Services that they name, and put in order for each Service.
func (t *tables) routes() {
	// What a route sees of a Service seldom changes; endpoints come and go.
	front := memo.NewTable(t.graph, func(r *memo.Run, name model.Name) (*gatewayapi.Front, bool) {
		s, ok := t.service.Get(r, name)
		if !ok {
			return nil, false
		}
		return gatewayapi.FrontOf(s), true
	})
	t.bound = memo.NewTable(t.graph, func(r *memo.Run, name model.Name) (*gatewayapi.Bound, bool) {
		route, ok := t.routeObjects.Get(r, name)
		if !ok {
			return nil, false
		}
		r.Tell(route.findings...)
		bound, findings := gatewayapi.Bind(route.value, func(service model.Name) *gatewayapi.Front {
			f, _ := front.Get(r, service)
			return f
		})
		r.Tell(findings...)
		return bound, true
	})
	memo.Follow(t.bound, t.routeObjects.Table)

	boundTo := memo.NewIndex(t.bound, model.Name.Compare, func(name model.Name, b *gatewayapi.Bound, emit memo.Emit[model.RoutingKey, model.Name, *gatewayapi.Bound]) {
		for _, key := range b.Routings() {
			emit(key, name, b)
		}
	})
	t.routing = memo.NewTable(t.graph, func(r *memo.Run, key model.RoutingKey) (*model.Routing, bool) {
		var bound []*gatewayapi.Bound
		for _, m := range boundTo.Get(r, key) {
			bound = append(bound, m.Value)
		}
		if len(bound) == 0 {
			return nil, false
		}
		traffic, _ := t.serviceTraffic.Get(r, key.Service)
		return gatewayapi.Compile(key, bound, func(route model.Name, rule string) model.Traffic {
			if own, ok := t.routeTraffic.Get(r, route); ok {
				return own.Over(*traffic.Traffic, rule)
			}
			return *traffic.Traffic
		}), true
	})
	memo.FollowGroups(t.routing, boundTo)

	consumedBy := memo.NewIndex(t.routing, model.Name.Compare, func(key model.RoutingKey, _ *model.Routing, emit memo.Emit[string, model.Name, struct{}]) {
		if key.Client != "" {
			emit(key.Client, key.Service, struct{}{})
		}
	})
	t.consumed = memo.NewTable(t.graph, func(r *memo.Run, namespace string) (*model.Consumed, bool) {
		out := &model.Consumed{}
		for _, m := range consumedBy.Get(r, namespace) {
			out.Services = append(out.Services, m.Key)
		}
		return out, len(out.Services) > 0
	})
	memo.FollowGroups(t.consumed, consumedBy)
}
