package server

import (
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/meshd-io/meshd/pkg/xds/envoy"
)

// Only what says nothing but "it has arrived" is taken without being decoded.
func TestAPlainAcknowledgement(t *testing.T) {
	const typ = string(envoy.ClusterType)
	for name, tt := range map[string]struct {
		request *discoveryv3.DeltaDiscoveryRequest
		more    []byte // behind it
		plain   bool
	}{
		"acknowledgement":     {request: &discoveryv3.DeltaDiscoveryRequest{TypeUrl: typ, ResponseNonce: "1"}, plain: true},
		"stale":               {request: &discoveryv3.DeltaDiscoveryRequest{TypeUrl: typ, ResponseNonce: "0"}},
		"without a nonce":     {request: &discoveryv3.DeltaDiscoveryRequest{TypeUrl: typ}},
		"another type":        {request: &discoveryv3.DeltaDiscoveryRequest{TypeUrl: string(envoy.ListenerType), ResponseNonce: "1"}},
		"a type nobody knows": {request: &discoveryv3.DeltaDiscoveryRequest{TypeUrl: typ + "s", ResponseNonce: "1"}},
		"empty":               {request: &discoveryv3.DeltaDiscoveryRequest{}},
		"refusal": {request: &discoveryv3.DeltaDiscoveryRequest{
			TypeUrl: typ, ResponseNonce: "1", ErrorDetail: &statuspb.Status{Message: "no"}}},
		"empty refusal": {request: &discoveryv3.DeltaDiscoveryRequest{TypeUrl: typ, ResponseNonce: "1", ErrorDetail: &statuspb.Status{}}},
		"with a subscription": {request: &discoveryv3.DeltaDiscoveryRequest{
			TypeUrl: typ, ResponseNonce: "1", ResourceNamesSubscribe: []string{"a"}}},
		"cut off":           {request: &discoveryv3.DeltaDiscoveryRequest{TypeUrl: typ, ResponseNonce: "1"}, more: []byte{0x3a, 5}},
		"half a tag":        {request: &discoveryv3.DeltaDiscoveryRequest{TypeUrl: typ, ResponseNonce: "1"}, more: []byte{0x80}},
		"with another type": {request: &discoveryv3.DeltaDiscoveryRequest{TypeUrl: typ, ResponseNonce: "1"}, more: []byte{0x12, 1, 'x'}},
	} {
		t.Run(name, func(t *testing.T) {
			c := newScript(t, false)
			c.run(`
				publish cluster a=1 endpoint a=1
				ask cluster
				want cluster a`)
			encoded, err := proto.Marshal(tt.request)
			if err != nil {
				t.Fatal(err)
			}
			if got := c.session.acknowledge(append(encoded, tt.more...)); got != tt.plain {
				t.Errorf("taken for one: %v", got)
			}
			if got := c.session.lanes[clusterLane].flight == nil; got != tt.plain {
				t.Errorf("acknowledged: %v", got)
			}
		})
	}
}
