package envoy

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	healthv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/health_check/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"github.com/meshd-io/meshd/pkg/model"
)

// PlainPort is where the proxy answers kubelet and Prometheus, without TLS. It is not captured.
const PlainPort = 15021

const (
	adminCluster        = "admin"
	originalDestination = "envoy.network.transport_socket.original_dst_address"
	defaultProbeTimeout = time.Second
	// healthInterval bounds how old the answer to a TCP or gRPC probe may be.
	healthInterval = time.Second
)

// probes are the parts of the plain listener that answer for the application.
type probes struct {
	routes   []*routev3.Route
	filters  []*hcmv3.HttpFilter
	clusters []*clusterv3.Cluster
}

func probeSet(c BootstrapConfig) (probes, error) {
	var out probes
	if c.Kind == model.GatewayProxy && len(c.Probes) > 0 {
		return out, fmt.Errorf("a gateway has no application to probe")
	}
	seen := map[string]bool{"/ready": true, "/metrics": true}
	for _, p := range c.Probes {
		if !strings.HasPrefix(p.Path, "/") || seen[p.Path] {
			return out, fmt.Errorf("probe path %q: not absolute, or there twice", p.Path)
		}
		seen[p.Path] = true
		if p.Timeout == 0 {
			p.Timeout = defaultProbeTimeout
		}
		if p.Kind == HTTPProbe {
			out.routes = append(out.routes, httpProbeRoute(p))
			out.clusters = append(out.clusters, httpProbeCluster(p))
			continue
		}
		out.filters = append(out.filters, healthFilter(p))
		out.clusters = append(out.clusters, healthCluster(p))
	}
	return out, nil
}

func probeCluster(p Probe) string { return "probe|" + p.Path }

// httpProbeRoute asks the application with what the probe had, and what kubelet sent beside it.
func httpProbeRoute(p Probe) *routev3.Route {
	target := p.HTTPPath
	if !strings.HasPrefix(target, "/") {
		target = "/" + target
	}
	action := &routev3.RouteAction{
		ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: probeCluster(p)},
		PrefixRewrite:    target,
		Timeout:          seconds(p.Timeout),
	}
	route := &routev3.Route{
		Name: probeCluster(p), Match: exactPath(p.Path), Action: &routev3.Route_Route{Route: action},
		// A redirect is a success; with its location kubelet would follow it to this port.
		ResponseHeadersToRemove: []string{"location"},
	}
	for _, h := range p.Headers {
		if strings.EqualFold(h.Name, "host") {
			action.HostRewriteSpecifier = &routev3.RouteAction_HostRewriteLiteral{HostRewriteLiteral: h.Value}
			continue
		}
		route.RequestHeadersToAdd = append(route.RequestHeadersToAdd, overwrite(h.Name, strings.ReplaceAll(h.Value, "%", "%%")))
	}
	return route
}

// httpProbeCluster connects to the address that kubelet has connected to, so
// that the application is asked where it would have been asked.
func httpProbeCluster(p Probe) *clusterv3.Cluster {
	c := &clusterv3.Cluster{
		Name:                 probeCluster(p),
		ConnectTimeout:       seconds(p.Timeout),
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_ORIGINAL_DST},
		LbPolicy:             clusterv3.Cluster_CLUSTER_PROVIDED,
		LbConfig: &clusterv3.Cluster_OriginalDstLbConfig_{OriginalDstLbConfig: &clusterv3.Cluster_OriginalDstLbConfig{
			UpstreamPortOverride: number(uint32(p.Port)),
		}},
		UpstreamBindConfig: ownSource(),
	}
	if p.Host != "" {
		c.LbPolicy, c.LbConfig, c.UpstreamBindConfig = clusterv3.Cluster_ROUND_ROBIN, nil, nil
		c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STRICT_DNS}
		c.LoadAssignment = oneEndpoint(probeCluster(p), &corev3.Address{Address: &corev3.Address_SocketAddress{
			SocketAddress: &corev3.SocketAddress{
				Address: p.Host, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(p.Port)},
			},
		}})
	}
	if p.HTTPS {
		// Like kubelet's own: the certificate is not checked.
		c.TransportSocket = tlsSocket(&tlsv3.UpstreamTlsContext{CommonTlsContext: &tlsv3.CommonTlsContext{}})
	}
	return c
}

