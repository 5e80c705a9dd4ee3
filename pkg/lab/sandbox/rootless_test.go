package sandbox_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/meshd-io/meshd/pkg/lab/sandbox"
)

// partUser is the host's side of a test, run as a user that is not root.
const partUser = "user"

// asUser runs the test again as an ordinary user of the machine who has ranges
// of ids, in a mount namespace with its own /etc/subuid and /etc/subgid.
func asUser(t *testing.T, ranges bool) (out string, err error) {
	t.Helper()
	installed(t, "newuidmap")
	const uid, gid = 1, 1 // daemon, on every machine
	dir := labDir(t)
	line := ""
	if ranges {
		line = "daemon:100000:65536\n"
	}
	file := filepath.Join(dir, "ranges")
	if err := os.WriteFile(file, []byte(line), 0o644); err != nil {
		t.Fatal(err)
	}
	home := filepath.Join(dir, "home")
	if err := errors.Join(os.Mkdir(home, 0o755), os.Chown(home, uid, gid)); err != nil {
		t.Fatal(err)
	}
	// The shell does what must happen between the new mount namespace and the
	// new user.
	script := fmt.Sprintf("touch /etc/subuid /etc/subgid && mount --bind %s /etc/subuid && mount --bind %s /etc/subgid && "+
		"exec setpriv --reuid %d --regid %d --clear-groups \"$0\" \"$@\"", file, file, uid, gid)
	cmd := exec.Command("sh", "-c", script, "/proc/"+strconv.Itoa(os.Getpid())+"/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), partEnv+"="+partUser, "TMPDIR="+home)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
	raw, err := cmd.CombinedOutput()
	return string(raw), err
}

// TestRootless: the same lab without root.
func TestRootless(t *testing.T) {
	installed(t, "python3")
	switch os.Getenv(partEnv) {
	case partHost:
		before := look(t)
		out, err := asUser(t, true)
		t.Logf("as user:\n%s", out)
		if err != nil {
			t.Error(err)
		}
		if after := look(t); after.mounts != before.mounts {
			t.Errorf("mounts stay: %s", after.mounts)
		}
		return
	case partUser:
		inLab(t, nil)
		return
	}
	l := openLab(t)
	if !l.Rootless() {
		t.Error("not rootless")
	}
	www := volume(t, l, "www", map[string]string{"index.html": "without root"})
	ns := l.pod(t, "web")
	web := l.start(t, sandbox.Spec{Name: "web", Network: ns.File(), User: sandbox.User{UID: 999, GID: 999}, WorkDir: "/www",
		Command: []string{"python3", "-m", "http.server", "8080", "--bind", "::"},
		Mounts:  []sandbox.Mount{{Source: www, Target: "/www"}, {Source: www, Target: "/var/run/secrets/x"}}})
	c := l.caller(t)
	for _, a := range ns.Addrs {
		l.answers(t, c, get("http://"+netip.AddrPortFrom(a, 8080).String()), "without root")
	}
	l.want(t, web, "id -u; cat /var/run/secrets/x/index.html; getent passwd 999 >/dev/null && echo named", "999\nwithout rootnamed")
	root := l.idle(t, sandbox.Spec{Name: "root", Network: ns.File(), Capabilities: append(sandbox.DefaultCapabilities(), "NET_ADMIN")})
	for _, dir := range []string{"/", "/etc", "/tmp", "/run", "/var/log", "/opt"} {
		path := filepath.Join(dir, "meshd-lab-mark")
		l.want(t, root, "echo hi > "+path+" && cat "+path, "hi")
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s: the machine has it", path)
		}
	}
	if _, err := l.Start(sandbox.Spec{Name: "far", Command: []string{"true"}, User: sandbox.User{UID: 70000, GID: 70000}}); err == nil ||
		!strings.Contains(err.Error(), "/etc/subuid") {
		t.Errorf("a user outside of the range: %v", err)
	}
}

// TestRootlessNeedsRanges says what is missing in one line.
func TestRootlessNeedsRanges(t *testing.T) {
	if os.Getenv(partEnv) == partHost {
		out, err := asUser(t, false)
		t.Logf("as user:\n%s", out)
		if err != nil {
			t.Error(err)
		}
		return
	}
	err := sandbox.Check()
	if err == nil || !strings.Contains(err.Error(), "add the line daemon:100000:65536") || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v", err)
	}
}
