package envoytest

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

const (
	startWithin = 30 * time.Second
	askEvery    = 20 * time.Millisecond
)

// Start runs an Envoy until the test ends. It comes back when /ready on the
// admin socket (a path in the bootstrap) says so, and fails the test if it does not.
func Start(t testing.TB, bootstrap []byte, adminSocket string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "bootstrap.yaml")
	if err := os.WriteFile(file, bootstrap, 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	command := exec.Command(Binary(t), "-c", file, "--concurrency", "1", "--log-level", "warning",
		"--use-dynamic-base-id", "--drain-time-s", "1")
	command.Stdout, command.Stderr = &out, &out
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	t.Cleanup(func() {
		// It may have ended by itself; then there is nobody to tell.
		_ = command.Process.Signal(syscall.SIGTERM)
		<-ended
		if t.Failed() {
			t.Logf("Envoy said:\n%s", out.Bytes())
		}
	})
	client := UnixClient(adminSocket)
	defer client.CloseIdleConnections()
	deadline := time.After(startWithin)
	for ticker := time.NewTicker(askEvery); ; {
		if answer, err := client.Get("http://admin/ready"); err == nil {
			_ = answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				ticker.Stop()
				return
			}
		}
		select {
		case <-ticker.C:
		case err := <-ended:
			ended <- err
			t.Fatalf("Envoy ended: %v", err)
		case <-deadline:
			t.Fatal("Envoy is not ready")
		}
	}
}

// UnixClient speaks HTTP to a socket, whatever host a URL names. It follows no redirects.
func UnixClient(socket string) *http.Client {
	var dialer net.Dialer
	return &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", socket)
		}},
	}
}
