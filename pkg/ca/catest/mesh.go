package catest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/meshd-io/meshd/internal/clock"
	"github.com/meshd-io/meshd/pkg/authn"
	"github.com/meshd-io/meshd/pkg/ca"
	"github.com/meshd-io/meshd/pkg/ca/attest"
	"github.com/meshd-io/meshd/pkg/ca/cav1"
	"github.com/meshd-io/meshd/pkg/ca/service"
	"github.com/meshd-io/meshd/pkg/ca/store"
	"github.com/meshd-io/meshd/pkg/identity"
)

// TrustDomain of everything here.
const TrustDomain = "cluster.local"

// MeshdID is meshd's own identity.
func MeshdID(t testing.TB) identity.ID {
	t.Helper()
	id, err := identity.New(TrustDomain, "meshd-system", "meshd")
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// CA is an authority with its token issuer and attestation.
type CA struct {
	Authority *ca.Authority
	Tokens    *Tokens
	Verifier  *attest.Verifier
	clock     clock.Clock
}

// New makes a CA in a folder of the test. clk may be nil.
func New(t testing.TB, lifetimes ca.Lifetimes, clk clock.Clock) *CA {
	t.Helper()
	a, err := ca.New(ca.Config{
		TrustDomain: TrustDomain, Store: store.File{Dir: filepath.Join(t.TempDir(), "ca")},
		Lifetimes: lifetimes, Clock: clk, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	tokens := NewTokens(t)
	v, err := attest.New(attest.Config{
		TrustDomain: TrustDomain, Issuer: Issuer, Keys: attest.Static{Set: tokens.JWKS()}, Clock: clk,
	})
	if err != nil {
		t.Fatal(err)
	}
	return &CA{Authority: a, Tokens: tokens, Verifier: v, clock: clk}
}

// Server gives the gRPC server with the CA's service behind authentication, not
// yet serving; rules may be added to those of the CA.
func (c *CA) Server(t testing.TB, rules authn.Rules, log *slog.Logger, more ...grpc.ServerOption) *grpc.Server {
	t.Helper()
	all := authn.Rules{cav1.CertificateService_Sign_FullMethodName: authn.Token}
	for m, r := range rules {
		all[m] = r
	}
	auth, err := authn.New(authn.Config{TrustDomain: TrustDomain, Rules: all, Attestor: c.Verifier, Clock: c.clock, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := c.Authority.ServerTLS(MeshdID(t))
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer(append(more, grpc.Creds(credentials.NewTLS(cfg)),
		grpc.ChainUnaryInterceptor(auth.Unary()), grpc.ChainStreamInterceptor(auth.Stream()))...)
	cav1.RegisterCertificateServiceServer(srv, service.New(service.Config{Signer: c.Authority, Log: log}))
	return srv
}

// Serve starts srv on address ("127.0.0.1:0" is any port) and stops it with the test.
func Serve(t testing.TB, srv *grpc.Server, address string) string {
	t.Helper()
	lis, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(lis)
	}()
	t.Cleanup(func() {
		srv.Stop()
		<-done
	})
	return lis.Addr().String()
}

// WriteFile writes a file as kubelet does: whole or not at all.
func WriteFile(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// ClientTLS verifies meshd as an agent does and shows certs, if any.
func (c *CA) ClientTLS(certs ...tls.Certificate) *tls.Config {
	td := spiffeid.RequireTrustDomainFromString(TrustDomain)
	bundle := x509bundle.FromX509Authorities(td, c.Authority.Roots())
	cfg := tlsconfig.TLSClientConfig(bundle, tlsconfig.AuthorizeMemberOf(td))
	cfg.MinVersion = tls.VersionTLS13
	// A fixed choice: a certificate is shown even if it is not of the server's CA.
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		if len(certs) == 0 {
			return &tls.Certificate{}, nil
		}
		return &certs[0], nil
	}
	return cfg
}

// Certificate gives a certificate of the mesh with its key.
func (c *CA) Certificate(t testing.TB, namespace, account string) tls.Certificate {
	t.Helper()
	id, err := identity.New(c.Authority.TrustDomain(), namespace, account)
	if err != nil {
		t.Fatal(err)
	}
	key, csr := CSR(t, &x509.CertificateRequest{})
	issued, err := c.Authority.Sign(id, csr, 0)
	if err != nil {
		t.Fatal(err)
	}
	out := tls.Certificate{PrivateKey: key, Leaf: issued.Chain[0]}
	for _, cert := range issued.Chain {
		out.Certificate = append(out.Certificate, cert.Raw)
	}
	return out
}

// CSR signs a request with a new P-256 key.
func CSR(t testing.TB, template *x509.CertificateRequest) (*ecdsa.PrivateKey, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		t.Fatal(err)
	}
	return key, der
}
