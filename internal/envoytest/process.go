package envoytest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// Patience bounds what a test waits for in an Envoy: far beyond what anything takes.
const Patience = 30 * time.Second

// Envoy is a running process.
type Envoy struct {
	t      testing.TB
	cmd    *exec.Cmd
	client *http.Client
	log    *logBuffer
	exited chan struct{}
	once   sync.Once
}

// Run runs an Envoy until the end of the test. The bootstrap (YAML or JSON)
// is made for a directory of its own; its admin must listen on AdminSocket of
// it. What Envoy logs is shown when the test has failed.
func Run(t testing.TB, bootstrap func(dir string) string) *Envoy {
	t.Helper()
	binary := Binary(t)
	dir, err := os.MkdirTemp("", "envoy") // short: socket paths end at 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	file := filepath.Join(dir, "bootstrap.yaml")
	if err := os.WriteFile(file, []byte(bootstrap(dir)), 0o600); err != nil {
		t.Fatal(err)
	}
	e := &Envoy{t: t, log: &logBuffer{}, exited: make(chan struct{})}
	e.cmd = exec.Command(binary, "-c", file, "--concurrency", "1", "--disable-hot-restart",
		"--drain-time-s", "1", "--log-level", "warning")
	e.cmd.Stdout, e.cmd.Stderr = e.log, e.log
	if err := e.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = e.cmd.Wait()
		close(e.exited)
	}()
	e.client = UnixClient(AdminSocket(dir))
	t.Cleanup(func() {
		e.Stop()
		if t.Failed() {
			t.Logf("Envoy's log:\n%s", e.log)
		}
	})
	return e
}

// AdminSocket is where an Envoy that was started for a directory has its admin.
func AdminSocket(dir string) string { return filepath.Join(dir, "admin.sock") }

// Stop ends the process and waits for it.
func (e *Envoy) Stop() {
	e.once.Do(func() {
		_ = e.cmd.Process.Kill()
		<-e.exited
		e.client.CloseIdleConnections()
	})
}

// Get asks the admin for a path such as "/clusters?format=json".
func (e *Envoy) Get(path string) (string, error) { return e.admin(http.MethodGet, path) }

// Post tells the admin, such as "/reset_counters".
func (e *Envoy) Post(path string) (string, error) { return e.admin(http.MethodPost, path) }

func (e *Envoy) admin(method, path string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://admin"+path, nil)
	if err != nil {
		return "", err
	}
	res, err := e.client.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return "", err
	}
	if res.StatusCode != http.StatusOK {
		return "", fmt.Errorf("admin %s: %s: %s", path, res.Status, body)
	}
	return string(body), nil
}

// Await asks the admin until the answer holds.
func (e *Envoy) Await(path, what string, holds func(answer string) bool) {
	e.t.Helper()
	last := ""
	Eventually(e.t, what, func() bool {
		select {
		case <-e.exited:
			e.t.Fatalf("Envoy has ended while waiting for %s", what)
		default:
		}
		answer, err := e.Get(path)
		if err != nil {
			return false // not there yet
		}
		last = answer
		return holds(answer)
	}, func() string { return last })
}

// Ready waits until Envoy has its first configuration.
func (e *Envoy) Ready() {
	e.t.Helper()
	e.Await("/ready", "a ready Envoy", func(s string) bool { return strings.HasPrefix(s, "LIVE") })
}

// Stat is a counter's or gauge's value; 0 where there is none.
func (e *Envoy) Stat(name string) uint64 {
	e.t.Helper()
	answer, err := e.Get("/stats?usedonly&filter=" + "^" + name + "$")
	if err != nil {
		e.t.Fatal(err)
	}
	var n uint64
	if _, value, ok := strings.Cut(answer, ": "); ok {
		_, _ = fmt.Sscan(value, &n)
	}
	return n
}

// Eventually looks until the condition holds, and fails the test with what was
// seen last when it never does.
func Eventually(t testing.TB, what string, holds func() bool, seen func() string) {
	t.Helper()
	deadline := time.NewTimer(Patience)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("no %s; last seen:\n%s", what, seen())
		}
	}
}

// FreePort is a TCP port of the loopback that nobody has now.
func FreePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port
}

type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
