package sandbox_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/meshd-io/meshd/pkg/lab/network"
	"github.com/meshd-io/meshd/pkg/lab/sandbox"
)

// partEnv tells which part this process of the test binary plays.
const (
	partEnv  = "MESHD_SANDBOX_TEST_PART"
	partHost = "host" // the tests, in a network namespace that plays the machine's
	partLab  = "lab"  // a lab's daemon, running one test's inside
	partIdle = "idle" // a lab's daemon that waits to be killed
)

// TestMain runs the tests in a network namespace of their own, so that host
// links do not meet other labs on the machine.
func TestMain(m *testing.M) {
	sandbox.RunChild()
	switch os.Getenv(partEnv) {
	case partHost:
		// What others mount on the machine meanwhile is not this test's.
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			fmt.Fprintln(os.Stderr, "FAIL: make the mounts private:", err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	case partLab, partUser:
		os.Exit(m.Run())
	case partIdle:
		os.Exit(runIdle())
	}
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "FAIL: the tests of pkg/lab/sandbox make namespaces and users: run them as root")
		os.Exit(1)
	}
	cmd := &exec.Cmd{
		Path: "/proc/self/exe", Args: os.Args, Env: append(os.Environ(), partEnv+"="+partHost),
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		SysProcAttr: &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS},
	}
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		fmt.Fprintln(os.Stderr, "FAIL: make namespaces:", err)
		os.Exit(1)
	}
	os.Exit(cmd.ProcessState.ExitCode())
}

// inLab is called by a test twice: on the host it starts a lab whose daemon
// runs the same test again, and there it runs the inside.
func inLab(t *testing.T, inside func(t *testing.T, l *lab)) {
	t.Helper()
	if os.Getenv(partEnv) == partLab {
		inside(t, openLab(t))
		return
	}
	h, log := startPart(t, partLab, false, "-test.run=^"+t.Name()+"$", "-test.v")
	waitUntil(t, "the lab has ended", func() bool { return !h.Alive() })
	raw, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("inside:\n%s", raw)
	if !bytes.HasSuffix(bytes.TrimSpace(raw), []byte("\nPASS")) {
		t.Error("failed inside of the lab")
	}
}

// everywhere is inLab as root and as an ordinary user.
func everywhere(t *testing.T, inside func(t *testing.T, l *lab)) {
	t.Helper()
	inLab(t, inside)
	if os.Getenv(partEnv) == partHost {
		out, err := asUser(t, true)
		t.Logf("as user:\n%s", out)
		if err != nil {
			t.Error(err)
		}
	}
}

// startPart starts a lab whose daemon is this test binary.
func startPart(t *testing.T, part string, hostLink bool, args ...string) (h sandbox.Handle, log string) {
	t.Helper()
	dir := labDir(t)
	log = filepath.Join(dir, "log")
	out, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	env := []string{partEnv + "=" + part, "PATH=" + os.Getenv("PATH"), "GOCOVERDIR=" + os.Getenv("GOCOVERDIR")}
	h, err = sandbox.Start(t.Context(), sandbox.Options{
		Dir: dir, Args: args, Env: env, Output: out, Network: network.DefaultConfig(), HostLink: hostLink,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Stop(t.Context()); err != nil { // its context is done: a kill
			t.Error(err)
		}
	})
	return h, log
}

// labDir is a directory that every user may enter.
func labDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "meshd-lab-test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// lab is the inside of a lab.
type lab struct {
	*sandbox.Sandbox
	net *network.Network
}

func openLab(t *testing.T) *lab {
	t.Helper()
	s, err := sandbox.Open()
	if err != nil {
		t.Fatal(err)
	}
	n, err := network.New(network.DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	return &lab{Sandbox: s, net: n}
}

func (l *lab) pod(t *testing.T, name string) *network.Namespace {
	t.Helper()
	ns, err := l.net.AddPod(name, nil)
	if err != nil {
		t.Fatal(err)
	}
	return ns
}

// start starts a container that is killed with the test.
func (l *lab) start(t *testing.T, spec sandbox.Spec) *sandbox.Process {
	t.Helper()
	if spec.Name == "" {
		spec.Name = strings.ReplaceAll(t.Name(), "/", "_")
	}
	p, err := l.Start(spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Kill(); err != nil {
			t.Error(err)
		}
		p.Wait()
	})
	return p
}

// idle is a container to exec into.
func (l *lab) idle(t *testing.T, spec sandbox.Spec) *sandbox.Process {
	t.Helper()
	spec.Command = []string{"sleep", "infinity"}
	return l.start(t, spec)
}

// sh runs a shell line in a container.
func (l *lab) sh(t *testing.T, p *sandbox.Process, line string) (out string, code int) {
	t.Helper()
	var buf bytes.Buffer
	exit, err := l.Exec(t.Context(), p, sandbox.ExecSpec{Command: []string{"sh", "-c", line}, Stdout: &buf, Stderr: &buf})
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return strings.TrimSpace(buf.String()), exit.Code
}

// want runs a shell line and compares its output.
func (l *lab) want(t *testing.T, p *sandbox.Process, line, want string) {
	t.Helper()
	if out, _ := l.sh(t, p, line); out != want {
		t.Errorf("%s: got %q, want %q", line, out, want)
	}
}

// patience bounds every wait; nothing takes that long.
const patience = 30 * time.Second

// waitUntil polls a condition that nothing announces.
func waitUntil(t *testing.T, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}
