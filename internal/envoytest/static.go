package envoytest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/meshd-io/meshd/pkg/xds/envoy"
)

// ValidateResources has one Envoy load the translations of many cases.
func ValidateResources(t testing.TB, cases map[string]envoy.Resources) {
	t.Helper()
	b, err := Static(cases)
	if err != nil {
		t.Fatal(err)
	}
	Validate(t, b)
}

// Static is a bootstrap that has in itself what proxies get by xDS, for
// `envoy --mode validate`: what would be discovered is put where it can be
// written inline, each case's names and addresses apart from the others'.
func Static(cases map[string]envoy.Resources) ([]byte, error) {
	s := &static{out: &bootstrapv3.Bootstrap_StaticResources{}, port: firstPort, shared: map[string]bool{}}
	s.cluster("meshd", emptyHTTP2("meshd"))
	s.cluster("agent", emptyHTTP2("agent"))
	for _, name := range slices.Sorted(maps.Keys(cases)) {
		if err := s.add(name, cases[name]); err != nil {
			return nil, fmt.Errorf("case %s: %w", name, err)
		}
	}
	b := &bootstrapv3.Bootstrap{
		Node:            &corev3.Node{Id: "sidecar~test/test", Cluster: "test/test"},
		StaticResources: s.out,
		LayeredRuntime:  envoy.Runtime(),
		DynamicResources: &bootstrapv3.Bootstrap_DynamicResources{AdsConfig: &corev3.ApiConfigSource{
			ApiType: corev3.ApiConfigSource_DELTA_GRPC, TransportApiVersion: corev3.ApiVersion_V3,
			GrpcServices: []*corev3.GrpcService{{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{
				EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: "meshd"},
			}}},
		}},
	}
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(b)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = json.Indent(&out, text, "", " ")
	return out.Bytes(), err
}

// firstPort of the addresses that listeners are moved to: nothing listens, but
// Envoy wants them to differ.
const firstPort = 20000

type static struct {
	out    *bootstrapv3.Bootstrap_StaticResources
	port   uint32
	shared map[string]bool
}

func (s *static) add(name string, rs envoy.Resources) error {
	for _, typ := range slices.Sorted(maps.Keys(rs)) {
		for _, r := range rs[typ] {
			if again, err := s.seen(r); err != nil || again {
				if err != nil {
					return err
				}
				continue
			}
			id := name + "/" + r.Name
			switch m := proto.Clone(r.Proto).(type) {
			case *tlsv3.Secret:
				if err := s.secret(id, m); err != nil {
					return err
				}
			case *clusterv3.Cluster:
				s.cluster(r.Name, proto.CloneOf(m))
				s.cluster(id, m)
			case *endpointv3.ClusterLoadAssignment:
				s.cluster("eds/"+id, &clusterv3.Cluster{LoadAssignment: m, TransportSocketMatches: nil})
			case *corev3.TypedExtensionConfig:
				if err := s.extension(id, m); err != nil {
					return err
				}
			case *routev3.ScopedRouteConfiguration:
				if err := s.scoped(id, m); err != nil {
					return err
				}
			case *routev3.RouteConfiguration:
				m.ValidateClusters = wrapperspb.Bool(false)
				if err := s.http(id, &hcmv3.HttpConnectionManager{RouteSpecifier: &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: m}}); err != nil {
					return err
				}
			case *listenerv3.Listener:
				s.listener(id, m)
			default:
				return fmt.Errorf("%s: a %T has no place", r.Name, m)
			}
		}
	}
	return nil
}

// seen reports whether a case before has had the same resource.
func (s *static) seen(r envoy.Resource) (bool, error) {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(r.Proto)
	if err != nil {
		return false, err
	}
	content := r.Name + "\x00" + string(b)
	again := s.shared[content]
	s.shared[content] = true
	return again, nil
}

