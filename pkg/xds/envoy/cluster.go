package envoy

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	httpoptsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/types/known/anypb"
)

// The addresses that local delivery comes from, by which capture tells it from
// a pod that calls itself. capture puts the IPv6 one on the loopback device.
const (
	localSource4 = "127.0.0.6"
	localSource6 = "::6"
)

func httpOptions(o *httpoptsv3.HttpProtocolOptions) map[string]*anypb.Any {
	return map[string]*anypb.Any{httpOptionsKey: pack(o)}
}

// ownSource binds what goes to the pod's own application.
func ownSource() *corev3.BindConfig {
	return &corev3.BindConfig{
		SourceAddress:        sourceAddress(localSource4),
		ExtraSourceAddresses: []*corev3.ExtraSourceAddress{{Address: sourceAddress(localSource6)}},
	}
}

func sourceAddress(ip string) *corev3.SocketAddress {
	return &corev3.SocketAddress{Address: ip, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: 0}}
}
