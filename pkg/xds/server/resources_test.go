package server

import (
	"slices"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/meshd-io/meshd/pkg/report"
	"github.com/meshd-io/meshd/pkg/xds/envoy"
)

// clusterOf is an EDS cluster; another timeout is another version.
func clusterOf(name string, timeout int) envoy.Resource {
	return envoy.Resource{Name: name, Origins: originOf(name), Proto: &clusterv3.Cluster{
		Name: name, ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
		ConnectTimeout: durationpb.New(1e9 * 1),
		EdsClusterConfig: &clusterv3.Cluster_EdsClusterConfig{EdsConfig: &corev3.ConfigSource{
			ResourceApiVersion:    corev3.ApiVersion_V3,
			ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
		}},
		AltStatName: string(rune('a' + timeout)),
	}}
}

func originOf(name string) []report.Origin {
	return []report.Origin{{Object: report.Object{Kind: "Service", Namespace: "shop", Name: name}, Generation: 1}}
}

// endpointsOf is the assignment of a cluster with one endpoint; another port is another version.
func endpointsOf(name string, port uint32) envoy.Resource {
	return envoy.Resource{Name: name, Origins: originOf(name), Proto: &endpointv3.ClusterLoadAssignment{
		ClusterName: name, Endpoints: []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{{
			HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: addressOf("10.244.0.9", port)}},
		}}}},
	}}
}

func addressOf(ip string, port uint32) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: ip, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port},
	}}}
}

func listenerOf(name, stat string) envoy.Resource {
	return envoy.Resource{Name: name, Origins: originOf(name), Proto: &listenerv3.Listener{
		Name: name, Address: addressOf("127.0.0.1", 15001), StatPrefix: stat,
	}}
}

func scopeOf(address, cluster string) envoy.Resource {
	return envoy.Resource{Name: address, Origins: originOf(address), Proto: &routev3.ScopedRouteConfiguration{
		Name: address,
		Key: &routev3.ScopedRouteConfiguration_Key{Fragments: []*routev3.ScopedRouteConfiguration_Key_Fragment{{
			Type: &routev3.ScopedRouteConfiguration_Key_Fragment_StringKey{StringKey: address},
		}}},
		RouteConfiguration: &routev3.RouteConfiguration{Name: address, VirtualHosts: []*routev3.VirtualHost{{
			Name: address, Domains: []string{"*"}, Routes: []*routev3.Route{{
				Match:  &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
				Action: &routev3.Route_Route{Route: &routev3.RouteAction{ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: cluster}}},
			}},
		}}},
	}}
}

func gateOf(name string, after ...envoy.Ref) envoy.Resource {
	return envoy.Resource{Name: name, Origins: originOf(name), After: after, Proto: &clusterv3.Cluster{
		Name: name, ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
	}}
}

// shop is two clusters with their endpoints, and a listener.
func shop() envoy.Resources {
	return envoy.Resources{
		envoy.ClusterType:  {clusterOf("out|shop/a|80", 1), clusterOf("out|shop/b|80", 1)},
		envoy.EndpointType: {endpointsOf("out|shop/a|80", 1), endpointsOf("out|shop/b|80", 1)},
		envoy.ListenerType: {listenerOf("out", "one")},
	}
}

// encoded is the whole response.
func (m message) encoded() []byte { return append(slices.Clone(m.bytes), m.tail()...) }
