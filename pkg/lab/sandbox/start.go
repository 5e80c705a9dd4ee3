package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/meshd-io/meshd/pkg/lab/network"
)

// Options is how a lab is started.
type Options struct {
	// Dir is the lab's directory on the host, which exists and belongs to the
	// caller: for the daemon's socket and whatever the caller keeps there. The
	// lab mounts its tmpfs on Dir/private (made if missing), seen only inside.
	Dir string
	// Args are the arguments (without argv[0]) that this same binary is
	// executed with as the daemon.
	Args []string
	// Env is the daemon's environment; nil is the caller's.
	Env []string
	// Network are the lab's address ranges, for the host link.
	Network network.Config
	// HostLink gives the host a link and routes into the lab, so that a user on
	// the host reaches gateway, services and pods. Root only: without root it
	// is not made, see Handle.HostLink.
	HostLink bool
	// Output receives what PID 1 and the daemon write to stdout and stderr;
	// nil is /dev/null.
	Output *os.File
}

// namespaces are those that PID 1 gets.
const namespaces = unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS

// Start starts the lab's daemon, detached from the caller, in new namespaces.
// It returns when the namespaces are set up and the daemon's program has been
// executed; whether the daemon is ready is for the caller to ask it. ctx bounds
// the set-up only.
func Start(ctx context.Context, o Options) (Handle, error) {
	if err := Check(); err != nil {
		return Handle{}, err
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return Handle{}, err
	}
	if strings.ContainsAny(dir, `,:\`) {
		return Handle{}, fmt.Errorf("the lab's directory %q has a character that separates mount options: choose another", dir)
	}
	cfg := pid1Config{Private: filepath.Join(dir, "private"), Args: o.Args, Rootless: os.Geteuid() != 0}
	if err := os.MkdirAll(cfg.Private, 0o755); err != nil {
		return Handle{}, fmt.Errorf("make the lab's directory: %w", err)
	}
	child, err := clonePID1(o, cfg.Rootless)
	if err != nil {
		return Handle{}, err
	}
	h, err := child.setUp(ctx, o, cfg)
	if err != nil {
		_ = child.cmd.Process.Kill()
		if h.HostLink != "" {
			_ = network.UnlinkHost(h.HostLink)
		}
	}
	// Reaps PID 1 if the caller lives longer than the lab.
	go func() { _ = child.cmd.Wait() }()
	return h, err
}

// pid1Child is PID 1 while it is set up, seen from the host.
type pid1Child struct {
	cmd    *exec.Cmd
	config *os.File // written
	result *os.File // read
}

func clonePID1(o Options, rootless bool) (*pid1Child, error) {
	configR, configW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer configR.Close()
	resultR, resultW, err := os.Pipe()
	if err != nil {
		configW.Close()
		return nil, err
	}
	defer resultW.Close()
	cmd := &exec.Cmd{
		Path: selfExe, Args: []string{argPID1}, Env: o.Env, Dir: "/",
		ExtraFiles:  []*os.File{configR, resultW},
		SysProcAttr: &syscall.SysProcAttr{Cloneflags: namespaces, Setsid: true},
	}
	if o.Output != nil {
		cmd.Stdout, cmd.Stderr = o.Output, o.Output
	}
	if rootless {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
	}
	if err := cmd.Start(); err != nil {
		configW.Close()
		resultR.Close()
		if errors.Is(err, unix.EPERM) {
			return nil, fmt.Errorf("make the lab's namespaces (inside of a container it needs CAP_SYS_ADMIN): %w", err)
		}
		return nil, fmt.Errorf("make the lab's namespaces: %w", err)
	}
	return &pid1Child{cmd: cmd, config: configW, result: resultR}, nil
}

// setUp gives PID 1 what only the host can give, then its configuration, and
// waits for its word.
func (c *pid1Child) setUp(ctx context.Context, o Options, cfg pid1Config) (Handle, error) {
	defer c.config.Close()
	defer c.result.Close()
	pid := c.cmd.Process.Pid
	h := Handle{PID: pid, Rootless: cfg.Rootless}
	_, ticks, err := readStat(pid)
	if err != nil {
		return h, fmt.Errorf("read the lab's process: %w", err)
	}
	h.StartTicks = ticks
	if cfg.Rootless {
		if err := mapIDs(ctx, pid); err != nil {
			return h, err
		}
		cfg.Skeleton = hostSkeleton()
	} else if o.HostLink {
		if h.HostLink, err = network.LinkHost(o.Network, pid); err != nil {
			return h, err
		}
	}
	// The first byte says what has been done for PID 1, the rest is for after.
	first := byte(idsOwn)
	if cfg.Rootless {
		first = idsMapped
	}
	raw, err := json.Marshal(cfg)
	if err != nil {
		return h, err
	}
	if _, err := c.config.Write(append([]byte{first}, raw...)); err != nil {
		return h, fmt.Errorf("the lab's PID 1 died at once: %w", err)
	}
	c.config.Close()
	return h, c.await(ctx)
}

// await reads PID 1's word: nothing is success.
func (c *pid1Child) await(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { c.result.Close() })
	defer stop()
	word, err := io.ReadAll(c.result)
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("set up the lab: %w", ctx.Err())
	case err != nil:
		return fmt.Errorf("set up the lab: %w", err)
	case string(word) == started:
		return nil
	case len(word) == 0:
		return errors.New("the lab's PID 1 died during its set-up")
	}
	return fmt.Errorf("set up the lab: %s", word)
}
