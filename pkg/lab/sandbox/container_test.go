package sandbox_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/meshd-io/meshd/pkg/lab/sandbox"
)

func TestUser(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		p := l.idle(t, sandbox.Spec{User: sandbox.User{UID: 54321, GID: 54322, Groups: []uint32{54322, 12}}, Hostname: "pod-0"})
		l.want(t, p, "id -u; id -g; id -G; hostname", "54321\n54322\n54322 12\npod-0")
		l.want(t, p, "grep -E 'Cap(Prm|Eff|Bnd)' /proc/1/status | cut -f2 | sort -u", "0000000000000000")
		if _, code := l.sh(t, p, "cat /etc/shadow"); code == 0 {
			t.Error("user 54321 reads /etc/shadow")
		}
		l.want(t, p, "getent passwd 54321 | cut -d: -f1,3,4", "user54321:54321:54322")
		root := l.idle(t, sandbox.Spec{Capabilities: []string{"NET_ADMIN", "CAP_KILL"}, NoNewPrivileges: true})
		l.want(t, root, "id -u; grep -E 'Cap(Prm|Eff|Bnd)' /proc/self/status | cut -f2 | sort -u; grep NoNewPrivs /proc/self/status | cut -f2",
			"0\n0000000000001020\n1")
		for _, line := range []string{"mount -t tmpfs x /mnt", "mknod /tmp/disk b 254 0", "echo 1 > /proc/sys/kernel/panic", "chown 5 /etc/passwd"} {
			if _, code := l.sh(t, root, line); code == 0 {
				t.Errorf("root without the capability: %s", line)
			}
		}
	})
}

func TestProcessNamespace(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		p := l.idle(t, sandbox.Spec{})
		l.want(t, p, "cat /proc/1/comm; set -- /proc/[0-9]*; echo $#", "sleep\n2")
	})
}

func TestExec(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		p := l.idle(t, sandbox.Spec{Env: []string{"A=1", "B=2"}, WorkDir: "/srv/new/dir"})
		for line, want := range map[string]int{"exit 0": 0, "exit 7": 7, "kill -9 $$": 137, "kill -15 $$": 143} {
			if _, code := l.sh(t, p, line); code != want {
				t.Errorf("%s: %d, want %d", line, code, want)
			}
		}
		var out, errs bytes.Buffer
		exit, err := l.Exec(t.Context(), p, sandbox.ExecSpec{
			Command: []string{"sh", "-c", "cat; echo $A$B$C; pwd; echo oops >&2"}, Env: []string{"B=3", "C=4"},
			Stdin: strings.NewReader("input\n"), Stdout: &out, Stderr: &errs,
		})
		if err != nil || exit.Code != 0 || out.String() != "input\n134\n/srv/new/dir\n" || errs.String() != "oops\n" {
			t.Errorf("%v, %v, %q, %q", exit, err, out.String(), errs.String())
		}
		errs.Reset()
		exit, err = l.Exec(t.Context(), p, sandbox.ExecSpec{Command: []string{"no-such-command"}, Stderr: &errs})
		if err != nil || exit.Code != 127 || !strings.Contains(errs.String(), "no-such-command: not found on PATH=") {
			t.Errorf("%v, %v, %q", exit, err, errs.String())
		}
		exit, err = l.Exec(t.Context(), p, sandbox.ExecSpec{Command: []string{"/etc/passwd"}})
		if err != nil || exit.Code != 126 {
			t.Errorf("%v, %v", exit, err)
		}
	})
}

// TestExecFiles: descriptors are handed over as they are.
func TestExecFiles(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		p := l.idle(t, sandbox.Spec{})
		file, err := os.Create(filepath.Join(l.Private(), "out"))
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if _, err := l.Exec(t.Context(), p, sandbox.ExecSpec{Command: []string{"echo", "direct"}, Stdout: file}); err != nil {
			t.Fatal(err)
		}
		if raw, err := os.ReadFile(file.Name()); string(raw) != "direct\n" {
			t.Errorf("%q, %v", raw, err)
		}
	})
}

