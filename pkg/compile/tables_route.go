package compile

import (
	"github.com/meshd-io/meshd/pkg/compile/gatewayapi"
	"github.com/meshd-io/meshd/pkg/memo"
	"github.com/meshd-io/meshd/pkg/model"
)

// routeTables are the routes that are attached to Services.
type routeTables struct {
	bound   *memo.Table[model.Name, *gatewayapi.Bound]
	routing *memo.Table[model.Name, *model.Routing]
}

// routes are bound to the Services that they name, and put in order for each Service.
func (t *tables) routes() {
	read := inForceTable(t.graph, t.routeObjects)
	// What a route sees of a Service seldom changes; endpoints come and go.
	front := memo.NewTable(t.graph, func(r *memo.Run, name model.Name) (*gatewayapi.Front, bool) {
		s, ok := t.service.Get(r, name)
		if !ok {
			return nil, false
		}
		return gatewayapi.FrontOf(s), true
	})
	t.bound = memo.NewTable(t.graph, func(r *memo.Run, name model.Name) (*gatewayapi.Bound, bool) {
		route, ok := read.Get(r, name)
		if !ok {
			return nil, false
		}
		bound, findings := gatewayapi.Bind(route, func(service model.Name) *gatewayapi.Front {
			f, _ := front.Get(r, service)
			return f
		})
		r.Tell(findings...)
		return bound, true
	})
	memo.Follow(t.bound, read)

	boundTo := memo.NewIndex(t.bound, model.Name.Compare, func(name model.Name, b *gatewayapi.Bound, emit memo.Emit[model.Name, model.Name, *gatewayapi.Bound]) {
		for _, service := range b.Services() {
			emit(service, name, b)
		}
	})
	t.routing = memo.NewTable(t.graph, func(r *memo.Run, service model.Name) (*model.Routing, bool) {
		var bound []*gatewayapi.Bound
		for _, m := range boundTo.Get(r, service) {
			bound = append(bound, m.Value)
		}
		if len(bound) == 0 {
			return nil, false
		}
		traffic, _ := t.serviceTraffic.Get(r, service)
		return gatewayapi.Compile(service, bound, traffic.Carriage.Traffic), true
	})
	memo.FollowGroups(t.routing, boundTo)
}
