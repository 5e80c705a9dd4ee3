package envoy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"path"
	"strconv"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	metricsv3 "github.com/envoyproxy/go-control-plane/envoy/config/metrics/v3"
	dnscommonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/common/dns/v3"
	dnsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/dns/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	httpoptsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/meshd-io/meshd/pkg/model"
)

// RunDir is where a pod's sockets are.
const RunDir = "/run/meshd"

// BootstrapConfig is what a proxy is started with.
type BootstrapConfig struct {
	Kind model.WorkloadKind
	// Namespace and Pod may be "$(POD_NAMESPACE)" and "$(POD_NAME)": kubelet
	// expands them where the bootstrap is an argument.
	Namespace, Pod string
	ServiceAccount string
	// MeshdAddress is HOST:PORT of meshd's gRPC server; HOST is a DNS name or an IP address.
	MeshdAddress string
	// MeshdIdentity is meshd's own SPIFFE ID, the only one that is taken for meshd.
	MeshdIdentity string
	// Probes are answered on port 15021 in the application's stead.
	Probes []Probe
	// RunDir is where the pod's sockets are; "" is RunDir.
	RunDir string
	// IdentityDir is where kubelet keeps the pod's certificate and the trust
	// anchor, beside FileSecrets; "" is a pod whose agent has them.
	IdentityDir string
}

// ProbeKind is how the application is asked.
type ProbeKind uint8

// The kinds of probe.
const (
	HTTPProbe ProbeKind = iota
	TCPProbe
	GRPCProbe
)

// Probe answers HTTP on Path of port 15021 with what the application says on Port.
type Probe struct {
	// Path on port 15021, such as /probe/app/readiness; unique.
	Path string
	Kind ProbeKind
	// Port of the application.
	Port uint16
	// HTTPPath, HTTPS, Host and Headers are those of an HTTP probe. Host is the
	// address to connect to; "" is the pod's own.
	HTTPPath string
	HTTPS    bool
	Host     string
	Headers  []ProbeHeader
	// GRPCService of a GRPCProbe; "" is the whole server.
	GRPCService string
	// Timeout of one attempt; 0 is Kubernetes' default of 1 s.
	Timeout time.Duration
}

// ProbeHeader is a header of an HTTP probe.
type ProbeHeader struct{ Name, Value string }

const (
	connectTimeout    = time.Second
	adsBackoffBase    = 250 * time.Millisecond
	adsBackoffMost    = time.Second // a first use of a destination waits for meshd to be back
	nameRefresh       = 5 * time.Second
	keepaliveProbes   = 3
	keepaliveTime     = 20
	keepaliveInterval = 5
	sidecarPrefix     = "sidecar~"
	gatewayPrefix     = "gateway~"
)

// Bootstrap is the whole configuration that a proxy starts with, as JSON, which
// is YAML too (envoy --config-yaml). Everything else comes from meshd by delta ADS.
func Bootstrap(c BootstrapConfig) ([]byte, error) {
	if c.RunDir == "" {
		c.RunDir = RunDir
	}
	host, portText, err := net.SplitHostPort(c.MeshdAddress)
	if err != nil {
		return nil, fmt.Errorf("meshd's address: %w", err)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("meshd's address %q: %w", c.MeshdAddress, err)
	}
	probes, err := probeSet(c)
	if err != nil {
		return nil, err
	}
	prefix := sidecarPrefix
	if c.Kind == model.GatewayProxy {
		prefix = gatewayPrefix
	}
	secrets := secretSource{dir: c.IdentityDir}
	clusters := []*clusterv3.Cluster{meshdStatic(host, uint32(port), meshdTLS(c.MeshdIdentity, secrets)), adminStatic(c.RunDir)}
	if c.IdentityDir == "" {
		clusters = append([]*clusterv3.Cluster{agentStatic(c.RunDir)}, clusters...)
	}
	b := &bootstrapv3.Bootstrap{
		Node:  &corev3.Node{Id: prefix + c.Namespace + "/" + c.Pod, Cluster: c.Namespace + "/" + c.ServiceAccount},
		Admin: &bootstrapv3.Admin{Address: pipe(path.Join(c.RunDir, "admin.sock"))},
		DynamicResources: &bootstrapv3.Bootstrap_DynamicResources{
			AdsConfig: deltaSource(meshdCluster, adsBackoffBase, adsBackoffMost),
			CdsConfig: adsSource(0),
			LdsConfig: adsSource(0),
		},
		StaticResources: &bootstrapv3.Bootstrap_StaticResources{
			Listeners: []*listenerv3.Listener{plainListener(probes)},
			Clusters:  append(clusters, probes.clusters...),
		},
		LayeredRuntime: Runtime(),
		StatsConfig:    &metricsv3.StatsConfig{StatsMatcher: usefulStats()},
	}
	if err := b.ValidateAll(); err != nil {
		return nil, fmt.Errorf("bootstrap: %w", err)
	}
	return compactJSON(b)
}

