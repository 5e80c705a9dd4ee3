package agent_test

import (
	"context"
	"crypto/x509"
	"log/slog"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/meshd-io/meshd/internal/clock/clocktest"
	"github.com/meshd-io/meshd/pkg/agent"
	"github.com/meshd-io/meshd/pkg/ca"
	"github.com/meshd-io/meshd/pkg/ca/catest"
	"github.com/meshd-io/meshd/pkg/ca/cav1"
	"github.com/meshd-io/meshd/pkg/identity"
)

// wrongCA answers what a test says instead of what was asked.
type wrongCA struct {
	cav1.UnimplementedCertificateServiceServer
	answer func(csr []byte) *cav1.SignResponse
}

func (w wrongCA) Sign(_ context.Context, req *cav1.SignRequest) (*cav1.SignResponse, error) {
	return w.answer(req.GetCsr()), nil
}

// TestWrongAnswers: what does not match the key, or does not verify, is never
// served: Envoy would refuse it and then be stuck (EXPERIMENTS A5).
func TestWrongAnswers(t *testing.T) {
	clk := clocktest.New(time.Now().Truncate(time.Second))
	c, other := catest.New(t, ca.Lifetimes{}, clk), catest.New(t, ca.Lifetimes{}, clk)
	id, err := identity.New(catest.TrustDomain, "shop", "accounts")
	if err != nil {
		t.Fatal(err)
	}
	respond := func(a *ca.Authority, csr []byte, roots []*x509.Certificate) *cav1.SignResponse {
		issued, err := a.Sign(id, csr, 0)
		if err != nil {
			t.Error(err)
			return &cav1.SignResponse{}
		}
		r := &cav1.SignResponse{}
		for _, x := range issued.Chain {
			r.Chain = append(r.Chain, x.Raw)
		}
		for _, x := range roots {
			r.Roots = append(r.Roots, x.Raw)
		}
		return r
	}
	_, foreign := catest.CSR(t, &x509.CertificateRequest{})
	for name, tc := range map[string]struct {
		want   string
		answer func(csr []byte) *cav1.SignResponse
	}{
		"another key": {"not for the key", func([]byte) *cav1.SignResponse { return respond(c.Authority, foreign, c.Authority.Roots()) }},
		"other roots": {"does not verify", func(csr []byte) *cav1.SignResponse { return respond(c.Authority, csr, other.Authority.Roots()) }},
		"no roots":    {"roots: none", func(csr []byte) *cav1.SignResponse { return respond(c.Authority, csr, nil) }},
		"nothing":     {"certificate: none", func([]byte) *cav1.SignResponse { return &cav1.SignResponse{} }},
		"garbage":     {"certificate:", func([]byte) *cav1.SignResponse { return &cav1.SignResponse{Chain: [][]byte{{1, 2, 3}}} }},
		"without issuer": {"does not verify", func(csr []byte) *cav1.SignResponse {
			r := respond(c.Authority, csr, c.Authority.Roots())
			r.Chain = r.Chain[:1]
			return r
		}},
	} {
		t.Run(name, func(t *testing.T) {
			p := start(t, serveWrong(t, c, catest.MeshdID(t), tc.answer), clocktest.New(clk.Now()))
			p.trust(t, c)
			p.token(t, c)
			p.pass(t, 10*time.Second)
			p.wantLog(t, tc.want)
			d := newDelta(t, p)
			d.subscribe(agent.Leaf)
			d.nothingElse()
		})
	}
}

// serveWrong serves w with a certificate of c for id.
func serveWrong(t *testing.T, c *catest.CA, id identity.ID, answer func([]byte) *cav1.SignResponse) string {
	t.Helper()
	cfg, err := c.Authority.ServerTLS(id)
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer(grpc.Creds(credentials.NewTLS(cfg)))
	cav1.RegisterCertificateServiceServer(srv, wrongCA{answer: answer})
	return catest.Serve(t, srv, "127.0.0.1:0")
}

// TestWrongServer: the token goes to meshd alone, by its exact identity and trust anchor.
func TestWrongServer(t *testing.T) {
	clk := clocktest.New(time.Now().Truncate(time.Second))
	c, other := catest.New(t, ca.Lifetimes{}, clk), catest.New(t, ca.Lifetimes{}, clk)
	workload, err := identity.New(catest.TrustDomain, "shop", "loans")
	if err != nil {
		t.Fatal(err)
	}
	reached := func([]byte) *cav1.SignResponse {
		t.Error("the token was sent")
		return &cav1.SignResponse{}
	}
	for name, tc := range map[string]struct{ address, want string }{
		"another workload of the mesh": {serveWrong(t, c, workload, reached), "not spiffe://cluster.local/ns/meshd-system/sa/meshd"},
		"meshd of another CA":          {serveWrong(t, other, catest.MeshdID(t), reached), "certificate signed by unknown authority"},
	} {
		p := start(t, tc.address, clocktest.New(clk.Now()))
		p.trust(t, c)
		p.token(t, c)
		p.pass(t, 10*time.Second)
		if !strings.Contains(p.log.String(), tc.want) {
			t.Errorf("%s: the log does not say %q", name, tc.want)
		}
	}
}

// TestRefusedToken: the agent says the CA's reason, and gets its certificate with a good token.
func TestRefusedToken(t *testing.T) {
	clk := clocktest.New(time.Now().Truncate(time.Second))
	c := catest.New(t, ca.Lifetimes{}, clk)
	p := start(t, catest.Serve(t, c.Server(t, nil, slog.New(slog.DiscardHandler)), "127.0.0.1:0"), clk)
	p.trust(t, c)
	claims := catest.Claims("shop", "accounts", clk.Now())
	claims["aud"] = "vault"
	catest.WriteFile(t, p.path("token"), c.Tokens.Sign(t, claims)+"\n")
	p.pass(t, 10*time.Second)
	p.wantLog(t, "TokenAudience: the token is not for meshd")
	catest.WriteFile(t, p.path("token"), "two tokens")
	p.pass(t, 10*time.Second)
	p.wantLog(t, "holds more than a token")
	p.token(t, c)
	p.pass(t, 10*time.Second)
	p.wantLog(t, "certificate received")
}
