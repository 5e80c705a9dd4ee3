package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// initConfig is what the daemon tells the set-up of a process.
type initConfig struct {
	Spec     initSpec
	Rootless bool
	// Layer is the container's directory in the lab's tmpfs; "" is an exec
	// into a container whose mounts exist already.
	Layer    string
	Skeleton []skeletonDir `json:",omitempty"`
	// Private is hidden from the container.
	Private string
	// Network tells that fdExtra is a network namespace to enter.
	Network bool
}

// initSpec is the part of Spec that passes the pipe.
type initSpec struct {
	Name, Hostname  string
	Command, Env    []string
	User            User
	WorkDir         string
	Mounts          []Mount
	Capabilities    []string
	NoNewPrivileges bool
	ReadOnlyRoot    bool
	OOMScoreAdj     int
}

func (s Spec) forInit() initSpec {
	return initSpec{
		Name: s.Name, Hostname: s.Hostname, Command: s.Command, Env: withPath(s.Env),
		User: s.User, WorkDir: s.WorkDir, Mounts: s.Mounts, Capabilities: s.Capabilities,
		NoNewPrivileges: s.NoNewPrivileges, ReadOnlyRoot: s.ReadOnlyRoot, OOMScoreAdj: s.OOMScoreAdj,
	}
}

// Process is a running or ended container.
type Process struct {
	spec  Spec
	layer string
	cmd   *exec.Cmd
	done  chan struct{}
	exit  Exit // valid after done

	mu    sync.Mutex // guards pidfd against its closing
	pidfd int        // -1 when ended
}

// Exit is how a process ended.
type Exit struct {
	// Code is the exit code; for a signal 128 + its number, as shells say it.
	Code int
	// Signal is the signal that ended it, 0 if none did.
	Signal syscall.Signal
}

// Start starts a container. It returns after the command has been executed: a
// missing mount source, a user outside of the mapped range or a command that
// does not exist is an error here.
func (s *Sandbox) Start(spec Spec) (*Process, error) {
	if err := spec.validate(); err != nil {
		return nil, err
	}
	p := &Process{spec: spec, done: make(chan struct{}), pidfd: -1}
	p.layer = filepath.Join(s.layers(), fmt.Sprintf("%s.%d", strings.ReplaceAll(spec.Name, "/", "_"), s.next.Add(1)))
	if err := os.Mkdir(p.layer, 0o755); err != nil {
		return nil, fmt.Errorf("container %s: %w", spec.Name, err)
	}
	out, err := openOutput(spec)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(p.layer))
	}
	p.cmd = &exec.Cmd{
		Path: selfExe, Args: []string{argInit}, Dir: "/", Env: []string{},
		Stdout: out.stdout, Stderr: out.stderr,
		SysProcAttr: &syscall.SysProcAttr{
			Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
			Setsid:     true, PidFD: &p.pidfd,
		},
	}
	if spec.Stdin != nil {
		p.cmd.Stdin = spec.Stdin
	}
	cfg := initConfig{
		Spec: spec.forInit(), Rootless: s.cfg.Rootless, Layer: p.layer,
		Skeleton: s.cfg.Skeleton, Private: s.cfg.Private, Network: spec.Network != nil,
	}
	err = launch(p.cmd, cfg, spec.Network, p.cmd.Start)
	out.closeOurs()
	if err != nil {
		out.wait()
		p.closePidfd()
		return nil, errors.Join(fmt.Errorf("container %s: %w", spec.Name, err), os.RemoveAll(p.layer))
	}
	go p.reap(out)
	return p, nil
}

func (p *Process) reap(out *output) {
	p.exit = exitOf(p.cmd.Wait(), p.cmd.ProcessState)
	out.wait()
	p.closePidfd()
	_ = os.RemoveAll(p.layer) // in the lab's tmpfs: goes with the lab at the latest
	close(p.done)
}

func (p *Process) closePidfd() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pidfd >= 0 {
		_ = unix.Close(p.pidfd)
		p.pidfd = -1
	}
}

// exitOf reads how a command ended. err is Wait's, and only looked at where
// there is no state.
func exitOf(err error, state *os.ProcessState) Exit {
	if state == nil {
		return Exit{Code: commandFailed}
	}
	ws, ok := state.Sys().(syscall.WaitStatus)
	switch {
	case !ok:
		return Exit{Code: commandFailed}
	case ws.Signaled():
		return Exit{Code: signalBase + int(ws.Signal()), Signal: ws.Signal()}
	case err == nil:
		return Exit{}
	}
	return Exit{Code: ws.ExitStatus()}
}

// launch starts the set-up of a process with its configuration and waits until
// it has executed the command, or has said why not (and has been waited for).
func launch(cmd *exec.Cmd, cfg initConfig, extra *os.File, start func() error) error {
	raw, err := json.Marshal(cfg)
	if err != nil {
		return err
	}
	config, err := memFile("config", raw)
	if err != nil {
		return err
	}
	defer config.Close()
	resultR, resultW, err := os.Pipe()
	if err != nil {
		return err
	}
	defer resultR.Close()
	cmd.ExtraFiles = []*os.File{config, resultW}
	if extra != nil {
		cmd.ExtraFiles = append(cmd.ExtraFiles, extra)
	}
	err = start()
	resultW.Close()
	if err != nil {
		return err
	}
	word, err := io.ReadAll(resultR)
	if err == nil && len(word) == 0 {
		return nil
	}
	_ = cmd.Wait()
	if err != nil {
		return err
	}
	return &setUpError{message: string(word)}
}

// setUpError is what the set-up of a process said.
type setUpError struct{ message string }

func (e *setUpError) Error() string { return e.message }

// Done is closed when the container has ended: its first process is gone, with
// it all others, and the output has been copied.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait waits for Done and returns how it ended; any number of callers may.
func (p *Process) Wait() Exit {
	<-p.done
	return p.exit
}

// Signal sends a signal to the container's first process. That is PID 1 of its
// PID namespace, for which the kernel drops signals without a handler; a
// signal whose default action would end the process is turned into a kill then,
// so that SIGTERM works as it does outside of a container. No error if the
// container has ended.
func (p *Process) Signal(sig syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pidfd < 0 {
		return nil
	}
	if endsByDefault(sig) && !p.handles(sig) {
		sig = unix.SIGKILL
	}
	return signalPidfd(p.pidfd, sig)
}

// Kill ends all processes of the container at once. No error if it has ended.
func (p *Process) Kill() error { return p.Signal(unix.SIGKILL) }

func endsByDefault(sig syscall.Signal) bool {
	switch sig {
	case unix.SIGCHLD, unix.SIGCONT, unix.SIGURG, unix.SIGWINCH,
		unix.SIGSTOP, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU, unix.SIGKILL:
		return false
	}
	return true
}

// handles tells whether the process has a handler for the signal, or ignores
// it on purpose.
func (p *Process) handles(sig syscall.Signal) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return true
	}
	var mask uint64
	for line := range strings.Lines(string(status)) {
		for _, field := range []string{"SigIgn:", "SigCgt:"} {
			var m uint64
			if rest, ok := strings.CutPrefix(line, field); ok {
				if _, err := fmt.Sscanf(strings.TrimSpace(rest), "%x", &m); err == nil {
					mask |= m
				}
			}
		}
	}
	return mask&(1<<(sig-1)) != 0
}
