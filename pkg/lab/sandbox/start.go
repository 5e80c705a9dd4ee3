package sandbox

import (
	"context"
	"errors"
	"os"

	"github.com/meshd-io/meshd/pkg/lab/network"
)

var errNotYet = errors.New("not there yet")

// RunChild takes over the process if it was executed as PID 1 of a lab or as
// the set-up of a container (told by argv[0]); it does not return then.
// Otherwise it does nothing. Call it before anything else in main.
func RunChild() {}

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

// Handle names a started lab. It survives as JSON in a file: PID numbers that
// have been reused are told by the start time.
type Handle struct {
	// PID is that of the lab's PID 1, as the host sees it.
	PID int `json:"pid"`
	// StartTicks is the start time in clock ticks since boot (proc_pid_stat(5), field 22).
	StartTicks uint64 `json:"startTicks"`
	// Rootless tells that the lab runs in a user namespace.
	Rootless bool `json:"rootless"`
	// HostLink is the name of the host's interface into the lab, "" if none.
	HostLink string `json:"hostLink,omitempty"`
}

// Check tells in one line what this machine lacks to run a lab as the current
// user, nil if nothing.
func Check() error { return errNotYet }

// Start starts the lab's daemon, detached from the caller, in new namespaces.
// It returns when the namespaces are set up and the daemon's program has been
// executed; whether the daemon is ready is for the caller to ask it. ctx bounds
// the set-up only.
func Start(ctx context.Context, o Options) (Handle, error) { return Handle{}, errNotYet }

// Alive tells whether the lab runs.
func (h Handle) Alive() bool { return false }

// Stop ends the lab: SIGTERM to the daemon, and when ctx is done before it has
// ended, SIGKILL to PID 1. When it returns every process of the lab is gone.
// A lab that is gone already is no error.
func (h Handle) Stop(ctx context.Context) error { return errNotYet }