// healthFilter answers by the health of a cluster: 200, or 503.
func healthFilter(p Probe) *hcmv3.HttpFilter {
	return httpFilter("probe."+p.Path, &healthv3.HealthCheck{
		PassThroughMode: no(),
		Headers: []*routev3.HeaderMatcher{{
			Name: ":path", HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: exactly(p.Path)},
		}},
		ClusterMinHealthyPercentages: map[string]*typev3.Percent{probeCluster(p): {Value: 100}},
	})
}

func healthCluster(p Probe) *clusterv3.Cluster {
	check := &corev3.HealthCheck{
		Timeout: seconds(p.Timeout), Interval: seconds(healthInterval), NoTrafficInterval: seconds(healthInterval),
		UnhealthyThreshold: number(1), HealthyThreshold: number(1),
		HealthChecker: &corev3.HealthCheck_TcpHealthCheck_{TcpHealthCheck: &corev3.HealthCheck_TcpHealthCheck{}},
	}
	address := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), p.Port)
	c := &clusterv3.Cluster{
		Name:                 probeCluster(p),
		ConnectTimeout:       seconds(p.Timeout),
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
		LoadAssignment:       oneEndpoint(probeCluster(p), socket(address)),
		HealthChecks:         []*corev3.HealthCheck{check},
	}
	if p.Kind == GRPCProbe {
		check.HealthChecker = &corev3.HealthCheck_GrpcHealthCheck_{
			GrpcHealthCheck: &corev3.HealthCheck_GrpcHealthCheck{ServiceName: p.GRPCService},
		}
		c.TypedExtensionProtocolOptions = httpOptions(explicitHTTP2())
	}
	return c
}

// plainListener has exact routes only: nothing of the admin socket that changes anything is reachable.
func plainListener(p probes) *listenerv3.Listener {
	routes := append([]*routev3.Route{
		adminRoute("/ready", "/ready"), adminRoute("/metrics", "/stats/prometheus"),
	}, p.routes...)
	hcm := &hcmv3.HttpConnectionManager{
		StatPrefix:        "plain",
		GenerateRequestId: no(),
		HttpFilters:       append(p.filters, routerFilter()),
		RouteSpecifier: &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: &routev3.RouteConfiguration{
			Name:         "plain",
			VirtualHosts: []*routev3.VirtualHost{{Name: "plain", Domains: []string{"*"}, Routes: routes}},
		}},
	}
	// The probes' clusters are told the address by the connection: nothing was redirected here.
	target := setConnectionState(originalDestination, "%DOWNSTREAM_LOCAL_ADDRESS%")
	return &listenerv3.Listener{
		Name:         "plain",
		Address:      anyAddress(PlainPort),
		FilterChains: []*listenerv3.FilterChain{{Name: "plain", Filters: []*listenerv3.Filter{target, networkFilter(hcmName, hcm)}}},
	}
}

func adminRoute(from, to string) *routev3.Route {
	return &routev3.Route{Name: from, Match: exactPath(from), Action: &routev3.Route_Route{Route: &routev3.RouteAction{
		ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: adminCluster}, PrefixRewrite: to,
	}}}
}

func oneEndpoint(cluster string, a *corev3.Address) *endpointv3.ClusterLoadAssignment {
	return &endpointv3.ClusterLoadAssignment{
		ClusterName: cluster,
		Endpoints: []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{{
			HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: a}},
		}}}},
	}
}

// The addresses that local delivery comes from, by which capture tells it from
// a pod that calls itself. capture puts the IPv6 one on the loopback device.
const (
	localSource4 = "127.0.0.6"
	localSource6 = "::6"
)

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