// TestExecEnds: a context that is done ends the command, and an ended
// container takes none.
func TestExecEnds(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		p := l.idle(t, sandbox.Spec{})
		ctx, cancel := context.WithCancel(t.Context())
		running := &signalWriter{written: make(chan struct{})}
		go func() {
			<-running.written
			cancel()
		}()
		_, err := l.Exec(ctx, p, sandbox.ExecSpec{Command: []string{"sh", "-c", "echo up; exec sleep 1000"}, Stdout: running})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		if err := p.Kill(); err != nil {
			t.Error(err)
		}
		if exit := p.Wait(); exit.Code != 137 || exit.Signal != syscall.SIGKILL {
			t.Errorf("got %v", exit)
		}
		if _, err := l.Exec(t.Context(), p, sandbox.ExecSpec{Command: []string{"true"}}); err == nil || !strings.Contains(err.Error(), "has ended") {
			t.Errorf("got %v", err)
		}
		if err := errors.Join(p.Kill(), p.Signal(syscall.SIGTERM)); err != nil {
			t.Errorf("signals to an ended container: %v", err)
		}
	})
}

// signalWriter tells of the first write.
type signalWriter struct {
	once    sync.Once
	written chan struct{}
}

func (w *signalWriter) Write(p []byte) (int, error) {
	w.once.Do(func() { close(w.written) })
	return len(p), nil
}

// TestSignals: a handler runs, and without one SIGTERM ends the container even
// though it is PID 1 of its namespace.
func TestSignals(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		up := &signalWriter{written: make(chan struct{})}
		p := l.start(t, sandbox.Spec{Command: []string{"sh", "-c", "trap 'exit 5' TERM; echo up; while :; do sleep 0.01; done"}, Stdout: up})
		<-up.written
		if err := p.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		if exit := p.Wait(); exit.Code != 5 {
			t.Errorf("with a handler: %v", exit)
		}
		p = l.idle(t, sandbox.Spec{})
		if err := errors.Join(p.Signal(syscall.SIGCHLD), p.Signal(syscall.SIGTERM)); err != nil {
			t.Error(err)
		}
		if exit := p.Wait(); exit.Signal != syscall.SIGKILL {
			t.Errorf("without a handler: %v", exit)
		}
	})
}

// TestOutput: everything is there when the container has ended, and a server
// that is not root may open /dev/stdout and /dev/stderr again.
func TestOutput(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		var out, errs, both bytes.Buffer
		const line = "echo one; echo two >/dev/stdout; echo three >>/dev/stderr; head -c 300000 /dev/zero"
		p := l.start(t, sandbox.Spec{Command: []string{"sh", "-c", line}, User: sandbox.User{UID: 77, GID: 77}, Stdout: &out, Stderr: &errs})
		if exit := p.Wait(); exit.Code != 0 || errs.String() != "three\n" || out.Len() != len("one\ntwo\n")+300000 {
			t.Errorf("%v: %d bytes, stderr %q", exit, out.Len(), errs.String())
		}
		p = l.start(t, sandbox.Spec{Command: []string{"sh", "-c", "echo a; echo b >&2; exit 3"}, Stdout: &both, Stderr: &both})
		if exit := p.Wait(); exit.Code != 3 || both.String() != "a\nb\n" {
			t.Errorf("%v, %q", exit, both.String())
		}
	})
}

