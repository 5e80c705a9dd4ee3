package server

import (
	"maps"
	"slices"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/meshd-io/meshd/pkg/xds/envoy"
)

// says is one of everything.
func says() *discoveryv3.DeltaDiscoveryRequest {
	return &discoveryv3.DeltaDiscoveryRequest{
		Node:    &corev3.Node{Id: "sidecar~shop/a", Cluster: "shop/a"},
		TypeUrl: string(envoy.ClusterType), ResponseNonce: "7",
		ResourceNamesSubscribe: []string{"b", "a", "ä"}, ResourceNamesUnsubscribe: []string{"c"},
		InitialResourceVersions:   map[string]string{"b": "2", "a": "1", "": "", "c": ""},
		ErrorDetail:               &statuspb.Status{Code: 13, Message: "no"},
		ResourceLocatorsSubscribe: []*discoveryv3.ResourceLocator{{Name: "of a field that meshd does not know"}},
	}
}

func TestDecode(t *testing.T) {
	for name, said := range map[string]*discoveryv3.DeltaDiscoveryRequest{
		"everything":      says(),
		"nothing":         {},
		"acknowledgement": {TypeUrl: string(envoy.ClusterType), ResponseNonce: "7"},
		"an empty node":   {Node: &corev3.Node{}},
		"an empty status": {ErrorDetail: &statuspb.Status{}},
	} {
		t.Run(name, func(t *testing.T) {
			same(t, marshal(t, said))
		})
	}
}

// Every proxy answers every change: its acknowledgement leaves nothing to the collector.
func TestAcknowledgementIsNotCopied(t *testing.T) {
	message, limits := marshal(t, &discoveryv3.DeltaDiscoveryRequest{TypeUrl: string(envoy.EndpointType), ResponseNonce: "7"}), Limits{}.withDefaults()
	if n := testing.AllocsPerRun(100, func() {
		if _, err := decode(message, limits); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%.0f allocations", n)
	}
}

// same compares with what generated code reads.
func same(t *testing.T, encoded []byte) {
	t.Helper()
	want := new(discoveryv3.DeltaDiscoveryRequest)
	if err := proto.Unmarshal(encoded, want); err != nil {
		t.Fatal(err)
	}
	r, err := decode(encoded, Limits{}.withDefaults())
	if err != nil {
		t.Fatal(err)
	}
	node, refusal := new(corev3.Node), new(statuspb.Status)
	if err := proto.Unmarshal(r.node, node); err != nil || (r.node != nil) != (want.GetNode() != nil) || want.GetNode() != nil && !proto.Equal(node, want.GetNode()) {
		t.Errorf("node %v, %v", node, err)
	}
	if err := proto.Unmarshal(r.refusal, refusal); err != nil || (r.refusal != nil) != (want.GetErrorDetail() != nil) || want.GetErrorDetail() != nil && !proto.Equal(refusal, want.GetErrorDetail()) {
		t.Errorf("status %v, %v", refusal, err)
	}
	initial := map[string]string{}
	for _, v := range r.initial {
		initial[v.name] = v.version
		if r.initial.of(v.name) != v.version {
			t.Errorf("%q is not found", v.name)
		}
	}
	if string(r.typeURL) != want.GetTypeUrl() || string(r.nonce) != want.GetResponseNonce() ||
		!slices.Equal(r.subscribe, want.GetResourceNamesSubscribe()) || !slices.Equal(r.unsubscribe, want.GetResourceNamesUnsubscribe()) ||
		!maps.Equal(initial, want.GetInitialResourceVersions()) {
		t.Errorf("got %+v, want %v", r, want)
	}
	if r.initial.of("nobody's") != "" {
		t.Error("a version of what is not there")
	}
}

func TestDecodeRefuses(t *testing.T) {
	plain := marshal(t, &discoveryv3.DeltaDiscoveryRequest{TypeUrl: string(envoy.ClusterType), ResponseNonce: "7"})
	long := strings.Repeat("x", 513)
	limits := Limits{Names: 2}.withDefaults()
	for name, tt := range map[string]struct {
		message []byte
		code    codes.Code
	}{
		"half a tag":                   {append(slices.Clone(plain), 0x80), codes.InvalidArgument},
		"a field that is cut off":      {append(slices.Clone(plain), 0x1a, 5, 'x'), codes.InvalidArgument},
		"a number that is cut off":     {[]byte{0x18}, codes.InvalidArgument},
		"an entry that is cut off":     {[]byte{0x2a, 2, 0x0a, 5}, codes.InvalidArgument},
		"a name that is no text":       {[]byte{0x1a, 1, 0xff}, codes.InvalidArgument},
		"a version that is no text":    {[]byte{0x2a, 3, 0x12, 1, 0xff}, codes.InvalidArgument},
		"a long name":                  {marshal(t, &discoveryv3.DeltaDiscoveryRequest{ResourceNamesSubscribe: []string{long}}), codes.InvalidArgument},
		"a long version":               {marshal(t, &discoveryv3.DeltaDiscoveryRequest{InitialResourceVersions: map[string]string{"a": long}}), codes.InvalidArgument},
		"many names":                   {marshal(t, &discoveryv3.DeltaDiscoveryRequest{ResourceNamesSubscribe: []string{"a", "b", "c"}}), codes.ResourceExhausted},
		"many names to drop":           {marshal(t, &discoveryv3.DeltaDiscoveryRequest{ResourceNamesUnsubscribe: []string{"a", "b", "c"}}), codes.ResourceExhausted},
		"many versions, of one name":   {[]byte{0x2a, 0, 0x2a, 0, 0x2a, 0}, codes.ResourceExhausted},
		"a known field as a number, 3": {[]byte{0x18, 1}, codes.OK}, // skipped, as generated code does
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := decode(tt.message, limits); status.Code(err) != tt.code {
				t.Errorf("got %v, want %s", err, tt.code)
			}
		})
	}
}

func marshal(t *testing.T, m proto.Message) []byte {
	encoded, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return encoded
}

// FuzzDecode: what is taken is what generated code reads.
func FuzzDecode(f *testing.F) {
	encoded, err := proto.Marshal(says())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(encoded)
	f.Add([]byte{0x2a, 0})
	f.Add([]byte{0x18, 1, 0x3a, 0})
	f.Fuzz(func(t *testing.T, message []byte) {
		r, err := decode(message, Limits{}.withDefaults())
		want := new(discoveryv3.DeltaDiscoveryRequest)
		if proto.Unmarshal(message, want) != nil || err != nil {
			return
		}
		if string(r.typeURL) != want.GetTypeUrl() || string(r.nonce) != want.GetResponseNonce() || (r.refusal != nil) != (want.GetErrorDetail() != nil) ||
			!slices.Equal(r.subscribe, want.GetResourceNamesSubscribe()) || !slices.Equal(r.unsubscribe, want.GetResourceNamesUnsubscribe()) ||
			len(r.initial) != len(want.GetInitialResourceVersions()) {
			t.Errorf("got %+v, want %v", r, want)
		}
	})
}