// secret goes where its content is looked at: a cluster that validates by it.
func (s *static) secret(name string, m *tlsv3.Secret) error {
	common := &tlsv3.CommonTlsContext{}
	if v := m.GetValidationContext(); v != nil {
		common.ValidationContextType = &tlsv3.CommonTlsContext_ValidationContext{ValidationContext: v}
	}
	if c := m.GetTlsCertificate(); c != nil {
		common.TlsCertificates = []*tlsv3.TlsCertificate{c}
	}
	packed, err := anypb.New(&tlsv3.UpstreamTlsContext{CommonTlsContext: common})
	if err != nil {
		return err
	}
	s.cluster("secret/"+name, &clusterv3.Cluster{TransportSocket: &corev3.TransportSocket{
		Name: "envoy.transport_sockets.tls", ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: packed},
	}})
	return nil
}

// cluster is there once under each name.
func (s *static) cluster(name string, c *clusterv3.Cluster) {
	if s.shared[name] {
		return
	}
	s.shared[name] = true
	c.Name = name
	if c.GetEdsClusterConfig() == nil && !strings.HasPrefix(name, "secret/") && c.GetTransportSocket().GetName() == "envoy.transport_sockets.tls" {
		// Envoy makes such a cluster before it has ADS, when it is static, and
		// its validation server crashes; by CDS it never comes to that.
		c.TransportSocket = nil
	}
	s.out.Clusters = append(s.out.Clusters, c)
}

func (s *static) listener(name string, l *listenerv3.Listener) {
	l.Name = name
	if path := l.GetAddress().GetPipe().GetPath(); path != "" {
		l.Address.GetPipe().Path = filepath.Join("/tmp", fmt.Sprintf("meshd-validate-%d-%s", s.port, filepath.Base(path)))
		l.Address.GetPipe().Mode = 0
	} else {
		l.Address = &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
			Address: "127.0.0.1", PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: s.port},
		}}}
	}
	s.port++
	s.out.Listeners = append(s.out.Listeners, l)
}

// extension is a filter's configuration in place of its discovery.
func (s *static) extension(name string, m *corev3.TypedExtensionConfig) error {
	if m.GetTypedConfig().GetTypeUrl() == "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC" {
		return s.http(name, &hcmv3.HttpConnectionManager{
			HttpFilters:    []*hcmv3.HttpFilter{{Name: m.GetName(), ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: m.GetTypedConfig()}}},
			RouteSpecifier: &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: &routev3.RouteConfiguration{Name: name}},
		})
	}
	tcp, err := anypb.New(&tcpv3.TcpProxy{StatPrefix: "tcp", ClusterSpecifier: &tcpv3.TcpProxy_Cluster{Cluster: "meshd"}})
	if err != nil {
		return err
	}
	s.listener(name, &listenerv3.Listener{FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{
		{Name: m.GetName(), ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: m.GetTypedConfig()}},
		{Name: "tcp", ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: tcp}},
	}}}})
	return nil
}

func (s *static) scoped(name string, m *routev3.ScopedRouteConfiguration) error {
	m.GetRouteConfiguration().ValidateClusters = wrapperspb.Bool(false)
	return s.http(name, &hcmv3.HttpConnectionManager{RouteSpecifier: &hcmv3.HttpConnectionManager_RouteConfig{
		RouteConfig: m.GetRouteConfiguration(),
	}})
}

// http is a listener with one connection manager.
func (s *static) http(name string, hcm *hcmv3.HttpConnectionManager) error {
	router, err := anypb.New(&routerv3.Router{})
	if err != nil {
		return err
	}
	hcm.StatPrefix = "static"
	hcm.HttpFilters = append(hcm.HttpFilters, &hcmv3.HttpFilter{Name: "router", ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: router}})
	packed, err := anypb.New(hcm)
	if err != nil {
		return err
	}
	s.listener(name, &listenerv3.Listener{FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{
		{Name: "hcm", ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: packed}},
	}}}})
	return nil
}

func emptyHTTP2(name string) *clusterv3.Cluster {
	options, err := anypb.New(http2())
	if err != nil {
		return nil
	}
	return &clusterv3.Cluster{
		Name: name, ConnectTimeout: durationpb.New(time.Second),
		LoadAssignment:                &endpointv3.ClusterLoadAssignment{ClusterName: name},
		TypedExtensionProtocolOptions: map[string]*anypb.Any{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options},
	}
}
