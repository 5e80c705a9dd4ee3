package sandbox

import (
	"context"
	"io"
	"os"
	"syscall"
)

// Sandbox starts containers. There is one in the daemon.
type Sandbox struct{}

// Open is called in the daemon (the process that Start executed with
// Options.Args), once.
func Open() (*Sandbox, error) { return nil, errNotYet }

// Private is the lab's tmpfs: a directory that only the lab sees and that
// vanishes with it. Volumes (emptyDir, projected files) go here. The names
// "containers" and below belong to the Sandbox.
func (s *Sandbox) Private() string { return "" }

// Rootless tells whether the lab runs in a user namespace.
func (s *Sandbox) Rootless() bool { return false }

// Mount is a bind mount into a container.
type Mount struct {
	// Source is a file or directory as the daemon sees it.
	Source string
	// Target is an absolute path in the container. It is made, parents
	// included, if it is missing (in the container's private layer).
	Target   string
	ReadOnly bool
}

// User is whom a process runs as.
type User struct {
	UID, GID uint32
	// Groups are the supplementary groups.
	Groups []uint32
}

// Spec is a container to start.
type Spec struct {
	// Name is for messages and for the private layer's directory: unique among
	// running containers, e.g. NAMESPACE_POD_CONTAINER.
	Name string
	// Network is the pod's namespace (network.Namespace.File); nil is the
	// node's, which is what hostNetwork means in the lab.
	Network *os.File
	// Hostname is the UTS host name.
	Hostname string
	// Command and its arguments. Command[0] without a slash is looked up in
	// the container on the PATH of Env.
	Command []string
	// Env is the whole environment, KEY=VALUE. PATH is added if missing.
	Env []string
	// User is whom it runs as; the zero value is root.
	User User
	// WorkDir is made if it is missing; "" is "/".
	WorkDir string
	// Mounts are done in order.
	Mounts []Mount
	// Capabilities is the whole set that the container may have, names without
	// CAP_ ("NET_ADMIN"); nil is none. See DefaultCapabilities. As in
	// Kubernetes, a process that is not root has none of them in effect.
	Capabilities []string
	// NoNewPrivileges is allowPrivilegeEscalation: false.
	NoNewPrivileges bool
	// ReadOnlyRoot makes all but volumes, /dev and /proc read-only.
	ReadOnlyRoot bool
	// OOMScoreAdj is written to oom_score_adj; 0 leaves it.
	OOMScoreAdj int
	// Stdin is /dev/null if nil.
	Stdin *os.File
	// Stdout and Stderr receive the output until the container ends; nil
	// discards it. They may be the same.
	Stdout, Stderr io.Writer
}

// DefaultCapabilities are those that container runtimes give by default (no
// NET_ADMIN, no SYS_ADMIN).
func DefaultCapabilities() []string { return nil }

// Start starts a container. It returns after the command has been executed: a
// missing mount source, an unknown user range or a command that does not exist
// is an error here.
func (s *Sandbox) Start(spec Spec) (*Process, error) { return nil, errNotYet }

// Process is a running or ended container.
type Process struct{}

// Exit is how a process ended.
type Exit struct {
	// Code is the exit code; for a signal 128 + its number, as shells say it.
	Code int
	// Signal is the signal that ended it, 0 if none did.
	Signal syscall.Signal
}

// PID is the container's first process as the daemon sees it.
func (p *Process) PID() int { return 0 }

// Done is closed when the container has ended: its first process is gone, with
// it all others, and the output has been copied.
func (p *Process) Done() <-chan struct{} { return nil }

// Wait waits for Done and returns how it ended; any number of callers may.
func (p *Process) Wait() Exit { return Exit{} }

// Signal sends a signal to the container's first process. That is PID 1 of its
// PID namespace, for which the kernel drops signals without a handler; a
// signal whose default action would end the process is turned into a kill then,
// so that SIGTERM works as it does outside of a container.
func (p *Process) Signal(sig syscall.Signal) error { return errNotYet }

// Kill ends all processes of the container at once. No error if it has ended.
func (p *Process) Kill() error { return errNotYet }

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

// Exec runs a command in the container's namespaces, as its user and with its
// environment, working directory and capabilities, and waits for it. A command
// that does not exist is Exit{Code: 127} with a line on Stderr. When ctx is
// done the command is killed and ctx's error returned; error is otherwise the
// lab's own failure.
func (s *Sandbox) Exec(ctx context.Context, p *Process, e ExecSpec) (Exit, error) {
	return Exit{}, errNotYet
}
