package authn_test

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/meshd-io/meshd/internal/clock/clocktest"
	"github.com/meshd-io/meshd/pkg/authn"
	"github.com/meshd-io/meshd/pkg/ca"
	"github.com/meshd-io/meshd/pkg/ca/catest"
	"github.com/meshd-io/meshd/pkg/ca/store"
	"github.com/meshd-io/meshd/pkg/identity"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	unary  = "/grpc.health.v1.Health/Check"
	stream = "/grpc.health.v1.Health/Watch"
)

// echo is a service with a unary and a streaming method that tell whom they see.
type echo struct {
	grpc_health_v1.UnimplementedHealthServer
	seen chan authn.Peer
}

func (e *echo) Check(ctx context.Context, _ *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	p, _ := authn.FromContext(ctx)
	e.seen <- p
	return &grpc_health_v1.HealthCheckResponse{}, nil
}

func (e *echo) Watch(_ *grpc_health_v1.HealthCheckRequest, s grpc.ServerStreamingServer[grpc_health_v1.HealthCheckResponse]) error {
	p, _ := authn.FromContext(s.Context())
	e.seen <- p
	return s.Send(&grpc_health_v1.HealthCheckResponse{})
}

// server is the echo service behind the interceptors.
type server struct {
	ca   *catest.CA
	addr string
	echo *echo
}

func serve(t *testing.T, clk *clocktest.Fake, want authn.Requirement) *server {
	t.Helper()
	c := catest.New(t, ca.Lifetimes{}, clk)
	rules := authn.Rules{}
	if want != "" {
		rules = authn.Rules{unary: want, stream: want}
	}
	srv := c.Server(t, rules, slog.New(slog.DiscardHandler))
	e := &echo{seen: make(chan authn.Peer, 1)}
	grpc_health_v1.RegisterHealthServer(srv, e)
	return &server{ca: c, addr: catest.Serve(t, srv, "127.0.0.1:0"), echo: e}
}

// call tries both methods and wants the same from both.
func (s *server) call(t *testing.T, token string, certs ...tls.Certificate) (authn.Peer, error) {
	t.Helper()
	conn, err := grpc.NewClient(s.addr, grpc.WithTransportCredentials(credentials.NewTLS(s.ca.ClientTLS(certs...))))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	return s.on(t, conn, token)
}

func (s *server) on(t *testing.T, conn *grpc.ClientConn, token string) (authn.Peer, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	}
	client := grpc_health_v1.NewHealthClient(conn)
	_, err := client.Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	var p, q authn.Peer
	if err == nil {
		p = <-s.echo.seen
	}
	watch, streamErr := client.Watch(ctx, &grpc_health_v1.HealthCheckRequest{})
	if streamErr == nil {
		_, streamErr = watch.Recv()
	}
	if streamErr == nil {
		q = <-s.echo.seen
	}
	if p != q || status.Code(err) != status.Code(streamErr) {
		t.Errorf("unary: %v, %v; stream: %v, %v", p.Identity, err, q.Identity, streamErr)
	}
	return p, err
}

func wantReason(t *testing.T, err error, code codes.Code, reason string) {
	t.Helper()
	if status.Code(err) != code || !strings.HasPrefix(status.Convert(err).Message(), reason+":") {
		t.Errorf("got %v, want %s %s", err, code, reason)
	}
}

// TestRequirements is the table of what each kind of caller may call.
func TestRequirements(t *testing.T) {
	clk := clocktest.New(time.Now())
	for _, want := range []authn.Requirement{authn.Certificate, authn.Token, authn.Either, authn.None, ""} {
		t.Run("wants "+string(want), func(t *testing.T) {
			s := serve(t, clk, want)
			token := s.ca.Tokens.Token(t, "shop", "accounts", clk.Now())
			cert := s.ca.Certificate(t, "shop", "loans")
			for _, from := range []struct {
				name, token string
				certs       []tls.Certificate
				ok          []authn.Requirement
				identity    string
			}{
				{name: "nobody", ok: []authn.Requirement{authn.None}},
				{name: "token", token: token, ok: []authn.Requirement{authn.Token, authn.Either, authn.None}, identity: "accounts"},
				{name: "certificate", certs: []tls.Certificate{cert}, ok: []authn.Requirement{authn.Certificate, authn.Either, authn.None}, identity: "loans"},
				{name: "bad token", token: "x", ok: []authn.Requirement{authn.None}},
			} {
				p, err := s.call(t, from.token, from.certs...)
				allowed := false
				for _, r := range from.ok {
					allowed = allowed || r == want
				}
				switch {
				case allowed && err != nil:
					t.Errorf("%s: %v", from.name, err)
				case allowed && want != authn.None && p.Identity.ServiceAccount() != from.identity:
					t.Errorf("%s is seen as %s", from.name, p.Identity)
				case allowed && want == authn.None && !p.Identity.IsZero():
					t.Errorf("%s is seen as %s though nothing was asked", from.name, p.Identity)
				case !allowed && err == nil:
					t.Errorf("%s may call", from.name)
				case !allowed && want == "":
					wantReason(t, err, codes.PermissionDenied, "MethodNotListed")
				}
			}
		})
	}
}

