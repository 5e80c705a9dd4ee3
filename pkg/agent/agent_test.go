package agent_test

import (
	"bytes"
	"context"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"go.uber.org/goleak"

	"github.com/meshd-io/meshd/internal/clock"
	"github.com/meshd-io/meshd/pkg/agent"
	"github.com/meshd-io/meshd/pkg/ca"
	"github.com/meshd-io/meshd/pkg/ca/catest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// syncBuffer is a log that a test reads while the agent writes.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// pod is the file system of one workload with a running agent.
type pod struct {
	dir string
	log *syncBuffer
}

func (p *pod) path(name string) string { return filepath.Join(p.dir, name) }

func (p *pod) socket() string { return "unix://" + p.path("agent.sock") }

// trust and token write the files that kubelet projects.
func (p *pod) trust(t *testing.T, c *catest.CA) {
	t.Helper()
	catest.WriteFile(t, p.path("ca.crt"), c.Authority.Bundle())
}

func (p *pod) token(t *testing.T, c *catest.CA, account string, now time.Time) {
	t.Helper()
	catest.WriteFile(t, p.path("token"), c.Tokens.Token(t, "shop", account, now))
}

// start runs an agent for meshd at address until the test ends.
func start(t *testing.T, address string, clk clock.Clock) *pod {
	t.Helper()
	p := &pod{dir: t.TempDir(), log: &syncBuffer{}}
	a, err := agent.New(agent.Config{
		Meshd: address, MeshdID: catest.MeshdID(t).String(),
		TrustFile: p.path("ca.crt"), TokenFile: p.path("token"), Socket: p.path("agent.sock"),
		Clock: clk, Rand: func() float64 { return 0.5 }, Log: slog.New(slog.NewTextHandler(p.log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("agent: %v", err)
		}
		if t.Failed() {
			t.Logf("log of the agent:\n%s", p.log)
		}
	})
	return p
}

func timeout(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// TestLateFiles starts an agent with no file at all; a Workload API client of
// go-spiffe waits, and gets its certificate when the files are there.
func TestLateFiles(t *testing.T) {
	c := catest.New(t, ca.Lifetimes{}, nil)
	addr := catest.Serve(t, c.Server(t, nil, slog.New(slog.DiscardHandler)), "127.0.0.1:0")
	p := start(t, addr, nil)
	p.trust(t, c)
	p.token(t, c, "accounts", time.Now())
	// The source tries again until the socket is there, and waits for its first certificate.
	source, err := workloadapi.NewX509Source(timeout(t), workloadapi.WithClientOptions(workloadapi.WithAddr(p.socket())))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = source.Close() }()
	svid, err := source.GetX509SVID()
	if err != nil {
		t.Fatal(err)
	}
	if want := "spiffe://cluster.local/ns/shop/sa/accounts"; svid.ID.String() != want {
		t.Errorf("ID is %s, want %s", svid.ID, want)
	}
	if _, err := source.GetX509BundleForTrustDomain(svid.ID.TrustDomain()); err != nil {
		t.Error(err)
	}
}
