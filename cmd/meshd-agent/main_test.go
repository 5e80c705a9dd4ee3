package main

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/workloadapi"

	"github.com/meshd-io/meshd/pkg/ca"
	"github.com/meshd-io/meshd/pkg/ca/catest"
)

// tags of the release build: without x/net/trace the linker can drop unused methods (3 MB of RSS).
const tags = "grpcnotrace"

// TestImports keeps the agent small: one runs beside every workload.
func TestImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-tags", tags, "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, pkg := range strings.Fields(string(out)) {
		for _, not := range []string{"k8s.io/", "sigs.k8s.io/", "html/template", "text/template", "github.com/go-jose/", "github.com/prometheus/"} {
			if strings.HasPrefix(pkg, not) {
				t.Errorf("imports %s", pkg)
			}
		}
	}
}

// build makes the binary as it is released.
func build(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "meshd-agent")
	cmd := exec.Command("go", "build", "-tags", tags, "-trimpath", "-ldflags", "-s -w", "-o", bin, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return bin
}

// TestProcess runs the real process against a real CA, ends it by SIGTERM, and
// prints what it weighs.
func TestProcess(t *testing.T) {
	c := catest.New(t, ca.Lifetimes{}, nil)
	addr := catest.Serve(t, c.Server(t, nil, slog.New(slog.DiscardHandler)), "127.0.0.1:0")
	dir := t.TempDir()
	trust, token, socket := filepath.Join(dir, "ca.crt"), filepath.Join(dir, "token"), filepath.Join(dir, "agent.sock")
	catest.WriteFile(t, trust, c.Authority.Bundle())
	catest.WriteFile(t, token, c.Tokens.Token(t, "shop", "accounts", time.Now()))

	var log bytes.Buffer
	cmd := exec.Command(build(t), "run", "--meshd", addr, "--meshd-id", catest.MeshdID(t).String(),
		"--trust", trust, "--token", token, "--socket", socket)
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	// The source tries again until the socket is there.
	source, err := workloadapi.NewX509Source(ctx, workloadapi.WithClientOptions(workloadapi.WithAddr("unix://"+socket)))
	if err == nil {
		t.Log(rss(t, cmd.Process.Pid))
		var out strings.Builder
		if err := printStatus(ctx, socket, &out); err != nil || !strings.Contains(out.String(), "spiffe://cluster.local/ns/shop/sa/accounts\ncertificate expires ") {
			t.Errorf("status: %v: %q", err, out.String())
		}
		err = source.Close()
	}
	if sigErr := cmd.Process.Signal(syscall.SIGTERM); sigErr != nil {
		t.Error(sigErr)
	}
	if waitErr := cmd.Wait(); waitErr != nil {
		t.Errorf("SIGTERM: %v", waitErr)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, &log)
	}
}

// rss is the resident memory of a process, as the kernel says it.
func rss(t *testing.T, pid int) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		t.Skip("no /proc here: ", err)
	}
	var out []string
	for line := range strings.Lines(string(raw)) {
		if strings.HasPrefix(line, "VmRSS") || strings.HasPrefix(line, "RssAnon") || strings.HasPrefix(line, "RssFile") {
			out = append(out, strings.Join(strings.Fields(line), " "))
		}
	}
	return strings.Join(out, ", ")
}