// TestCertificateExpiresOnAnOpenConnection: the next call on it is refused.
func TestCertificateExpiresOnAnOpenConnection(t *testing.T) {
	clk := clocktest.New(time.Now())
	s := serve(t, clk, authn.Certificate)
	conn, err := grpc.NewClient(s.addr, grpc.WithTransportCredentials(credentials.NewTLS(s.ca.ClientTLS(s.ca.Certificate(t, "shop", "loans")))))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	p, err := s.on(t, conn, "")
	if err != nil {
		t.Fatal(err)
	}
	clk.Advance(p.NotAfter.Sub(clk.Now()))
	_, err = s.on(t, conn, "")
	wantReason(t, err, codes.Unauthenticated, "CertificateExpired")
}

// TestHandshakeRefuses certificates that are not the mesh's, before any method is reached.
func TestHandshakeRefuses(t *testing.T) {
	clk := clocktest.New(time.Now())
	s := serve(t, clk, authn.None)
	old := s.ca.Certificate(t, "shop", "loans")
	clk.Advance(61 * time.Minute)
	foreign := catest.New(t, ca.Lifetimes{}, clk)
	alone := s.ca.Certificate(t, "shop", "loans")
	alone.Certificate = alone.Certificate[:1]
	for name, cert := range map[string]tls.Certificate{
		"expired":              old,
		"foreign CA":           foreign.Certificate(t, "shop", "loans"),
		"another trust domain": otherDomain(t, clk),
		"without its issuer":   alone,
	} {
		// Only clients whose clocks agree with the server's get as far as to be refused.
		if _, err := s.call(t, "", cert); status.Code(err) != codes.Unavailable {
			t.Errorf("%s: %v, want a failed handshake", name, err)
		}
	}
}

// otherDomain is a certificate of a CA of its own for another trust domain.
func otherDomain(t *testing.T, clk *clocktest.Fake) tls.Certificate {
	t.Helper()
	a, err := ca.New(ca.Config{
		TrustDomain: "other.domain", Store: store.File{Dir: filepath.Join(t.TempDir(), "ca")}, Clock: clk, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	id, err := identity.New("other.domain", "shop", "loans")
	if err != nil {
		t.Fatal(err)
	}
	cert, err := a.ServerCertificate(id)
	if err != nil {
		t.Fatal(err)
	}
	return *cert
}

type attestor struct {
	peer authn.Peer
	err  error
}

func (a attestor) Attest(context.Context, string) (authn.Peer, error) { return a.peer, a.err }

// with calls the interceptor of a server whose attestor is given.
func with(t *testing.T, at authn.Attestor) error {
	t.Helper()
	a, err := authn.New(authn.Config{
		TrustDomain: "cluster.local", Rules: authn.Rules{unary: authn.Token}, Attestor: at, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs("authorization", "Bearer x"))
	_, err = a.Unary()(ctx, nil, &grpc.UnaryServerInfo{FullMethod: unary}, func(context.Context, any) (any, error) { return nil, nil })
	return err
}

func TestAttestorsPeerOfAnotherTrustDomain(t *testing.T) {
	id, err := identity.New("other.domain", "shop", "accounts")
	if err != nil {
		t.Fatal(err)
	}
	wantReason(t, with(t, attestor{peer: authn.Peer{Identity: id}}), codes.PermissionDenied, "ForeignTrustDomain")
}

// TestOwnFailureStaysInside: the words of an error that is no refusal are not sent.
func TestOwnFailureStaysInside(t *testing.T) {
	err := with(t, attestor{err: errors.New("secret path /etc/x")})
	if status.Code(err) != codes.Unavailable || strings.Contains(err.Error(), "secret") {
		t.Errorf("got %v", err)
	}
}

func TestRulesAreChecked(t *testing.T) {
	for name, cfg := range map[string]authn.Config{
		"no attestor":         {Rules: authn.Rules{unary: authn.Token}},
		"unknown requirement": {Rules: authn.Rules{unary: "Maybe"}},
		"empty requirement":   {Rules: authn.Rules{unary: ""}},
	} {
		if _, err := authn.New(cfg); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
