package publish

import (
	"net/netip"
	"testing"
	"time"

	"github.com/meshd-io/meshd/pkg/memo"
	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/xds/cache"
	"github.com/meshd-io/meshd/pkg/xds/envoy"
	"github.com/meshd-io/meshd/pkg/xds/scope"
)

// TestEndpointsAloneAreTranslatedAlone: clusters, routes and scopes of a
// destination are not even encoded again when its endpoints come and go.
func TestEndpointsAloneAreTranslatedAlone(t *testing.T) {
	p := New(cache.New())
	in := memo.NewInput[part, *scope.Destination](p.graph)
	destination := func(r *memo.Run, of part) *scope.Destination { return read(r, in.Table, of) }
	frames := p.frames(destination)
	parts := memo.NewTable(p.graph, func(r *memo.Run, of part) (*cache.Translation, bool) {
		return p.filled(read(r, frames, of), destination(r, of)), true
	})
	memo.Follow(parts, in.Table)
	var made cache.Translation
	parts.Watch(func(_ part, _ *cache.Translation, _ bool, now *cache.Translation, _ bool) { made = *now })

	of := part{address: netip.MustParseAddrPort("10.96.0.1:80")}
	put := func(timeout time.Duration, endpoint string) cache.Translation {
		ref := model.BackendRef{Service: model.Name{Namespace: "shop", Name: "web"}, Port: 80}
		b := &model.Backend{
			Ref: ref, Protocol: model.HTTP, Endpoints: []model.Endpoint{{Address: netip.MustParseAddrPort(endpoint)}},
			Traffic: model.Traffic{RequestTimeout: timeout},
		}
		in.Set(of, &scope.Destination{
			Address: of.address, Kind: scope.HTTPDestination, Backend: ref, Backends: []*model.Backend{b},
			Routes: []model.Route{{Name: "default", Backends: []model.WeightedBackend{{Ref: ref, Weight: 1}}, Traffic: b.Traffic}},
		})
		p.graph.Update()
		return made
	}
	same := func(a, b cache.Translation, typ envoy.Type) bool { return len(a[typ]) == 1 && a[typ][0] == b[typ][0] }
	first, second := put(1, "10.244.0.1:80"), put(1, "10.244.0.2:80")
	for _, typ := range []envoy.Type{envoy.ClusterType, envoy.ScopedRouteType, envoy.OnDemandType} {
		if !same(first, second, typ) {
			t.Errorf("%s is another for another endpoint", typ)
		}
	}
	if same(first, second, envoy.EndpointType) || first[envoy.EndpointType][0].Version == second[envoy.EndpointType][0].Version {
		t.Error("the endpoints are the same")
	}
	if third := put(2, "10.244.0.2:80"); same(second, third, envoy.ScopedRouteType) || third[envoy.EndpointType][0].Version != second[envoy.EndpointType][0].Version {
		t.Error("another timeout changes the scope and no endpoint")
	}
}