func TestStartErrors(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		for want, spec := range map[string]sandbox.Spec{
			"has no command":                 {},
			"nope: not found on PATH=":       {Command: []string{"nope"}},
			"/no/such: no such file":         {Command: []string{"/no/such"}},
			"/etc/passwd: permission denied": {Command: []string{"/etc/passwd"}},
			"mount /data":                    {Command: []string{"true"}, Mounts: []sandbox.Mount{{Source: "/no/such", Target: "/data"}}},
			"not an absolute path":           {Command: []string{"true"}, Mounts: []sandbox.Mount{{Source: "/etc", Target: "data"}}},
			"no capability \"FLY\"":          {Command: []string{"true"}, Capabilities: []string{"FLY"}},
			"environment entry \"A\" is not": {Command: []string{"true"}, Env: []string{"A"}},
			"working directory \"x\" is not": {Command: []string{"true"}, WorkDir: "x"},
			"make the working directory: ":   {Command: []string{"true"}, WorkDir: "/etc/passwd/x"},
		} {
			p, err := l.Start(spec)
			if err == nil {
				p.Wait()
			}
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("want %q, got %v", want, err)
			}
		}
		if left, err := os.ReadDir(filepath.Join(l.Private(), "containers")); err != nil || len(left) != 0 {
			t.Errorf("layers stay: %v, %v", left, err)
		}
	})
}

// TestPrivateFiles: a container writes where it may, and nobody else sees it.
func TestPrivateFiles(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		mark := "meshd-lab-mark-" + filepath.Base(filepath.Dir(l.Private()))
		caps := sandbox.DefaultCapabilities()
		a := l.idle(t, sandbox.Spec{Name: "a", Capabilities: caps})
		b := l.idle(t, sandbox.Spec{Name: "b", Capabilities: caps})
		for _, dir := range []string{"/", "/etc", "/tmp", "/run", "/var/log", "/usr/bin", "/dev/shm"} {
			path := filepath.Join(dir, mark)
			l.want(t, a, "echo hi > "+path+" && cat "+path, "hi")
			if _, code := l.sh(t, b, "test -e "+path); code == 0 {
				t.Errorf("%s: b sees it", path)
			}
			if _, err := os.Stat(path); err == nil {
				t.Errorf("%s: the machine has it", path)
			}
		}
		l.want(t, a, "rm /etc/hostname /etc/passwd; mkdir -p /opt/x/y && ls -d /etc/hostname /opt/x/y 2>/dev/null", "/opt/x/y")
		if _, err := os.Stat("/etc/passwd"); err != nil {
			t.Error(err)
		}
		if _, code := l.sh(t, a, "ls "+l.Private()+"/containers"); code == 0 {
			t.Error("a sees the lab's tmpfs")
		}
		if err := a.Kill(); err != nil {
			t.Error(err)
		}
		a.Wait()
		left, err := os.ReadDir(filepath.Join(l.Private(), "containers"))
		if err != nil || len(left) != 1 {
			t.Errorf("layers of ended containers stay: %v, %v", left, err)
		}
	})
}

func TestReadOnlyRoot(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		vol := volume(t, l, "data", nil)
		p := l.idle(t, sandbox.Spec{ReadOnlyRoot: true, Capabilities: sandbox.DefaultCapabilities(),
			Mounts: []sandbox.Mount{{Source: vol, Target: "/data"}}})
		for _, line := range []string{"echo x > /etc/x", "echo x > /x", "mkdir /run/x"} {
			if _, code := l.sh(t, p, line); code == 0 {
				t.Errorf("wrote: %s", line)
			}
		}
		l.want(t, p, "echo x > /data/x && echo x > /dev/null && cat /data/x", "x")
	})
}

