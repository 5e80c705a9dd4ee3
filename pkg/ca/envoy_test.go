package ca_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"

	"github.com/meshd-io/meshd/internal/envoytest"
	"github.com/meshd-io/meshd/pkg/ca"
	"github.com/meshd-io/meshd/pkg/ca/catest"
)

// leaf signs a certificate and gives it with its key, for Go and in PEM.
func leaf(t *testing.T, a *ca.Authority) (cert tls.Certificate, chain, key string) {
	t.Helper()
	private, csr := catest.CSR(t, &x509.CertificateRequest{})
	issued, err := a.Sign(accounts(t), csr, 0)
	if err != nil {
		t.Fatal(err)
	}
	cert.PrivateKey = private
	for _, c := range issued.Chain {
		cert.Certificate = append(cert.Certificate, c.Raw)
		chain += string(certPEM(outside{cert: c}))
	}
	return cert, chain, string(keyPEM(t, private, "PRIVATE KEY"))
}

// echo is a listener that wants mutual TLS and sends back what it gets.
func echo(port int, chain, key, bundle string) string {
	quote := func(s string) string {
		out, _ := json.Marshal(s) // a string always encodes
		return string(out)
	}
	return fmt.Sprintf(`
  - name: echo-%d
    address: {socket_address: {address: 127.0.0.1, port_value: %d}}
    filter_chains:
    - filters: [{name: echo, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo}}]
      transport_socket:
        name: tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          require_client_certificate: true
          common_tls_context:
            tls_certificates: [{certificate_chain: {inline_string: %s}, private_key: {inline_string: %s}}]
            validation_context: {trusted_ca: {inline_string: %s}}`, port, port, quote(chain), quote(key), quote(bundle))
}

// TestEnvoyTakesGivenCAs: a stock Envoy shows and verifies what each kind of given CA signs.
func TestEnvoyTakesGivenCAs(t *testing.T) {
	envoytest.Binary(t)
	now := time.Now().Truncate(time.Second)
	type served struct {
		name      string
		port      int
		authority *ca.Authority
	}
	var all []served
	listeners := ""
	for _, tc := range givenCAs(t, now) {
		in, err := tc.s.parse()
		if err != nil {
			t.Fatal(err)
		}
		a, err := ca.New(ca.Config{TrustDomain: catest.TrustDomain, Intermediate: &in})
		if err != nil {
			t.Fatal(err)
		}
		_, chain, key := leaf(t, a)
		s := served{tc.name, envoytest.FreePort(t), a}
		all = append(all, s)
		listeners += echo(s.port, chain, key, a.Bundle())
	}
	e := envoytest.Run(t, func(dir string) string {
		return "admin: {address: {pipe: {path: " + envoytest.AdminSocket(dir) + "}}}\nstatic_resources:\n  listeners:" + listeners + "\n"
	})
	e.Ready()
	td := spiffeid.RequireTrustDomainFromString(catest.TrustDomain)
	for _, s := range all {
		cert, _, _ := leaf(t, s.authority)
		config := tlsconfig.TLSClientConfig(x509bundle.FromX509Authorities(td, s.authority.Roots()), tlsconfig.AuthorizeMemberOf(td))
		config.Certificates = []tls.Certificate{cert}
		if err := say(s.port, config); err != nil {
			t.Errorf("%s: %v", s.name, err)
		}
		// A certificate of another mesh is not taken: that Envoy verifies at all.
		config.Certificates = []tls.Certificate{catest.New(t, ca.Lifetimes{}, nil).Certificate(t, "shop", "accounts")}
		if err := say(s.port, config); err == nil {
			t.Errorf("%s: a certificate of another root was taken", s.name)
		}
	}
}

func say(port int, config *tls.Config) error {
	conn, err := tls.Dial("tcp", net.JoinHostPort("127.0.0.1", fmt.Sprint(port)), config)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(envoytest.Patience)); err != nil {
		return err
	}
	const word = "hello"
	if _, err := io.WriteString(conn, word); err != nil {
		return err
	}
	var got strings.Builder
	if _, err := io.CopyN(&got, conn, int64(len(word))); err != nil {
		return err
	}
	return nil
}
