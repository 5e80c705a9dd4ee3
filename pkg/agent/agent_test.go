package agent_test

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"go.uber.org/goleak"

	"github.com/meshd-io/meshd/internal/clock/clocktest"
	"github.com/meshd-io/meshd/pkg/agent"
	"github.com/meshd-io/meshd/pkg/ca"
	"github.com/meshd-io/meshd/pkg/ca/catest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// loops of the agent that wait on its clock: renewal and the trust file.
const loops = 2

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

// pod is the file system of one workload with a running agent, at a time that the test sets.
type pod struct {
	dir   string
	log   *syncBuffer
	clock *clocktest.Fake
}

func (p *pod) path(name string) string { return filepath.Join(p.dir, name) }

func (p *pod) socket() string { return "unix://" + p.path("agent.sock") }

// trust and token write the files that kubelet projects.
func (p *pod) trust(t *testing.T, c *catest.CA) {
	t.Helper()
	catest.WriteFile(t, p.path("ca.crt"), c.Authority.Bundle())
}

func (p *pod) token(t *testing.T, c *catest.CA) {
	t.Helper()
	catest.WriteFile(t, p.path("token"), c.Tokens.Token(t, "shop", "accounts", p.clock.Now()))
}

// idle waits until the agent has done all that it can do at this time.
func (p *pod) idle(t *testing.T) {
	t.Helper()
	if err := p.clock.Block(timeout(t), loops); err != nil {
		t.Fatalf("the agent does not come to rest: %v", err)
	}
}

// pass lets time pass and waits until the agent has done what was due.
func (p *pod) pass(t *testing.T, d time.Duration) {
	t.Helper()
	p.idle(t)
	p.clock.Advance(d)
	p.idle(t)
}

