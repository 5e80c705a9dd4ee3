package server

import (
	"context"
	"fmt"
	"sync"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	clusterservicev3 "github.com/envoyproxy/go-control-plane/envoy/service/cluster/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"

	"github.com/meshd-io/meshd/pkg/xds/acks"
	"github.com/meshd-io/meshd/pkg/xds/envoy"
)

type bidi = grpc.BidiStreamingClient[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse]

// acknowledgeAll answers everything on a stream until it ends, and asks for the endpoints of clusters.
func acknowledgeAll(s bidi, ads bool) {
	for {
		r, err := s.Recv()
		if err != nil {
			return
		}
		if s.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: r.GetTypeUrl(), ResponseNonce: r.GetNonce()}) != nil {
			return
		}
		if !ads || r.GetTypeUrl() != string(envoy.ClusterType) {
			continue
		}
		ask := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: string(envoy.EndpointType), ResourceNamesUnsubscribe: r.GetRemovedResources()}
		for _, c := range r.GetResources() {
			ask.ResourceNamesSubscribe = append(ask.ResourceNamesSubscribe, c.GetName())
		}
		if s.Send(ask) != nil {
			return
		}
	}
}

// Many proxies, while everything changes under them: keys, configuration,
// demand and the streams themselves. In the end all of them hold everything.
func TestEverythingAtOnce(t *testing.T) {
	const proxies, rounds = 12, 40
	f := newFixture(t, Limits{})
	f.asked = make(chan ask, 100000)
	keys := [2]string{"app=one", "app=two"}
	nodeID := func(i int) string { return fmt.Sprintf("sidecar~shop/accounts-%d", i) }
	assign := func(i, round int) {
		k := accountsKey()
		k.Labels = keys[(i+round)%2]
		f.mu.Lock()
		f.keys[nodeID(i)] = k
		f.mu.Unlock()
	}
	publish := func(round int) {
		for _, labels := range keys {
			k := accountsKey()
			k.Labels = labels
			rs := shop()
			rs[envoy.ClusterType][round%2] = clusterOf(rs[envoy.ClusterType][round%2].Name, round%5)
			rs[envoy.EndpointType][0] = endpointsOf("out|shop/a|80", uint32(round%7+1))
			rs[envoy.OnDemandType] = []envoy.Resource{gateOf("dst|10.96.0.1:80", envoy.Ref{Type: envoy.ClusterType, Name: "out|shop/a|80"})}
			f.cache.Publish(k, rs)
		}
	}
	for i := range proxies {
		assign(i, 0)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var streams sync.WaitGroup
	open := func(i int) {
		node := &corev3.Node{Id: nodeID(i), Cluster: "shop/accounts"}
		conn := f.dial(t)
		s, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
		if err != nil {
			t.Error(err)
			return
		}
		_ = s.Send(&discoveryv3.DeltaDiscoveryRequest{Node: node, TypeUrl: string(envoy.ClusterType)})
		_ = s.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: string(envoy.ListenerType)})
		streams.Go(func() { acknowledgeAll(s, true) })
		g, err := clusterservicev3.NewClusterDiscoveryServiceClient(conn).DeltaClusters(ctx)
		if err != nil {
			t.Error(err)
			return
		}
		_ = g.Send(&discoveryv3.DeltaDiscoveryRequest{Node: node, TypeUrl: string(envoy.ClusterType), ResourceNamesSubscribe: []string{"dst|10.96.0.1:80"}})
		streams.Go(func() { acknowledgeAll(g, false) })
	}
	var changes sync.WaitGroup
	changes.Go(func() {
		for round := range rounds {
			publish(round)
		}
	})
	changes.Go(func() {
		for round := range rounds {
			assign(round%proxies, round)
			f.Rekey()
		}
	})
	changes.Go(func() {
		for i := range proxies {
			open(i)
		}
	})
	changes.Wait()
	f.Rekey()
	f.until(t, func(ps []acks.ProxyState) bool {
		n := 0
		for _, p := range ps {
			if p.Synced && p.Destinations == 1 && len(p.Types) == 4 {
				n++
			}
		}
		return n == proxies
	})
	cancel()
	streams.Wait()
}
