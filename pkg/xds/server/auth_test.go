package server

import (
	"slices"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"

	"github.com/meshd-io/meshd/pkg/authn"
	"github.com/meshd-io/meshd/pkg/xds/envoy"
	"github.com/meshd-io/meshd/pkg/xds/scope"
)

func TestWhoIsRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		node *corev3.Node
		peer bool
		want codes.Code
	}{
		"no certificate":        {&corev3.Node{Id: "sidecar~shop/accounts-1", Cluster: "shop/accounts"}, false, codes.Unauthenticated},
		"no node":               {nil, true, codes.InvalidArgument},
		"no kind":               {&corev3.Node{Id: "shop/accounts-1", Cluster: "shop/accounts"}, true, codes.InvalidArgument},
		"no pod":                {&corev3.Node{Id: "sidecar~shop/", Cluster: "shop/accounts"}, true, codes.InvalidArgument},
		"a long id":             {&corev3.Node{Id: "sidecar~shop/" + strings.Repeat("a", 600), Cluster: "shop/accounts"}, true, codes.InvalidArgument},
		"another namespace":     {&corev3.Node{Id: "sidecar~bank/accounts-1", Cluster: "shop/accounts"}, true, codes.PermissionDenied},
		"another account":       {&corev3.Node{Id: "sidecar~shop/accounts-1", Cluster: "shop/loans"}, true, codes.PermissionDenied},
		"an unknown pod":        {&corev3.Node{Id: "sidecar~shop/accounts-2", Cluster: "shop/accounts"}, true, codes.Unavailable},
		"a pod of other rights": {&corev3.Node{Id: "sidecar~shop/loans-1", Cluster: "shop/accounts"}, true, codes.PermissionDenied},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, Limits{})
			f.keys["sidecar~shop/loans-1"] = scope.Key{Namespace: "shop", ServiceAccount: "loans"}
			if !tt.peer {
				f.peer = nil
			}
			f.cache.Publish(accountsKey(), shop())
			for _, c := range []*client{f.ads(t), f.gate(t)} {
				c.node = tt.node
				c.ask(envoy.ClusterType, "dst|10.96.0.1:80")
				c.refusedWith(tt.want)
			}
			if f.mu.Lock(); tt.peer && len(f.refused) != 2 {
				t.Errorf("audited: %v", f.refused)
			}
			f.mu.Unlock()
		})
	}
}

// The identity is the certificate's, whatever the node says.
func TestZeroIdentityIsNobody(t *testing.T) {
	f := newFixture(t, Limits{})
	f.peer = &authn.Peer{}
	c := f.ads(t)
	c.ask(envoy.ClusterType)
	c.refusedWith(codes.Unauthenticated)
}

func TestStateOfTheWorldIsNotServed(t *testing.T) {
	f := newFixture(t, Limits{})
	s, err := discoveryv3.NewAggregatedDiscoveryServiceClient(f.conn).StreamAggregatedResources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Recv()
	if got := codeOf(err); got != codes.Unimplemented {
		t.Errorf("answered %s", got)
	}
}

func TestLimits(t *testing.T) {
	for name, tt := range map[string]struct {
		request *discoveryv3.DeltaDiscoveryRequest
		want    codes.Code
	}{
		"a long name": {&discoveryv3.DeltaDiscoveryRequest{TypeUrl: string(envoy.EndpointType),
			ResourceNamesSubscribe: []string{strings.Repeat("a", 600)}}, codes.InvalidArgument},
		"many names": {&discoveryv3.DeltaDiscoveryRequest{TypeUrl: string(envoy.EndpointType),
			ResourceNamesSubscribe: []string{"a", "b", "c", "d"}}, codes.ResourceExhausted},
		"a large request": {&discoveryv3.DeltaDiscoveryRequest{TypeUrl: string(envoy.EndpointType),
			ResourceNamesSubscribe: slices.Repeat([]string{strings.Repeat("a", 500)}, 10000)}, codes.ResourceExhausted},
		"an unknown type": {&discoveryv3.DeltaDiscoveryRequest{TypeUrl: "type.googleapis.com/envoy.service.runtime.v3.Runtime"}, codes.InvalidArgument},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, Limits{Names: 3})
			c := f.ads(t)
			c.send(tt.request)
			c.refusedWith(tt.want)
		})
	}
}