// start runs an agent for meshd at address until the test ends.
func start(t *testing.T, address string, clk *clocktest.Fake) *pod {
	t.Helper()
	p := &pod{dir: t.TempDir(), log: &syncBuffer{}, clock: clk}
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

// running is an agent that has its first certificate, and its CA.
func running(t *testing.T) (*pod, *catest.CA) {
	t.Helper()
	clk := clocktest.New(time.Now().Truncate(time.Second))
	c := catest.New(t, ca.Lifetimes{}, clk)
	p := start(t, catest.Serve(t, c.Server(t, nil, slog.New(slog.DiscardHandler)), "127.0.0.1:0"), clk)
	p.trust(t, c)
	p.token(t, c)
	p.pass(t, 10*time.Second)
	p.source(t)
	return p, c
}

func timeout(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// source is go-spiffe's client of the Workload API, which has its first certificate.
func (p *pod) source(t *testing.T) *workloadapi.X509Source {
	t.Helper()
	s, err := workloadapi.NewX509Source(timeout(t), workloadapi.WithClientOptions(workloadapi.WithAddr(p.socket())))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func (p *pod) wantLog(t *testing.T, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(p.log.String(), w) {
			t.Errorf("the log does not say %q", w)
		}
	}
}

// TestLateEverything starts an agent that has nothing: it says what it waits
// for, one after the other, and serves when the last has come.
func TestLateEverything(t *testing.T) {
	clk := clocktest.New(time.Now().Truncate(time.Second))
	c := catest.New(t, ca.Lifetimes{}, clk)
	// An address where nobody listens yet.
	early := c.Server(t, nil, nil)
	addr := catest.Serve(t, early, "127.0.0.1:0")
	early.Stop()

	p := start(t, addr, clk)
	p.idle(t)
	p.wantLog(t, "no certificate yet", "trust file: open "+p.path("ca.crt"))
	p.trust(t, c)
	p.pass(t, 10*time.Second)
	p.wantLog(t, "token file: open "+p.path("token"))
	p.token(t, c)
	p.pass(t, 10*time.Second)
	p.wantLog(t, "Unavailable", addr)
	if n := strings.Count(p.log.String(), "token file: open"); n != 1 {
		t.Errorf("what is waited for is said %d times, want once", n)
	}
	catest.Serve(t, c.Server(t, nil, slog.New(slog.DiscardHandler)), addr)
	p.pass(t, 10*time.Second)
	svid, err := p.source(t).GetX509SVID()
	if err != nil {
		t.Fatal(err)
	}
	if want := "spiffe://cluster.local/ns/shop/sa/accounts"; svid.ID.String() != want {
		t.Errorf("ID is %s, want %s", svid.ID, want)
	}
}

// TestRenewal: at half-life and not before, with a new key, and the token file read again.
func TestRenewal(t *testing.T) {
	p, c := running(t)
	source := p.source(t)
	first, err := source.GetX509SVID()
	if err != nil {
		t.Fatal(err)
	}
	p.token(t, c)
	half := first.Certificates[0].NotAfter.Sub(p.clock.Now()) / 2
	p.pass(t, half-11*time.Second)
	if n := strings.Count(p.log.String(), "certificate received"); n != 1 {
		t.Fatalf("%d certificates before half-life, want 1", n)
	}
	p.pass(t, 20*time.Second)
	p.wantLog(t, "renewIn=30m0s")
	for timeout(t).Err() == nil {
		svid, err := source.GetX509SVID()
		if err != nil {
			t.Fatal(err)
		}
		if svid.Certificates[0].SerialNumber.Cmp(first.Certificates[0].SerialNumber) != 0 {
			if svid.PrivateKey.Public() == first.PrivateKey.Public() {
				t.Error("the key is the old one")
			}
			return
		}
		if err := source.WaitUntilUpdated(timeout(t)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestMeshdAway: the last certificate is served on, the log says until when, and
// once meshd is back the certificate is renewed.
func TestMeshdAway(t *testing.T) {
	clk := clocktest.New(time.Now().Truncate(time.Second))
	c := catest.New(t, ca.Lifetimes{}, clk)
	srv := c.Server(t, nil, slog.New(slog.DiscardHandler))
	addr := catest.Serve(t, srv, "127.0.0.1:0")
	p := start(t, addr, clk)
	p.trust(t, c)
	p.token(t, c)
	p.pass(t, 10*time.Second)
	before, err := p.source(t).GetX509SVID()
	if err != nil {
		t.Fatal(err)
	}
	srv.Stop()
	p.pass(t, 31*time.Minute)
	for range 20 {
		p.pass(t, 10*time.Second)
	}
	p.wantLog(t, "certificate is not renewed; the last one is served on", "expires="+before.Certificates[0].NotAfter.UTC().Format("2006-01-02T15:04:05"))
	if n := strings.Count(p.log.String(), "served on"); n > 6 {
		t.Errorf("the same is said %d times in four minutes", n)
	}
	still, err := p.source(t).GetX509SVID()
	if err != nil || still.Certificates[0].SerialNumber.Cmp(before.Certificates[0].SerialNumber) != 0 {
		t.Errorf("while meshd is away: %v", err)
	}
	p.pass(t, time.Hour)
	p.pass(t, time.Minute)
	p.pass(t, time.Minute)
	p.wantLog(t, "certificate has expired")
	p.token(t, c)
	catest.Serve(t, c.Server(t, nil, slog.New(slog.DiscardHandler)), addr)
	p.pass(t, 10*time.Second)
	if n := strings.Count(p.log.String(), "certificate received"); n != 2 {
		t.Errorf("%d certificates were received, want a second one", n)
	}
}

// TestSocket: one that a killed agent has left is taken over; every user of the pod may connect.
func TestSocket(t *testing.T) {
	p, _ := running(t)
	info, err := os.Stat(p.path("agent.sock"))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o666 {
		t.Errorf("socket has mode %o", info.Mode().Perm())
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "agent.sock")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	runStopped(t, path, slog.New(slog.DiscardHandler))
}

// runStopped runs an agent with that socket which has been stopped already.
func runStopped(t *testing.T, socket string, log *slog.Logger) {
	t.Helper()
	a, err := agent.New(agent.Config{
		Meshd: "127.0.0.1:1", MeshdID: catest.MeshdID(t).String(), TrustFile: filepath.Join(filepath.Dir(socket), "ca.crt"),
		TokenFile: filepath.Join(filepath.Dir(socket), "token"), Socket: socket, Log: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.Run(ctx); err != nil {
		t.Error(err)
	}
}

// afterStop is a log that says nothing, and waits with "serving" until all that the agent has begun has ended, as it does when it is stopped.
type afterStop struct{ slog.Handler }

func (afterStop) Enabled(context.Context, slog.Level) bool { return true }

func (afterStop) Handle(_ context.Context, r slog.Record) error {
	for stacks := make([]byte, 1<<20); r.Message == "serving"; runtime.Gosched() {
		if !strings.Contains(string(stacks[:runtime.Stack(stacks, true)]), "sync.(*WaitGroup).Go") {
			return nil
		}
	}
	return nil
}

// TestStoppedBeforeItServes is no failure.
func TestStoppedBeforeItServes(t *testing.T) {
	runStopped(t, filepath.Join(t.TempDir(), "agent.sock"), slog.New(afterStop{slog.DiscardHandler}))
}

func TestConfig(t *testing.T) {
	good := agent.Config{Meshd: "a:1", MeshdID: "spiffe://a/b", TrustFile: "t", TokenFile: "t", Socket: "s"}
	for name, spoil := range map[string]func(*agent.Config){
		"no address": func(c *agent.Config) { c.Meshd = "" },
		"no ID":      func(c *agent.Config) { c.MeshdID = "" },
		"bad ID":     func(c *agent.Config) { c.MeshdID = "meshd" },
		"no trust":   func(c *agent.Config) { c.TrustFile = "" },
		"no token":   func(c *agent.Config) { c.TokenFile = "" },
		"no socket":  func(c *agent.Config) { c.Socket = "" },
	} {
		cfg := good
		spoil(&cfg)
		if _, err := agent.New(cfg); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
