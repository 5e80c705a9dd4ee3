package ca_test

import (
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"net/url"
	"testing"
	"time"

	"github.com/meshd-io/meshd/internal/clock/clocktest"
	"github.com/meshd-io/meshd/pkg/ca"
	"github.com/meshd-io/meshd/pkg/ca/catest"
)

// TestClientsCertificate: what the mesh's CA has signed is an SVID of the trust
// domain, or its bearer gets no connection.
func TestClientsCertificate(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	root := outside{}.sign(t, authorityTemplate("root", now.Add(-time.Hour)), ecKey(t, elliptic.P256()))
	by := root.sign(t, authorityTemplate("intermediate", now.Add(-time.Hour)), ecKey(t, elliptic.P256()))
	a, err := ca.New(ca.Config{
		TrustDomain: catest.TrustDomain, Clock: clocktest.New(now), Log: slog.New(slog.DiscardHandler),
		Intermediate: &ca.Intermediate{Chain: []*x509.Certificate{by.cert}, Key: by.key, Roots: []*x509.Certificate{root.cert}},
	})
	if err != nil {
		t.Fatal(err)
	}
	config, err := a.ServerTLS(catest.MeshdID(t))
	if err != nil {
		t.Fatal(err)
	}
	uri := func(s string) *url.URL {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	const own = "spiffe://" + catest.TrustDomain + "/ns/shop/sa/accounts"
	for _, tc := range []struct {
		name   string
		good   bool
		change func(c *x509.Certificate)
	}{
		{"an SVID", true, func(*x509.Certificate) {}},
		{"a CA", false, func(c *x509.Certificate) { c.IsCA = true }},
		{"may sign certificates", false, func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign }},
		{"may sign revocations", false, func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCRLSign }},
		{"no URI", false, func(c *x509.Certificate) { c.URIs = nil }},
		{"two URIs", false, func(c *x509.Certificate) { c.URIs = append(c.URIs, uri(own+"2")) }},
		{"a URI that is no SPIFFE ID", false, func(c *x509.Certificate) { c.URIs[0] = uri("https://cluster.local/ns/shop/sa/accounts") }},
		{"another trust domain", false, func(c *x509.Certificate) { c.URIs[0] = uri("spiffe://other.domain/ns/shop/sa/accounts") }},
		{"for servers only", false, func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[:1] }},
		{"expired", false, func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Second) }},
		{"not yet valid", false, func(c *x509.Certificate) { c.NotBefore = now.Add(time.Second) }},
	} {
		tmpl := authorityTemplate("", now.Add(-time.Minute))
		tmpl.IsCA, tmpl.KeyUsage, tmpl.URIs = false, x509.KeyUsageDigitalSignature, []*url.URL{uri(own)}
		tmpl.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
		tc.change(tmpl)
		leaf := by.sign(t, tmpl, ecKey(t, elliptic.P256()))
		cert := tls.Certificate{Certificate: [][]byte{leaf.cert.Raw, by.cert.Raw}, PrivateKey: leaf.key}
		if err := accept(config, &cert); (err == nil) != tc.good {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}

// accept is what the server says of a client that shows cert.
func accept(config *tls.Config, cert *tls.Certificate) error {
	here, there := net.Pipe()
	defer here.Close()
	client := tls.Client(here, &tls.Config{
		InsecureSkipVerify: true, NextProtos: []string{"h2"}, // the client is what is tested
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil },
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		if client.Handshake() == nil {
			_, _ = client.Read(make([]byte, 1)) // takes in the alert
		}
	}()
	err := tls.Server(there, config).Handshake()
	_ = there.Close()
	<-done
	return err
}
