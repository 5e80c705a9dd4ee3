package envoy

import (
	"strings"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	proxyprotov3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/proxy_protocol/v3"
	httpoptsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/meshd-io/meshd/pkg/model"
)

const (
	// unbounded stands for "no limit of ours": hops and local delivery are
	// bounded by what comes in, and Envoy's default of 1024 would cut it.
	unbounded = 1000000
	// assignmentWait lets a cluster go on without its endpoints. They are always
	// sent behind it; without a bound one lost assignment would hold up all clusters.
	assignmentWait = time.Second

	socketMatchKey   = "envoy.transport_socket_match"
	socketMatchLabel = "meshd"
	socketMatchPlain = "plaintext"
)

// carrier says how a cluster is to carry what is sent to it.
type carrier struct {
	name string
	alpn []string
	http *httpoptsv3.HttpProtocolOptions // nil: not HTTP
}

// backendCluster is mutual TLS to whoever is proven to be a backend. Only
// endpoints that are marked as plaintext get plaintext: a missing mark is safe.
func (t *translation) backendCluster(b *model.Backend, how carrier) *clusterv3.Cluster {
	c := &clusterv3.Cluster{
		Name:                 how.name,
		AltStatName:          statName(how.name),
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
		EdsClusterConfig:     &clusterv3.Cluster_EdsClusterConfig{EdsConfig: adsSource(assignmentWait), ServiceName: how.name},
		ConnectTimeout:       secondsOrUnset(b.Traffic.ConnectTimeout),
		CircuitBreakers:      circuitBreakers(b.Traffic),
		OutlierDetection:     outlierDetection(b.Traffic.OutlierDetection),
		TransportSocket:      upstreamMeshTLS(t.own, b.Identities, how.alpn...),
		TransportSocketMatches: []*clusterv3.Cluster_TransportSocketMatch{{
			Name: socketMatchPlain, Match: plaintextMark(), TransportSocket: rawSocket(),
		}},
	}
	balance(c, b.Traffic.LoadBalancing)
	if how.http != nil {
		how.http.CommonHttpProtocolOptions = &corev3.HttpProtocolOptions{IdleTimeout: secondsOrUnset(b.Traffic.IdleTimeout)}
		c.TypedExtensionProtocolOptions = httpOptions(how.http)
	}
	return c
}

func plaintextMark() *structpb.Struct {
	return &structpb.Struct{Fields: map[string]*structpb.Value{socketMatchLabel: structpb.NewStringValue(socketMatchPlain)}}
}

// sameProtocol carries what came in as what it is.
func sameProtocol() *httpoptsv3.HttpProtocolOptions {
	return &httpoptsv3.HttpProtocolOptions{UpstreamProtocolOptions: &httpoptsv3.HttpProtocolOptions_UseDownstreamProtocolConfig{
		UseDownstreamProtocolConfig: &httpoptsv3.HttpProtocolOptions_UseDownstreamHttpConfig{
			HttpProtocolOptions:  &corev3.Http1ProtocolOptions{},
			Http2ProtocolOptions: http2Options(),
		},
	}}
}

// declaredProtocol is what the port speaks, whatever came in.
func declaredProtocol(p model.Protocol) (*httpoptsv3.HttpProtocolOptions, string) {
	explicit := &httpoptsv3.HttpProtocolOptions_ExplicitHttpConfig{}
	alpn := alpnHTTP1
	if p == model.HTTP2 || p == model.GRPC {
		alpn = alpnHTTP2
		explicit.ProtocolConfig = &httpoptsv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{
			Http2ProtocolOptions: http2Options(),
		}
	} else {
		explicit.ProtocolConfig = &httpoptsv3.HttpProtocolOptions_ExplicitHttpConfig_HttpProtocolOptions{
			HttpProtocolOptions: &corev3.Http1ProtocolOptions{},
		}
	}
	return &httpoptsv3.HttpProtocolOptions{UpstreamProtocolOptions: &httpoptsv3.HttpProtocolOptions_ExplicitHttpConfig_{
		ExplicitHttpConfig: explicit,
	}}, alpn
}

// http2Options let websockets through as extended CONNECT.
func http2Options() *corev3.Http2ProtocolOptions {
	return &corev3.Http2ProtocolOptions{AllowConnect: true}
}

func httpOptions(o *httpoptsv3.HttpProtocolOptions) map[string]*anypb.Any {
	return map[string]*anypb.Any{httpOptionsKey: pack(o)}
}

func circuitBreakers(t model.Traffic) *clusterv3.CircuitBreakers {
	th := &clusterv3.CircuitBreakers_Thresholds{}
	if n := t.CircuitBreaker.MaxConnections; n > 0 {
		th.MaxConnections = number(n)
	}
	if n := t.CircuitBreaker.MaxPendingRequests; n > 0 {
		th.MaxPendingRequests = number(n)
	}
	if n := t.CircuitBreaker.MaxRequests; n > 0 {
		th.MaxRequests = number(n)
	}
	if t.Retry.Attempts > 0 {
		th.RetryBudget = &clusterv3.CircuitBreakers_Thresholds_RetryBudget{
			BudgetPercent:       &typev3.Percent{Value: float64(t.Retry.BudgetPercent)},
			MinRetryConcurrency: number(t.Retry.BudgetMinimum),
		}
	}
	return &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{th}}
}

