package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ExecSpec is a command to run in a running container.
type ExecSpec struct {
	Command []string
	// Env is added to the container's environment.
	Env []string
	// Stdin, Stdout, Stderr: an *os.File is handed over as it is (a file
	// descriptor received over a socket, say), anything else is copied. nil is
	// /dev/null.
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// Exit codes of a command that could not be executed, as shells use them.
const (
	commandFailed   = 126
	commandNotFound = 127
)

var errEnded = errors.New("the container has ended")

// outputGrace is how long Exec waits for output that a command's own children
// hold open after the command has ended.
const outputGrace = 500 * time.Millisecond

// Exec runs a command in the container's namespaces, as its user and with its
// environment, working directory and capabilities, and waits for it. A command
// that cannot be executed is Exit{Code: 127 or 126} with a line on Stderr. When
// ctx is done the command is killed and ctx's error returned; the error is
// otherwise the lab's own failure, or that the container has ended.
func (s *Sandbox) Exec(ctx context.Context, p *Process, e ExecSpec) (Exit, error) {
	if len(e.Command) == 0 || e.Command[0] == "" {
		return Exit{}, errors.New("exec: no command")
	}
	pidfd, err := p.dupPidfd()
	if err != nil {
		return Exit{}, err
	}
	defer pidfd.Close()
	spec := p.spec.forInit()
	spec.Command, spec.Mounts = e.Command, nil
	spec.Env = append(spec.Env[:len(spec.Env):len(spec.Env)], e.Env...)

	cmd := exec.CommandContext(ctx, selfExe)
	cmd.Args, cmd.Dir, cmd.Env = []string{argInit}, "/", []string{}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = e.Stdin, e.Stdout, e.Stderr
	cmd.WaitDelay = outputGrace
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = launch(cmd, initConfig{Spec: spec, Rootless: s.cfg.Rootless}, pidfd, func() error {
		return inPIDNamespace(pidfd, cmd.Start)
	})
	var setUp *setUpError
	switch {
	case ctx.Err() != nil && err != nil:
		return Exit{}, ctx.Err()
	case errors.As(err, &setUp):
		return e.notExecuted(setUp, cmd)
	case err != nil:
		return Exit{}, fmt.Errorf("exec in %s: %w", p.spec.Name, err)
	}
	err = cmd.Wait()
	if ctx.Err() != nil {
		return Exit{}, ctx.Err()
	}
	return exitOf(err, cmd.ProcessState), nil
}

// notExecuted tells a command that cannot be executed, which is the user's
// matter, from a set-up that failed.
func (e ExecSpec) notExecuted(err *setUpError, cmd *exec.Cmd) (Exit, error) {
	code := cmd.ProcessState.ExitCode()
	if code != commandFailed && code != commandNotFound {
		return Exit{}, err
	}
	if e.Stderr != nil {
		_, _ = fmt.Fprintln(e.Stderr, err.message)
	}
	return Exit{Code: code}, nil
}

func (p *Process) dupPidfd() (*os.File, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pidfd < 0 {
		return nil, fmt.Errorf("exec in %s: %w", p.spec.Name, errEnded)
	}
	fd, err := unix.FcntlInt(uintptr(p.pidfd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "pidfd"), nil
}

// inPIDNamespace calls start on a thread whose children are born into the PID
// namespace of the given process. The thread dies with its goroutine: it is
// never unlocked, so nothing else runs on it.
func inPIDNamespace(pidfd *os.File, start func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		err := unix.Setns(int(pidfd.Fd()), unix.CLONE_NEWPID)
		if errors.Is(err, unix.ESRCH) {
			result <- errEnded
			return
		}
		if err != nil {
			result <- fmt.Errorf("enter the container: %w", err)
			return
		}
		result <- start()
	}()
	return <-result
}
