package server

import (
	"slices"
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/meshd-io/meshd/pkg/xds/acks"
	"github.com/meshd-io/meshd/pkg/xds/envoy"
)

// What a proxy was given without asking for it is known by its scopes: nothing
// is removed before it has told them, though all it has asked for is there.
func TestNoRemovalBeforeTheScopes(t *testing.T) {
	f := newFixture(t, Limits{})
	rs := shop()
	rs[envoy.OnDemandType] = []envoy.Resource{gateOf("dst|10.96.0.1:80", envoy.Ref{Type: envoy.ClusterType, Name: "out|shop/a|80"})}
	f.cache.Publish(accountsKey(), rs)
	g := f.gate(t)
	g.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: string(envoy.ClusterType),
		ResourceNamesSubscribe:  []string{"dst|10.96.0.1:80"},
		InitialResourceVersions: map[string]string{"dst|10.96.0.1:80": f.cache.Snapshot(accountsKey()).Set(envoy.OnDemandType).Items()[0].Version}})
	<-f.asked
	c := f.ads(t)
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: string(envoy.ClusterType),
		InitialResourceVersions: map[string]string{"out|shop/a|80": "old", "out|shop/used|80": "1"}})
	c.expect(envoy.ClusterType, "out|shop/a|80", "out|shop/b|80")
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: string(envoy.ScopedRouteType), InitialResourceVersions: map[string]string{"10.96.0.9:80": "1"}})
	<-f.asked
	rs[envoy.ClusterType] = append(rs[envoy.ClusterType], clusterOf("out|shop/used|80", 1))
	rs[envoy.EndpointType] = append(rs[envoy.EndpointType], endpointsOf("out|shop/used|80", 1))
	f.cache.Publish(accountsKey(), rs)
	c.expect(envoy.ClusterType, "out|shop/used|80")
}

// An on-demand cluster's own assignment is sent once, whether Envoy first says
// that it has the cluster or first asks for the assignment.
func TestOwnAssignmentComesOnce(t *testing.T) {
	const own = "dst|10.96.0.1:80"
	for name, acknowledgedFirst := range map[string]bool{"acknowledged first": true, "asked first": false} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, Limits{})
			f.cache.Publish(accountsKey(), shop())
			c, g := f.start(t), f.gate(t)
			g.ask(envoy.ClusterType, own)
			<-f.asked
			rs := shop()
			rs[envoy.OnDemandType] = []envoy.Resource{clusterOf(own, 1)}
			rs[envoy.EndpointType] = append(rs[envoy.EndpointType], endpointsOf(own, 1))
			f.cache.Publish(accountsKey(), rs)
			r, err := g.stream.Recv()
			if err != nil {
				t.Fatal(err)
			}
			acknowledge := func() {
				g.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: r.GetTypeUrl(), ResponseNonce: r.GetNonce()})
				f.until(t, func(ps []acks.ProxyState) bool {
					return slices.ContainsFunc(ps[0].Types, func(t acks.TypeState) bool { return t.Type == envoy.OnDemandType })
				})
			}
			if acknowledgedFirst {
				acknowledge()
			}
			c.ask(envoy.EndpointType, own)
			c.expect(envoy.EndpointType, own)
			if !acknowledgedFirst {
				acknowledge()
			}
			rs = shop()
			rs[envoy.OnDemandType] = []envoy.Resource{clusterOf(own, 1)}
			rs[envoy.EndpointType] = append(rs[envoy.EndpointType], endpointsOf(own, 1))
			rs[envoy.EndpointType][0] = endpointsOf("out|shop/a|80", 2)
			f.cache.Publish(accountsKey(), rs)
			c.expect(envoy.EndpointType, "out|shop/a|80")
		})
	}
}