// maxRegex is how big a regular expression may be, in RE2's instructions. Envoy's
// own bound of 100 would refuse patterns of 100 characters; RE2's time is linear anyway.
const maxRegex = 100000

// Runtime are the settings of Envoy that its bootstrap alone can change.
func Runtime() *bootstrapv3.LayeredRuntime {
	return &bootstrapv3.LayeredRuntime{Layers: []*bootstrapv3.RuntimeLayer{{
		Name: "meshd",
		LayerSpecifier: &bootstrapv3.RuntimeLayer_StaticLayer{StaticLayer: &structpb.Struct{Fields: map[string]*structpb.Value{
			"re2.max_program_size.error_level": structpb.NewNumberValue(maxRegex),
		}}},
	}}}
}

// compactJSON takes out the white space that protojson varies on purpose.
func compactJSON(m proto.Message) ([]byte, error) {
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	var out bytes.Buffer
	if err := json.Compact(&out, text); err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	return out.Bytes(), nil
}

// agentStatic reaches the pod's agent, which has the certificates.
func agentStatic(runDir string) *clusterv3.Cluster {
	return &clusterv3.Cluster{
		Name:                          agentCluster,
		ClusterDiscoveryType:          &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
		ConnectTimeout:                seconds(connectTimeout),
		LoadAssignment:                oneEndpoint(agentCluster, pipe(path.Join(runDir, "agent.sock"))),
		TypedExtensionProtocolOptions: httpOptions(explicitHTTP2()),
	}
}

// adminStatic reaches the proxy's own admin socket, for the exact routes of the plain listener.
func adminStatic(runDir string) *clusterv3.Cluster {
	return &clusterv3.Cluster{
		Name:                 adminCluster,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
		ConnectTimeout:       seconds(connectTimeout),
		LoadAssignment:       oneEndpoint(adminCluster, pipe(path.Join(runDir, "admin.sock"))),
	}
}

// meshdStatic reaches meshd, and nobody else who might answer at its address.
func meshdStatic(host string, port uint32, common *tlsv3.CommonTlsContext) *clusterv3.Cluster {
	c := &clusterv3.Cluster{
		Name:                 meshdCluster,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
		ConnectTimeout:       seconds(connectTimeout),
		LoadAssignment: oneEndpoint(meshdCluster, &corev3.Address{Address: &corev3.Address_SocketAddress{
			SocketAddress: &corev3.SocketAddress{Address: host, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port}},
		}}),
		UpstreamConnectionOptions: &clusterv3.UpstreamConnectionOptions{TcpKeepalive: &corev3.TcpKeepalive{
			KeepaliveProbes: number(keepaliveProbes), KeepaliveTime: number(keepaliveTime), KeepaliveInterval: number(keepaliveInterval),
		}},
		TypedExtensionProtocolOptions: httpOptions(explicitHTTP2()),
	}
	tls := &tlsv3.UpstreamTlsContext{CommonTlsContext: common}
	if _, err := netip.ParseAddr(host); err != nil {
		c.ClusterDiscoveryType = &clusterv3.Cluster_ClusterType{ClusterType: &clusterv3.Cluster_CustomClusterType{
			Name: "envoy.clusters.dns", TypedConfig: pack(&dnsv3.DnsCluster{
				DnsLookupFamily:              dnscommonv3.DnsLookupFamily_V4_PREFERRED,
				AllAddressesInSingleEndpoint: true, // one of them is tried after the other
				DnsRefreshRate:               seconds(nameRefresh),
				DnsFailureRefreshRate: &dnsv3.DnsCluster_RefreshRate{
					BaseInterval: seconds(adsBackoffBase), MaxInterval: seconds(adsBackoffMost),
				},
			}),
		}}
		tls.Sni = host
	}
	c.TransportSocket = tlsSocket(tls)
	return c
}

