package main

import (
	"testing"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/meshd-io/meshd/pkg/xds/envoy"
)

// TestStepsAreShared by proxies that hold the same, whatever their streams have counted.
func TestStepsAreShared(t *testing.T) {
	h := newHolder("shop", nil, 0)
	start := &held{}
	response := func(nonce, version string) []byte {
		assignment, err := anypb.New(&endpointv3.ClusterLoadAssignment{ClusterName: "a"})
		if err != nil {
			t.Fatal(err)
		}
		raw, err := proto.Marshal(&discoveryv3.DeltaDiscoveryResponse{
			TypeUrl: string(envoy.EndpointType), Nonce: nonce,
			Resources: []*discoveryv3.Resource{{Name: "a", Version: version, Resource: assignment}}})
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	take := func(nonce, version string) *held {
		s, answer, err := h.take(start, false, response(nonce, version))
		if err != nil {
			t.Fatal(err)
		}
		var r discoveryv3.DeltaDiscoveryRequest
		if err := proto.Unmarshal(answer[5:], &r); err != nil {
			t.Fatal(err)
		}
		if r.GetResponseNonce() != nonce || r.GetTypeUrl() != string(envoy.EndpointType) {
			t.Errorf("response %s is answered by %v", nonce, &r)
		}
		return s.next
	}
	first := take("1", "one")
	if take("2", "one") != first {
		t.Error("the same response leads to two states")
	}
	if take("3", "two") == first {
		t.Error("two responses lead to one state")
	}
	if len(h.steps) != 2 {
		t.Errorf("%d steps were computed for two responses", len(h.steps))
	}
}
