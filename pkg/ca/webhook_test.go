package ca_test

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"testing"
	"time"

	"github.com/meshd-io/meshd/internal/clock/clocktest"
	"github.com/meshd-io/meshd/pkg/ca"
	"github.com/meshd-io/meshd/pkg/ca/catest"
)

// handshake connects as the API server does and gives what the server shows.
func handshake(t *testing.T, server *tls.Config, client *tls.Config) (*x509.Certificate, error) {
	t.Helper()
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	done := make(chan error, 1)
	go func() { done <- tls.Server(far, server).Handshake() }()
	conn := tls.Client(near, client)
	if err := conn.Handshake(); err != nil {
		return nil, err
	}
	if err := <-done; err != nil {
		return nil, err
	}
	return conn.ConnectionState().PeerCertificates[0], nil
}

// TestWebhookTLS: the API server verifies it by name with the bundle alone; the certificate is renewed at half-life.
func TestWebhookTLS(t *testing.T) {
	clk := clocktest.New(time.Now().Truncate(time.Second))
	c := catest.New(t, ca.Lifetimes{}, clk)
	names := []string{"meshd.meshd-system.svc", "meshd.meshd-system.svc.cluster.local"}
	cfg, err := c.Authority.WebhookTLS(names...)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(c.Authority.Bundle())) {
		t.Fatal("the bundle is not PEM")
	}
	client := func(name string) *tls.Config {
		return &tls.Config{RootCAs: roots, ServerName: name, Time: clk.Now}
	}
	var shown *x509.Certificate
	for _, name := range names {
		if shown, err = handshake(t, cfg, client(name)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := handshake(t, cfg, client("kubernetes.default.svc")); err == nil {
		t.Error("verified by a name that it does not have")
	}
	if len(shown.URIs) > 0 || shown.NotAfter.Sub(clk.Now()) != time.Hour {
		t.Errorf("URIs %v, ends in %s", shown.URIs, shown.NotAfter.Sub(clk.Now()))
	}
	clk.Advance(31 * time.Minute)
	renewed, err := handshake(t, cfg, client(names[0]))
	if err != nil || renewed.Equal(shown) {
		t.Errorf("not renewed at half-life (%v)", err)
	}
	if _, err := c.Authority.WebhookTLS(); err == nil {
		t.Error("no name was taken")
	}
}

// TestWebhookCertificateIsNoIdentity: whoever held it could call nobody in the mesh.
func TestWebhookCertificateIsNoIdentity(t *testing.T) {
	c := catest.New(t, ca.Lifetimes{}, nil)
	cfg, err := c.Authority.WebhookTLS("meshd.meshd-system.svc")
	if err != nil {
		t.Fatal(err)
	}
	cert, err := cfg.GetCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	server, err := c.Authority.ServerTLS(catest.MeshdID(t))
	if err != nil {
		t.Fatal(err)
	}
	client := c.ClientTLS(*cert)
	client.MaxVersion = tls.VersionTLS13
	near, far := net.Pipe()
	defer near.Close()
	done := make(chan error, 1)
	go func() {
		done <- tls.Server(far, server).Handshake()
		far.Close()
	}()
	conn := tls.Client(near, client)
	_ = conn.Handshake() // in TLS 1.3 it is the server that judges the client's certificate, and later
	_, _ = conn.Read(make([]byte, 1))
	if err := <-done; err == nil {
		t.Error("the webhook's certificate was taken as a peer's")
	}
}
