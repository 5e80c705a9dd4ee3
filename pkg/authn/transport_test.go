package authn_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc/credentials"

	"github.com/meshd-io/meshd/pkg/authn"
)

// until is a self-signed certificate that expires then.
func until(t *testing.T, notAfter time.Time) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: notAfter}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// A connection ends when the certificate of its peer does, and not before.
func TestConnectionEndsWithTheCertificate(t *testing.T) {
	end := time.Now().Add(2 * time.Second).Truncate(time.Second) // certificates count in seconds
	server := authn.Expiring(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{until(t, time.Now().Add(time.Hour))}, ClientAuth: tls.RequireAnyClientCert, NextProtos: []string{"h2"},
	})).Clone()
	here, there := net.Pipe()
	done := make(chan error, 1)
	var conn net.Conn
	go func() {
		var err error
		conn, _, err = server.ServerHandshake(there)
		done <- err
	}()
	client := tls.Client(here, &tls.Config{
		InsecureSkipVerify: true, NextProtos: []string{"h2"}, Certificates: []tls.Certificate{until(t, end)},
	})
	if err := client.Handshake(); err != nil {
		t.Fatal(err)
	}
	read := make(chan error, 1)
	go func() {
		_, err := client.Read(make([]byte, 1)) // also takes in what ends the handshake
		read <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := <-read; err == nil || time.Now().Before(end) {
		t.Errorf("ended %s before the certificate: %v", time.Until(end), err)
	}
	_ = conn.Close()
}

// Without a certificate there is nothing to expire.
func TestConnectionWithoutCertificate(t *testing.T) {
	server := authn.Expiring(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{until(t, time.Now().Add(time.Hour))}, NextProtos: []string{"h2"}}))
	here, there := net.Pipe()
	done := make(chan net.Conn, 1)
	go func() {
		conn, _, err := server.ServerHandshake(there)
		if err != nil {
			t.Error(err)
		}
		done <- conn
	}()
	client := tls.Client(here, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if err := client.Handshake(); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = client.Read(make([]byte, 1)) }()
	conn := <-done
	_ = conn.Close()
	_ = client.Close()
}
