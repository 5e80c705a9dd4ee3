package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/meshd-io/meshd/pkg/lab/network"
)

// Handle names a started lab. It survives as JSON in a file: PID numbers that
// have been reused are told by the start time.
type Handle struct {
	// PID is that of the lab's PID 1, as the host sees it.
	PID int `json:"pid"`
	// StartTicks is the start time in clock ticks since boot
	// (proc_pid_stat(5), field 22).
	StartTicks uint64 `json:"startTicks"`
	// Rootless tells that the lab runs in a user namespace.
	Rootless bool `json:"rootless"`
	// HostLink is the name of the host's interface into the lab, "" if none.
	HostLink string `json:"hostLink,omitempty"`
}

// Alive tells whether the lab runs.
func (h Handle) Alive() bool {
	state, ticks, err := readStat(h.PID)
	return err == nil && state != 'Z' && state != 'X' && ticks == h.StartTicks
}

// Stop ends the lab: SIGTERM to the daemon, and when ctx is done before it has
// ended, SIGKILL to PID 1. When it returns every process of the lab is gone.
// A lab that is gone already is no error.
func (h Handle) Stop(ctx context.Context) error {
	pidfd, err := unix.PidfdOpen(h.PID, 0)
	if err == nil {
		defer unix.Close(pidfd)
	}
	if err == nil && h.Alive() {
		if err := h.end(ctx, pidfd); err != nil {
			return err
		}
	} else if err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("find the lab's process %d: %w", h.PID, err)
	}
	// The kernel takes a dead namespace apart in its own time; asking for the
	// link makes it gone when Stop returns.
	if h.HostLink != "" {
		return network.UnlinkHost(h.HostLink)
	}
	return nil
}

// pollInterval is how often Stop looks at ctx while it waits for the end.
const pollInterval = 50 * time.Millisecond

func (h Handle) end(ctx context.Context, pidfd int) error {
	if err := signalPidfd(pidfd, unix.SIGTERM); err != nil {
		return err
	}
	killed := false
	for {
		fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, int(pollInterval.Milliseconds()))
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for the lab's process %d: %w", h.PID, err)
		}
		// PID 1 is gone only after the kernel has seen the last process of its
		// namespace go.
		if n > 0 {
			return nil
		}
		if ctx.Err() != nil && !killed {
			if err := signalPidfd(pidfd, unix.SIGKILL); err != nil {
				return err
			}
			killed = true
		}
	}
}

func signalPidfd(pidfd int, sig unix.Signal) error {
	err := unix.PidfdSendSignal(pidfd, sig, nil, 0)
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("send %s: %w", unix.SignalName(sig), err)
	}
	return nil
}

// readStat reads state and start time of a process from /proc.
func readStat(pid int) (state byte, ticks uint64, err error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, err
	}
	// The second field is the command in parentheses and may hold anything.
	fields := bytes.Fields(raw[bytes.LastIndexByte(raw, ')')+1:])
	const stateField, ticksField = 0, 19
	if len(fields) <= ticksField {
		return 0, 0, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	ticks, err = strconv.ParseUint(string(fields[ticksField]), 10, 64)
	return fields[stateField][0], ticks, err
}