// outlierDetection counts errors in a row only. Envoy's own defaults would also
// eject by success rate, which nobody has asked for.
func outlierDetection(o model.OutlierDetection) *clusterv3.OutlierDetection {
	if o.ConsecutiveErrors == 0 {
		return nil
	}
	const always, never = 100, 0
	return &clusterv3.OutlierDetection{
		Consecutive_5Xx:                    number(o.ConsecutiveErrors),
		EnforcingConsecutive_5Xx:           number(always),
		ConsecutiveGatewayFailure:          number(o.ConsecutiveErrors),
		EnforcingConsecutiveGatewayFailure: number(always),
		EnforcingSuccessRate:               number(never),
		Interval:                           secondsOrUnset(o.Interval),
		BaseEjectionTime:                   secondsOrUnset(o.BaseEjection),
		MaxEjectionTime:                    seconds(max(o.BaseEjection, maxEjection)),
		MaxEjectionPercent:                 number(o.MaxEjectedPercent),
	}
}

// maxEjection bounds what repeated ejections add up to, unless the first is longer.
const maxEjection = 300 * time.Second

func balance(c *clusterv3.Cluster, l model.LoadBalancing) {
	var slow *clusterv3.Cluster_SlowStartConfig
	if l.SlowStart > 0 {
		slow = &clusterv3.Cluster_SlowStartConfig{SlowStartWindow: seconds(l.SlowStart)}
	}
	switch l.Policy {
	case model.RoundRobin:
		c.LbPolicy = clusterv3.Cluster_ROUND_ROBIN
		c.LbConfig = &clusterv3.Cluster_RoundRobinLbConfig_{RoundRobinLbConfig: &clusterv3.Cluster_RoundRobinLbConfig{SlowStartConfig: slow}}
	case model.Random:
		c.LbPolicy = clusterv3.Cluster_RANDOM
	case model.RingHash:
		c.LbPolicy = clusterv3.Cluster_RING_HASH
	case model.Maglev:
		c.LbPolicy = clusterv3.Cluster_MAGLEV
	case model.LeastRequest:
		c.LbPolicy = clusterv3.Cluster_LEAST_REQUEST
		c.LbConfig = &clusterv3.Cluster_LeastRequestLbConfig_{LeastRequestLbConfig: &clusterv3.Cluster_LeastRequestLbConfig{SlowStartConfig: slow}}
	}
}

// statName keeps the dots of an address from being taken for those between the
// parts of a metric's name; "" where the name has none.
func statName(name string) string {
	if !strings.Contains(name, ".") {
		return ""
	}
	return strings.ReplaceAll(name, ".", "_")
}

// gateStat is one name for the metrics of all clusters that lead to a hop, pass
// or refuse: one by one they would cost memory and say nothing.
const gateStat = "gate"

// emptyCluster refuses every connection at once.
func emptyCluster(name string) *clusterv3.Cluster {
	return &clusterv3.Cluster{
		Name:                 name,
		AltStatName:          gateStat,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
		LoadAssignment:       &endpointv3.ClusterLoadAssignment{ClusterName: name},
	}
}

// originalDstCluster connects to where the connection was going.
func originalDstCluster(name string) *clusterv3.Cluster {
	return &clusterv3.Cluster{
		Name:                 name,
		AltStatName:          gateStat,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_ORIGINAL_DST},
		LbPolicy:             clusterv3.Cluster_CLUSTER_PROVIDED,
		CircuitBreakers:      noLimits(),
	}
}

// hopCluster hands a connection to another listener of the same proxy, and
// tells it where the connection was going.
func hopCluster(name string, to *corev3.Address) *clusterv3.Cluster {
	return &clusterv3.Cluster{
		Name:                 name,
		AltStatName:          gateStat,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
		ConnectTimeout:       seconds(connectTimeout),
		LoadAssignment:       oneEndpoint(name, to),
		CircuitBreakers:      noLimits(),
		TransportSocket: &corev3.TransportSocket{
			Name: "envoy.transport_sockets.upstream_proxy_protocol",
			ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: pack(&proxyprotov3.ProxyProtocolUpstreamTransport{
				Config:          &corev3.ProxyProtocolConfig{Version: corev3.ProxyProtocolConfig_V2},
				TransportSocket: rawSocket(),
			})},
		},
	}
}

func noLimits() *clusterv3.CircuitBreakers {
	return &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
		MaxConnections: number(unbounded), MaxPendingRequests: number(unbounded),
		MaxRequests: number(unbounded), MaxRetries: number(unbounded),
	}}}
}
