package envoy_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/meshd-io/meshd/internal/envoytest"
	"github.com/meshd-io/meshd/pkg/xds/envoy"
)

const (
	meshdID = "spiffe://cluster.local/ns/meshd-system/sa/meshd"
	podID   = "spiffe://cluster.local/ns/shop/sa/accounts"
)

// withRealFiles puts what kubelet would have made where a configuration looks for it.
func withRealFiles(t *testing.T, config []byte) []byte {
	t.Helper()
	dir := t.TempDir()
	root := newRoot(t)
	project(t, dir, map[string]string{envoy.CredentialFile: root.issue(t, podID, 1), envoy.AnchorFile: root.pem})
	return bytes.ReplaceAll(config, []byte(envoy.IdentityDir), []byte(dir))
}

// project swaps a volume's content as kubelet does: the files are links into
// ..data, which is a link to a folder of its own for each content. The files
// of Envoy's own are there each time.
func project(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	content, err := os.MkdirTemp(dir, "..")
	if err != nil {
		t.Fatal(err)
	}
	secrets, err := envoy.FileSecrets(dir)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range secrets {
		files[name] = text
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(content, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			continue
		}
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Base(content), filepath.Join(dir, "..data_tmp")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
}

// root is a certificate authority.
type root struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	pem         string
}

func newRoot(t *testing.T) root {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		Subject: pkix.Name{CommonName: "root"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return root{certificate, key, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))}
}

// issue gives key and certificate as kubelet's one file has them.
func (r root) issue(t *testing.T, id string, serial int64) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	uri, err := url.Parse(id)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		URIs: []*url.URL{uri}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, r.certificate, key.Public(), r.key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})) +
		string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// door stands where meshd would: it takes a handshake, tells of it and hangs
// up, so that the proxy comes again.
type door struct {
	address string
	mu      sync.Mutex
	shown   tls.Certificate
	tries   chan try
}

// try is a connection: the serial number of the proxy's certificate, or why there is none.
type try struct {
	serial int64
	err    error
}

func openDoor(t *testing.T) *door {
	t.Helper()
	d := &door{tries: make(chan try)}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d.address = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() { cancel(); l.Close() })
	config := &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{"h2"}, ClientAuth: tls.RequireAnyClientCert, SessionTicketsDisabled: true,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			d.mu.Lock()
			defer d.mu.Unlock()
			return &d.shown, nil
		},
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			secure := tls.Server(c, config)
			result := try{err: secure.HandshakeContext(ctx)}
			if result.err == nil {
				result.serial = secure.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
			}
			secure.Close()
			select {
			case d.tries <- result:
			case <-ctx.Done():
				return
			}
		}
	}()
	return d
}

func (d *door) show(t *testing.T, credential string) {
	t.Helper()
	pair, err := tls.X509KeyPair([]byte(credential), []byte(credential))
	if err != nil {
		t.Fatal(err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.shown = pair
}

// await takes tries until one is as wanted.
func (d *door) await(t *testing.T, what string, wanted func(try) bool) {
	t.Helper()
	deadline := time.After(envoytest.Patience)
	var last try
	for {
		select {
		case last = <-d.tries:
			if wanted(last) {
				return
			}
		case <-deadline:
			t.Fatalf("no %s; the last connection: %+v", what, last)
		}
	}
}

func (d *door) serial(n int64) func(try) bool {
	return func(c try) bool { return c.err == nil && c.serial == n }
}

// TestEnvoyFollowsKubeletsFiles: certificate and trust anchor rotate under a
// stock Envoy that nobody tells; content that cannot be read changes nothing.
func TestEnvoyFollowsKubeletsFiles(t *testing.T) {
	envoytest.Binary(t)
	dir := t.TempDir()
	first, second := newRoot(t), newRoot(t)
	d := openDoor(t)
	d.show(t, first.issue(t, meshdID, 100))
	project(t, dir, map[string]string{envoy.CredentialFile: first.issue(t, podID, 1), envoy.AnchorFile: first.pem})
	config := podCertificateBootstrap()
	config.MeshdAddress, config.IdentityDir = d.address, dir
	envoytest.Run(t, func(runDir string) string {
		config.RunDir = runDir
		text, err := envoy.Bootstrap(config)
		if err != nil {
			t.Error(err)
		}
		port := fmt.Sprintf(`"port_value":%d`, envoytest.FreePort(t))
		return strings.Replace(string(text), `"port_value":15021`, port, 1)
	})
	d.await(t, "connection with the first certificate", d.serial(1))

	project(t, dir, map[string]string{envoy.CredentialFile: first.issue(t, podID, 2), envoy.AnchorFile: first.pem})
	d.await(t, "connection with the second certificate", d.serial(2))

	project(t, dir, map[string]string{envoy.CredentialFile: "neither key nor certificate", envoy.AnchorFile: first.pem})
	d.show(t, first.issue(t, "spiffe://cluster.local/ns/shop/sa/meshd", 101))
	d.await(t, "refusal of somebody else", func(c try) bool { return c.err != nil })
	d.show(t, first.issue(t, meshdID, 102))
	d.await(t, "connection with the certificate from before the unreadable one", d.serial(2))

	d.show(t, second.issue(t, meshdID, 103))
	d.await(t, "refusal of the new root", func(c try) bool { return c.err != nil })
	project(t, dir, map[string]string{envoy.CredentialFile: second.issue(t, podID, 3), envoy.AnchorFile: first.pem + second.pem})
	d.await(t, "connection by the new root", d.serial(3))
}
