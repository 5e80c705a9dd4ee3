package sandbox_test

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/meshd-io/meshd/pkg/lab/sandbox"
)

// TestSockets: a Unix socket of the machine is out of a container's reach (a
// container runtime's, say), unless it is mounted; one in a shared volume
// joins containers.
func TestSockets(t *testing.T) {
	installed(t, "python3")
	inLab(t, func(t *testing.T, l *lab) {
		dir, err := os.MkdirTemp("", "meshd-lab-socket")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		path := filepath.Join(dir, "s")
		listen(t, path)
		shared := volume(t, l, "run", nil)
		listen(t, filepath.Join(shared, "s"))
		const connect = `python3 -c 'import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); print(s.recv(10).decode())' `
		p := l.idle(t, sandbox.Spec{Name: "a", Mounts: []sandbox.Mount{{Source: shared, Target: "/run/meshd"}}})
		if out, code := l.sh(t, p, connect+path); code == 0 {
			t.Errorf("the machine's socket answered: %s", out)
		}
		l.want(t, p, connect+"/run/meshd/s", "hello")
		mounted := l.idle(t, sandbox.Spec{Name: "b", Mounts: []sandbox.Mount{{Source: path, Target: "/run/host.sock"}}})
		l.want(t, mounted, connect+"/run/host.sock", "hello")
	})
}

func listen(t *testing.T, path string) {
	t.Helper()
	s, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if err := os.Chmod(path, 0o777); err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := s.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "hello")
			c.Close()
		}
	}()
}