// meshdTLS waits for its secrets without end: there is nothing to do before.
func meshdTLS(id string, secrets secretSource) *tlsv3.CommonTlsContext {
	return &tlsv3.CommonTlsContext{
		TlsParams:                      tls13(),
		AlpnProtocols:                  []string{"h2"},
		TlsCertificateSdsSecretConfigs: []*tlsv3.SdsSecretConfig{secrets.leaf(0)},
		ValidationContextType: &tlsv3.CommonTlsContext_CombinedValidationContext{
			CombinedValidationContext: &tlsv3.CommonTlsContext_CombinedCertificateValidationContext{
				DefaultValidationContext: &tlsv3.CertificateValidationContext{
					MatchTypedSubjectAltNames: []*tlsv3.SubjectAltNameMatcher{uriSAN(exactly(id))},
				},
				ValidationContextSdsSecretConfig: secrets.anchor(0),
			},
		},
	}
}

func explicitHTTP2() *httpoptsv3.HttpProtocolOptions {
	return &httpoptsv3.HttpProtocolOptions{UpstreamProtocolOptions: &httpoptsv3.HttpProtocolOptions_ExplicitHttpConfig_{
		ExplicitHttpConfig: &httpoptsv3.HttpProtocolOptions_ExplicitHttpConfig{
			ProtocolConfig: &httpoptsv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{
				Http2ProtocolOptions: &corev3.Http2ProtocolOptions{},
			},
		},
	}}
}

// usefulStats keeps what is read and leaves out what costs memory for every
// cluster: the difference is half of what a cluster takes.
func usefulStats() *metricsv3.StatsMatcher {
	list := &matcherv3.ListStringMatcher{}
	for _, prefix := range []string{
		"meshd.", "server.", "cluster_manager.", "listener_manager.", "control_plane.", "cluster.meshd.", "cluster.agent.", "sds.",
	} {
		list.Patterns = append(list.Patterns, startingWith(prefix))
	}
	for _, pattern := range []string{
		`.*\.rbac\..*(denied|policy).*`,
		`(listener|cluster\.meshd)\..*\.expiration_unix_time_seconds`,
		`listener\..*\.no_filter_chain_match`,
		`http\..*\.downstream_(cx|rq)_(total|active)`,
		`cluster\.(out|dst|tcp)\|.*\.(membership_(healthy|total)|upstream_cx_(active|connect_fail)|upstream_rq_(retry|retry_success|retry_overflow|timeout|per_try_timeout|pending_overflow))`,
		`cluster\.probe\|.*\.membership_(healthy|total)`, // by which the health_check filter answers: without them it says 503
		`cluster\.(out|dst|tcp)\|.*\.(outlier_detection\.ejections_(active|enforced_total)|ssl\.fail_verify_san|ssl\.connection_error)`,
	} {
		list.Patterns = append(list.Patterns, fully(pattern))
	}
	return &metricsv3.StatsMatcher{StatsMatcher: &metricsv3.StatsMatcher_InclusionList{InclusionList: list}}
}
