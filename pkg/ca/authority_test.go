package ca_test

import (
	"context"
	"crypto/x509"
	"log/slog"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"go.uber.org/goleak"

	"github.com/meshd-io/meshd/internal/clock/clocktest"
	"github.com/meshd-io/meshd/pkg/ca"
	"github.com/meshd-io/meshd/pkg/ca/catest"
	"github.com/meshd-io/meshd/pkg/ca/refusal"
	"github.com/meshd-io/meshd/pkg/ca/store"
	"github.com/meshd-io/meshd/pkg/identity"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func accounts(t testing.TB) identity.ID {
	t.Helper()
	id, err := identity.New(catest.TrustDomain, "shop", "accounts")
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// issue gives a certificate that go-spiffe has verified at the clock's time.
func issue(t testing.TB, a *ca.Authority, now time.Time, ttl time.Duration) ca.Issued {
	t.Helper()
	_, csr := catest.CSR(t, &x509.CertificateRequest{})
	issued, err := a.Sign(accounts(t), csr, ttl)
	if err != nil {
		t.Fatal(err)
	}
	verify(t, issued, now)
	return issued
}

func verify(t testing.TB, issued ca.Issued, now time.Time) {
	t.Helper()
	td := spiffeid.RequireTrustDomainFromString(catest.TrustDomain)
	id, _, err := x509svid.Verify(issued.Chain, x509bundle.FromX509Authorities(td, issued.Roots), x509svid.WithTime(now))
	if err != nil {
		t.Fatal(err)
	}
	if id != accounts(t).SPIFFE() {
		t.Errorf("verified as %s", id)
	}
}

func TestLeaf(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	c := catest.New(t, ca.Lifetimes{}, clocktest.New(now))
	issued := issue(t, c.Authority, now, 0)
	leaf, issuer := issued.Chain[0], issued.Chain[1]
	if got := leaf.NotAfter.Sub(now); got != time.Hour {
		t.Errorf("lives for %s, want 1h", got)
	}
	if got := now.Sub(leaf.NotBefore); got != ca.DefaultSkew {
		t.Errorf("is backdated by %s, want %s", got, ca.DefaultSkew)
	}
	if !issuer.MaxPathLenZero || issuer.MaxPathLen != 0 {
		t.Error("the issuer may sign CAs")
	}
	if len(issuer.PermittedURIDomains) != 1 || issuer.PermittedURIDomains[0] != catest.TrustDomain {
		t.Errorf("the issuer may name %v", issuer.PermittedURIDomains)
	}
	if bits := leaf.SerialNumber.BitLen(); bits < 64 || bits > 129 {
		t.Errorf("serial has %d bits", bits)
	}
	if other := issue(t, c.Authority, now, 0).Chain[0]; other.SerialNumber.Cmp(leaf.SerialNumber) == 0 {
		t.Error("two leaves have the same serial")
	}
	if short := issue(t, c.Authority, now, time.Minute); short.NotAfter().Sub(now) != time.Minute {
		t.Errorf("a wished lifetime of 1m became %s", short.NotAfter().Sub(now))
	}
}

func TestForeignIdentityIsNotSigned(t *testing.T) {
	c := catest.New(t, ca.Lifetimes{}, nil)
	_, csr := catest.CSR(t, &x509.CertificateRequest{})
	foreign, err := identity.New("other.domain", "shop", "accounts")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Authority.Sign(foreign, csr, 0); err == nil {
		t.Error("an identity of another trust domain was signed")
	}
	if _, err := c.Authority.Sign(identity.ID{}, csr, 0); refusal.ReasonOf(err) != refusal.NoIdentity {
		t.Errorf("no identity: %v", err)
	}
}

func TestLifetimesAreChecked(t *testing.T) {
	good := ca.DefaultLifetimes()
	c := catest.New(t, good, nil)
	for _, tc := range []struct {
		name string
		l    ca.Lifetimes
		want string
	}{
		{"leaf zero", ca.Lifetimes{Root: good.Root, Issuer: good.Issuer}, "leaf lifetime"},
		{"leaf negative", ca.Lifetimes{Root: good.Root, Issuer: good.Issuer, Leaf: -time.Hour}, "leaf lifetime"},
		{"leaf tiny", ca.Lifetimes{Root: good.Root, Issuer: good.Issuer, Leaf: time.Millisecond}, "leaf lifetime"},
		{"leaf overflows", ca.Lifetimes{Root: good.Root, Issuer: good.Issuer, Leaf: math.MaxInt64}, "leaf lifetime"},
		{"leaf above issuer", ca.Lifetimes{Root: good.Root, Issuer: time.Hour, Leaf: 2 * time.Hour}, "longer than the issuer's"},
		{"issuer zero", ca.Lifetimes{Root: good.Root, Leaf: time.Hour}, "issuer lifetime"},
		{"issuer above root", ca.Lifetimes{Root: time.Hour, Issuer: 2 * time.Hour, Leaf: time.Hour}, "longer than the root's"},
		{"root negative", ca.Lifetimes{Root: -1, Issuer: time.Hour, Leaf: time.Hour}, "root lifetime"},
	} {
		if err := c.Authority.SetLifetimes(tc.l); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
		if c.Authority.Lifetimes() != good {
			t.Fatalf("%s: refused lifetimes are in force", tc.name)
		}
		if _, err := ca.New(ca.Config{TrustDomain: catest.TrustDomain, Store: store.File{Dir: t.TempDir()}, Lifetimes: tc.l}); err == nil {
			t.Errorf("%s: taken at the start", tc.name)
		}
	}
}

func TestSetLifetimes(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	c := catest.New(t, ca.Lifetimes{}, clocktest.New(now))
	before := c.Authority.Issuer()
	l := ca.Lifetimes{Root: 87600 * time.Hour, Issuer: 10 * time.Minute, Leaf: time.Minute}
	if err := c.Authority.SetLifetimes(l); err != nil {
		t.Fatal(err)
	}
	issued := issue(t, c.Authority, now, 0)
	if issued.NotAfter().Sub(now) != time.Minute {
		t.Errorf("leaf lives for %s", issued.NotAfter().Sub(now))
	}
	if issued.Chain[1].Equal(before) || issued.Chain[1].NotAfter.Sub(now) != 10*time.Minute {
		t.Errorf("issuer is the old one or lives for %s", issued.Chain[1].NotAfter.Sub(now))
	}
}

// TestIssuerRenewal: Run makes a new issuer at half-life, and no leaf ever outlives its issuer.
func TestIssuerRenewal(t *testing.T) {
	clk := clocktest.New(time.Now().Truncate(time.Second))
	l := ca.Lifetimes{Root: 1000 * time.Hour, Issuer: 2 * time.Hour, Leaf: 2 * time.Hour}
	c := catest.New(t, l, clk)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	done := make(chan error, 1)
	go func() { done <- c.Authority.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	for range 5 {
		before := c.Authority.Issuer()
		issued := issue(t, c.Authority, clk.Now(), 0)
		if issued.NotAfter().After(issued.Chain[1].NotAfter) {
			t.Fatal("the leaf outlives its issuer")
		}
		wait, err := clk.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if wait != time.Hour {
			t.Errorf("renewal is due in %s, want 1h", wait)
		}
		clk.Advance(wait)
		if _, err := clk.Next(ctx); err != nil { // Run has done its work and sleeps again
			t.Fatal(err)
		}
		if c.Authority.Issuer().Equal(before) {
			t.Fatal("the issuer was not renewed at half-life")
		}
		verify(t, issued, clk.Now()) // what the old issuer signed stays good
	}
}

// TestSignRenewsWithoutRun: signing makes the issuer that it needs.
func TestSignRenewsWithoutRun(t *testing.T) {
	clk := clocktest.New(time.Now().Truncate(time.Second))
	c := catest.New(t, ca.Lifetimes{}, clk)
	clk.Advance(2000 * time.Hour)
	issued := issue(t, c.Authority, clk.Now(), 0)
	if issued.NotAfter().Sub(clk.Now()) != time.Hour {
		t.Errorf("leaf lives for %s", issued.NotAfter().Sub(clk.Now()))
	}
}

// TestEndOfRoot: what is signed near the root's end ends with it, and nothing is signed after.
func TestEndOfRoot(t *testing.T) {
	clk := clocktest.New(time.Now().Truncate(time.Second))
	c := catest.New(t, ca.Lifetimes{Root: 10 * time.Hour, Issuer: 2 * time.Hour, Leaf: time.Hour}, clk)
	root := c.Authority.Roots()[0]
	clk.Advance(9*time.Hour + 45*time.Minute)
	if issued := issue(t, c.Authority, clk.Now(), 0); !issued.NotAfter().Equal(root.NotAfter) {
		t.Errorf("leaf ends at %s, the root at %s", issued.NotAfter(), root.NotAfter)
	}
	clk.Advance(time.Hour)
	_, csr := catest.CSR(t, &x509.CertificateRequest{})
	if _, err := c.Authority.Sign(accounts(t), csr, 0); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("after the root's end: %v", err)
	}
}

// TestRestart: another process with the same store has the same root and its own issuer.
func TestRestart(t *testing.T) {
	cfg := ca.Config{TrustDomain: catest.TrustDomain, Store: store.File{Dir: t.TempDir()}, Log: slog.New(slog.DiscardHandler)}
	a, err := ca.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	b, err := ca.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if a.Bundle() != b.Bundle() {
		t.Error("the root is another one after a restart")
	}
	if a.Issuer().Equal(b.Issuer()) {
		t.Error("two processes share an issuer")
	}
	verify(t, ca.Issued{Chain: issue(t, a, time.Now(), 0).Chain, Roots: b.Roots()}, time.Now())
	cfg.TrustDomain = "other.domain"
	if _, err := ca.New(cfg); err == nil || !strings.Contains(err.Error(), "trust domain") {
		t.Errorf("the root of cluster.local in other.domain: %v", err)
	}
}

// TestConcurrent signs while lifetimes change, for the race detector.
func TestConcurrent(t *testing.T) {
	c := catest.New(t, ca.Lifetimes{}, nil)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 20 {
				issue(t, c.Authority, time.Now(), 0)
				if _, err := c.Authority.ServerCertificate(catest.MeshdID(t)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range 20 {
		l := ca.DefaultLifetimes()
		l.Issuer += time.Duration(i) * time.Hour
		if err := c.Authority.SetLifetimes(l); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
}

// TestTrustDomains that SPIFFE allows must work with the name constraints, or be refused at the start.
func TestTrustDomains(t *testing.T) {
	for _, td := range []string{"cluster.local", "local", "my_mesh.example", "a-b.c", "x--y", strings.Repeat("a", 63) + ".b"} {
		a, err := ca.New(ca.Config{TrustDomain: td, Store: store.File{Dir: t.TempDir()}, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Errorf("%s: %v", td, err)
			continue
		}
		id, err := identity.New(td, "shop", "accounts")
		if err != nil {
			t.Fatal(err)
		}
		_, csr := catest.CSR(t, &x509.CertificateRequest{})
		if _, err := a.Sign(id, csr, 0); err != nil {
			t.Errorf("%s: %v", td, err)
		}
	}
	for _, td := range []string{"", "Cluster.Local", "a/b", "spiffe://x", "10.0.0.1"} {
		if _, err := ca.New(ca.Config{TrustDomain: td, Store: store.File{Dir: t.TempDir()}}); err == nil {
			t.Errorf("%q was taken as a trust domain", td)
		}
	}
}

func BenchmarkSign(b *testing.B) {
	c := catest.New(b, ca.Lifetimes{}, nil)
	_, csr := catest.CSR(b, &x509.CertificateRequest{})
	id := accounts(b)
	b.ReportAllocs()
	before := catest.CPUTime()
	for b.Loop() {
		if _, err := c.Authority.Sign(id, csr, 0); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64((catest.CPUTime()-before).Microseconds())/float64(b.N), "cpu-us/op")
}