// volume makes a directory with files in the lab's tmpfs.
func volume(t *testing.T, l *lab, name string, files map[string]string) string {
	t.Helper()
	dir := filepath.Join(l.Private(), "volumes", name)
	if err := os.MkdirAll(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	for f, content := range files {
		if err := os.WriteFile(filepath.Join(dir, f), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestMounts(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		shared := volume(t, l, "shared", nil)
		files := volume(t, l, "files", map[string]string{"resolv.conf": "nameserver 10.244.0.1\n", "token": "secret"})
		if err := errors.Join(os.Mkdir(filepath.Join(files, "links"), 0o755),
			os.Symlink("/opt/nowhere/token", filepath.Join(files, "links", "dangling"))); err != nil {
			t.Fatal(err)
		}
		mounts := []sandbox.Mount{
			{Source: shared, Target: "/new/deep/shared"},
			{Source: filepath.Join(files, "resolv.conf"), Target: "/etc/resolv.conf"},
			{Source: files, Target: "/var/run/secrets/meshd.io/token", ReadOnly: true},
			{Source: filepath.Join(files, "token"), Target: "/new/file/token"},
			{Source: "/bin/echo", Target: "/usr/local/bin/envoy", ReadOnly: true},
		}
		spec := sandbox.Spec{Mounts: mounts, User: sandbox.User{UID: 1337, GID: 1337}}
		spec.Name = "a"
		a := l.idle(t, spec)
		spec.Name = "b"
		b := l.idle(t, spec)
		l.want(t, a, "echo hello > /new/deep/shared/x; cat /etc/resolv.conf /new/file/token; envoy works", "nameserver 10.244.0.1\nsecretworks")
		l.want(t, b, "cat /new/deep/shared/x", "hello")
		// /var/run is a link to /run on most machines; both must lead there.
		l.want(t, b, "cat /run/secrets/meshd.io/token/token /var/run/secrets/meshd.io/token/token", "secretsecret")
		broken := l.idle(t, sandbox.Spec{Name: "links", Mounts: []sandbox.Mount{
			{Source: "/usr", Target: "/x"}, // makes /x
			{Source: filepath.Join(files, "links"), Target: "/x/local"},
			{Source: filepath.Join(files, "token"), Target: "/x/local/dangling"},
		}})
		l.want(t, broken, "cat /opt/nowhere/token", "secret")
		root := l.idle(t, sandbox.Spec{Name: "root", Mounts: mounts, Capabilities: sandbox.DefaultCapabilities()})
		if _, code := l.sh(t, root, "echo x > /run/secrets/meshd.io/token/token"); code == 0 {
			t.Error("wrote to a read-only mount")
		}
		if _, err := os.Stat("/new"); err == nil {
			t.Error("the machine has /new")
		}
		// A projected volume changes its files behind the mount.
		if err := os.WriteFile(filepath.Join(files, "token"), []byte("renewed"), 0o644); err != nil {
			t.Fatal(err)
		}
		l.want(t, b, "cat /run/secrets/meshd.io/token/token", "renewed")
	})
}

// TestOrphans: PID 1 reaps what loses its parent.
func TestOrphans(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		// A container that shares the lab's processes does not exist; the
		// daemon's own child does.
		p := l.idle(t, sandbox.Spec{})
		l.sh(t, p, "sh -c 'sleep 0.01 & sleep 0.02 &'") // reaped by the container's PID 1, or not: not the lab's
		orphan(t)
		waitUntil(t, "no zombie of PID 1", func() bool { return !slices.Contains(statesOfChildrenOf1(t), "Z") })
	})
}

// TestGoroutines: containers and execs leave none, and no descriptor.
func TestGoroutines(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
		descriptors := func() int {
			list, err := os.ReadDir("/proc/self/fd")
			if err != nil {
				t.Fatal(err)
			}
			return len(list)
		}
		round := func() {
			var out bytes.Buffer
			p, err := l.Start(sandbox.Spec{Name: "x", Command: []string{"sleep", "infinity"}, Stdout: &out})
			if err != nil {
				t.Fatal(err)
			}
			if _, code := l.sh(t, p, "echo hi"); code != 0 {
				t.Error("exec failed")
			}
			if err := p.Kill(); err != nil {
				t.Error(err)
			}
			p.Wait()
			_, _ = l.Start(sandbox.Spec{Name: "x", Command: []string{"nope"}, Stdout: &out})
		}
		round() // what is made once
		before := descriptors()
		for range 5 {
			round()
		}
		if after := descriptors(); after != before {
			t.Errorf("%d descriptors before, %d after", before, after)
		}
	})
}
