package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// goDescriptor is the pipe by which the host tells init that the node's link is there.
const goDescriptor = 3

// Init is PID 1 of the node: it makes the node's mounts, starts the supervisor,
// and buries whoever loses its parent. It returns when the supervisor has ended.
func Init(dir string) error {
	if os.Getpid() != 1 {
		return errors.New("init is started by up, as PID 1 of the node")
	}
	o, err := load(dir)
	if err != nil {
		return err
	}
	if err := o.mounts(); err != nil {
		return err
	}
	link := os.NewFile(goDescriptor, "go")
	if n, err := link.Read(make([]byte, 1)); n == 0 {
		return fmt.Errorf("up has ended before the node had its link: %w", err)
	}
	link.Close()
	for path, value := range map[string]string{"/proc/sys/net/ipv4/ip_forward": "1"} {
		if err := os.WriteFile(path, []byte(value), 0); err != nil {
			return err
		}
	}
	cmd := exec.Command("/proc/self/exe", "supervise", "--dir", dir) //nolint:noctx // it ends with this process
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("wait: %w", err)
		case pid == cmd.Process.Pid:
			return fmt.Errorf("the supervisor has ended: status %d, signal %s", status.ExitStatus(), status.Signal())
		}
	}
}

// kernelSettings are what kubelet insists on and would set for the whole machine. The node sees files instead.
var kernelSettings = map[string]string{
	"vm/overcommit_memory": "1", "vm/panic_on_oom": "0", "kernel/panic": "10", "kernel/panic_on_oops": "1",
	"kernel/keys/root_maxkeys": "1000000", "kernel/keys/root_maxbytes": "25000000",
}

// mounts gives the node a /proc of its PIDs, a tmpfs for its data, and empty folders where its programs write whatever they are told.
func (o Options) mounts() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	for _, m := range []struct{ kind, at, data string }{
		{"proc", "/proc", ""},
		{"tmpfs", o.data(), "mode=0711,size=50%"},
		{"tmpfs", "/run", "mode=0755,size=10%"},
		{"tmpfs", "/var/log", "mode=0755,size=10%"},
		{"tmpfs", "/var/lib", "mode=0755,size=10%"},
	} {
		if err := unix.Mount(m.kind, m.at, m.kind, unix.MS_NOSUID, m.data); err != nil {
			return fmt.Errorf("mount %s: %w", m.at, err)
		}
	}
	for name, value := range kernelSettings {
		at, file := "/proc/sys/"+name, filepath.Join("/run/kernel", name) // not on the data: kubelet measures where that is
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(file, []byte(value+"\n"), 0o600); err != nil {
			return err
		}
		if err := unix.Mount(file, at, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount over %s: %w", at, err)
		}
	}
	// Among themselves kubelet, containerd and pods share mounts.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("make mounts shared: %w", err)
	}
	return unix.Sethostname([]byte(nodeName))
}

func load(dir string) (Options, error) {
	var o Options
	text, err := os.ReadFile(filepath.Join(dir, "options.json"))
	if err != nil {
		return o, err
	}
	return o, json.Unmarshal(text, &o)
}

// tail is the end of a log, for an error.
func tail(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	const most = 1500
	if info, err := f.Stat(); err == nil && info.Size() > most {
		if _, err := f.Seek(-most, io.SeekEnd); err != nil {
			return err.Error()
		}
	}
	text, err := io.ReadAll(io.LimitReader(f, most))
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(text))
}
