package agent_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"math/big"
	"strconv"
	"testing"
	"time"

	"github.com/meshd-io/meshd/internal/envoytest"
)

// bootstrap is an Envoy that serves TLS by the agent's secrets and refuses clients without a certificate of the mesh.
// It echoes: a direct response ends a connection whose client is late with its hello.
const bootstrap = `
node: {id: test, cluster: test}
admin: {address: {pipe: {path: %[1]q}}}
static_resources:
  listeners:
  - name: in
    address: {socket_address: {address: 127.0.0.1, port_value: %[2]d}}
    filter_chains:
    - filters:
      - name: echo
        typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo}
      transport_socket:
        name: tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          require_client_certificate: true
          common_tls_context:
            tls_certificate_sds_secret_configs: [{name: default, sds_config: &sds {resource_api_version: V3, api_config_source: {
              api_type: DELTA_GRPC, transport_api_version: V3, grpc_services: [{envoy_grpc: {cluster_name: agent}}]}}}]
            validation_context_sds_secret_config: {name: ROOTCA, sds_config: *sds}
  clusters:
  - name: agent
    connect_timeout: 1s
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {}}
    load_assignment: {cluster_name: agent, endpoints: [{lb_endpoints: [{endpoint: {address: {pipe: {path: %[3]q}}}}]}]}
`

// TestEnvoy: a stock Envoy takes the secrets by delta SDS, shows the certificate,
// and shows the next one after a renewal, without a listener update.
func TestEnvoy(t *testing.T) {
	p, c := running(t)
	port := envoytest.FreePort(t)
	e := envoytest.Run(t, func(dir string) string {
		return fmt.Sprintf(bootstrap, envoytest.AdminSocket(dir), port, p.path("agent.sock"))
	})
	e.Ready()
	cfg := c.ClientTLS(c.Certificate(t, "shop", "client"))
	// Envoy shows the same certificate until it has taken the renewed one.
	served := func() *big.Int {
		conn, err := tls.Dial("tcp", "127.0.0.1:"+strconv.Itoa(port), cfg)
		if err != nil {
			return nil
		}
		defer func() { _ = conn.Close() }()
		if _, err := conn.Write([]byte("hello")); err != nil {
			return nil
		}
		buf := make([]byte, 5)
		if _, err := io.ReadFull(conn, buf); err != nil || string(buf) != "hello" {
			return nil
		}
		return conn.ConnectionState().PeerCertificates[0].SerialNumber
	}
	var first *big.Int
	envoytest.Eventually(t, "certificate of the agent", func() bool { first = served(); return first != nil }, p.log.String)
	// The renewed leaf begins in what is the future for a verifier that reads the real clock.
	cfg = &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, Certificates: []tls.Certificate{c.Certificate(t, "shop", "client")}}
	p.pass(t, 31*time.Minute)
	envoytest.Eventually(t, "renewed certificate", func() bool { s := served(); return s != nil && s.Cmp(first) != 0 }, p.log.String)
	if n := e.Stat("listener_manager.listener_modified"); n != 0 {
		t.Errorf("the listener was updated %d times", n)
	}
	anonymous := c.ClientTLS()
	anonymous.InsecureSkipVerify, anonymous.VerifyPeerCertificate = true, nil
	cfg = anonymous
	if served() != nil {
		t.Error("a client without a certificate was served")
	}
}
