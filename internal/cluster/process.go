package cluster

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// process names a process for good: a PID alone may be another's later.
type process struct {
	PID     int    `json:"pid"`
	Started uint64 `json:"started"` // clock ticks since boot
}

// errGone says that the process has ended.
var errGone = errors.New("the process has ended")

func identify(pid int) (process, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}, fmt.Errorf("%w: %w", errGone, err)
	}
	// The name, field 2, is in parentheses and may contain anything; proc(5).
	_, after, _ := strings.Cut(string(text[strings.LastIndexByte(string(text), ')'):]), " ")
	fields := strings.Fields(after)
	const state, started = 0, 22 - 3
	if len(fields) <= started || fields[state] == "Z" {
		return process{}, errGone
	}
	ticks, err := strconv.ParseUint(fields[started], 10, 64)
	return process{pid, ticks}, err
}

func (p process) alive() bool {
	now, err := identify(p.PID)
	return err == nil && now == p && p.PID > 0
}

// kill ends the process and waits until it is gone.
func (p process) kill() error {
	if !p.alive() {
		return nil
	}
	fd, err := unix.PidfdOpen(p.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("pidfd of %d: %w", p.PID, err)
	}
	defer unix.Close(fd)
	if !p.alive() { // asked again now that the descriptor pins whoever it is
		return nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill %d: %w", p.PID, err)
	}
	for {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
