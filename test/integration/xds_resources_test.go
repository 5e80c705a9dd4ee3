package integration

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"sigs.k8s.io/yaml"

	// What the YAML below names.
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/set_filter_state/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/http/early_header_mutation/header_mutation/v3"

	"github.com/meshd-io/meshd/pkg/report"
	"github.com/meshd-io/meshd/pkg/xds/envoy"
)

// read fills a message from YAML.
func read[M proto.Message](t *testing.T, into M, text string) M {
	t.Helper()
	asJSON, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := protojson.Unmarshal(asJSON, into); err != nil {
		t.Fatal(err)
	}
	return into
}

func origin(name string) []report.Origin {
	return []report.Origin{{Object: report.Object{Kind: "HTTPRoute", Namespace: "shop", Name: name}, Generation: 1}}
}

func edsCluster(t *testing.T, name, more string) envoy.Resource {
	t.Helper()
	return envoy.Resource{Name: name, Origins: origin(name), Proto: read(t, &clusterv3.Cluster{}, fmt.Sprintf(`
name: %s
type: EDS
connect_timeout: 1s
eds_cluster_config: {eds_config: {ads: {}, resource_api_version: V3, initial_fetch_timeout: 1s}}
%s`, name, more))}
}

func assignment(t *testing.T, name string, port int) envoy.Resource {
	t.Helper()
	return envoy.Resource{Name: name, Origins: origin(name), Proto: read(t, &endpointv3.ClusterLoadAssignment{}, fmt.Sprintf(`
cluster_name: "%s"
endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %d}}}}]}]`, name, port))}
}

// httpListener routes by the address that was connected to.
func httpListener(t *testing.T, port int) envoy.Resource {
	t.Helper()
	return envoy.Resource{Name: "http", Proto: read(t, &listenerv3.Listener{}, fmt.Sprintf(`
name: http
address: {socket_address: {address: 127.0.0.2, port_value: %[1]d}}
additional_addresses: [{address: {socket_address: {address: 127.0.0.3, port_value: %[1]d}}}]
filter_chains:
- filters:
  - name: hcm
    typed_config:
      '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
      stat_prefix: out
      early_header_mutation_extensions:
      - name: envoy.http.early_header_mutation.header_mutation
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation
          mutations:
          - append:
              header: {key: x-meshd-destination, value: '%%DOWNSTREAM_LOCAL_ADDRESS%%'}
              append_action: OVERWRITE_IF_EXISTS_OR_ADD
      http_filters:
      - name: envoy.filters.http.router
        typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
      scoped_routes:
        name: dst
        scope_key_builder: {fragments: [{header_value_extractor: {name: x-meshd-destination, index: 0}}]}
        rds_config_source: {ads: {}, resource_api_version: V3}
        scoped_rds: {scoped_rds_config_source: {ads: {}, resource_api_version: V3}}`, port))}
}

// scopeFor sends a destination's requests to a cluster; pattern guards a route that comes first.
func scopeFor(t *testing.T, address, cluster, pattern string) envoy.Resource {
	t.Helper()
	return envoy.Resource{Name: address, Origins: origin(address), Proto: read(t, &routev3.ScopedRouteConfiguration{}, fmt.Sprintf(`
name: "%[1]s"
key: {fragments: [{string_key: "%[1]s"}]}
route_configuration:
  name: "%[1]s"
  virtual_hosts:
  - name: all
    domains: ['*']
    routes:
    - {match: {safe_regex: {regex: '%[3]s'}}, direct_response: {status: 418}}
    - {match: {prefix: /}, route: {cluster: '%[2]s'}}`, address, cluster, pattern))}
}

// gateListener asks for the cluster of the address that was connected to.
func gateListener(t *testing.T, port int) envoy.Resource {
	t.Helper()
	return envoy.Resource{Name: "gate", Proto: read(t, &listenerv3.Listener{}, fmt.Sprintf(`
name: gate
address: {socket_address: {address: 127.0.0.2, port_value: %[1]d}}
additional_addresses:
- {address: {socket_address: {address: 127.0.0.3, port_value: %[1]d}}}
- {address: {socket_address: {address: 127.0.0.4, port_value: %[1]d}}}
filter_chains:
- filters:
  - name: envoy.filters.network.set_filter_state
    typed_config:
      '@type': type.googleapis.com/envoy.extensions.filters.network.set_filter_state.v3.Config
      on_new_connection:
      - object_key: envoy.tcp_proxy.cluster
        format_string: {text_format_source: {inline_string: dst|%%DOWNSTREAM_LOCAL_ADDRESS%%}}
  - name: tcp
    typed_config:
      '@type': type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
      stat_prefix: gate
      cluster: unset
      on_demand:
        timeout: 20s
        odcds_config:
          resource_api_version: V3
          api_config_source:
            api_type: DELTA_GRPC
            transport_api_version: V3
            set_node_on_first_message_only: true
            grpc_services:
            - envoy_grpc: {cluster_name: meshd, retry_policy: {retry_back_off: {base_interval: 0.1s, max_interval: 0.5s}}}`, port))}
}

// gateCluster is the answer to a demand: a backend by an assignment.
func gateCluster(t *testing.T, name, assignment string, after ...envoy.Ref) envoy.Resource {
	t.Helper()
	r := edsCluster(t, "'"+name+"'", "")
	c := r.Proto.(*clusterv3.Cluster)
	c.EdsClusterConfig.ServiceName = assignment
	return envoy.Resource{Name: name, Origins: origin(name), After: after, Proto: c}
}

// backend is an application that says who it is; it gives the port.
func backend(t *testing.T, who string) int {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, who) }))
	t.Cleanup(s.Close)
	return s.Listener.Addr().(*net.TCPAddr).Port
}

func addrPort(t *testing.T, s string) netip.AddrPort {
	t.Helper()
	a, err := netip.ParseAddrPort(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// tooLarge is a regex that RE2 compiles and that Envoy refuses: its program has
// more instructions than Envoy's default allows. The gate cannot see it.
func tooLarge() string { return "/" + strings.Repeat("(a|b|cd){10}", 12) }
