package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/meshd-io/meshd/internal/clock"
	"github.com/meshd-io/meshd/pkg/lab/network"
	"github.com/meshd-io/meshd/pkg/lab/sandbox"
)

const (
	handleFile = "handle.json"
	daemonLog  = "daemon.log"
	// startTick is how often a daemon that starts is asked.
	startTick = 20 * time.Millisecond
	// stopTime is how long a lab has to end before it is killed.
	stopTime = 15 * time.Second
)

// StartOptions is how a lab is started.
type StartOptions struct {
	// Dir is the lab's folder; it is made.
	Dir string
	// Args are the arguments that this binary runs Run with.
	Args []string
	// Env is the daemon's environment.
	Env []string
	// Network are the lab's address ranges.
	Network network.Config
}

// EnsureStarted starts the lab's daemon if it does not run, and waits until it
// answers. What a killed lab left behind is cleaned up first.
func EnsureStarted(ctx context.Context, o StartOptions) error {
	if _, err := os.Stat(o.Dir); errors.Is(err, fs.ErrNotExist) {
		// Nothing is made on a machine that cannot run a lab.
		if err := sandbox.Check(); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return fmt.Errorf("lab's folder: %w", err)
	}
	unlock, err := lock(o.Dir)
	if err != nil {
		return err
	}
	defer unlock()
	if h, ok := readHandle(o.Dir); ok {
		if h.Alive() {
			return awaitDaemon(ctx, o.Dir, h)
		}
		if err := h.Stop(ctx); err != nil {
			return err
		}
	}
	if err := clean(o.Dir); err != nil {
		return err
	}
	output, err := os.OpenFile(filepath.Join(o.Dir, daemonLog), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("lab's log: %w", err)
	}
	defer output.Close()
	h, err := sandbox.Start(ctx, sandbox.Options{
		Dir: o.Dir, Args: o.Args, Env: o.Env, Network: o.Network, HostLink: os.Geteuid() == 0, Output: output,
	})
	if err != nil {
		return err
	}
	if err := writeHandle(o.Dir, h); err != nil {
		return errors.Join(err, h.Stop(ctx))
	}
	return awaitDaemon(ctx, o.Dir, h)
}

// awaitDaemon waits until the daemon answers.
func awaitDaemon(ctx context.Context, dir string, h sandbox.Handle) error {
	client := NewClient(dir)
	for {
		if err := client.Ping(ctx); err == nil {
			return nil
		}
		if !h.Alive() {
			return fmt.Errorf("the lab's daemon ended: %s", lastLine(filepath.Join(dir, daemonLog)))
		}
		if !clock.Pause(ctx, startTick) {
			return fmt.Errorf("the lab's daemon does not answer: %w; see %s", ctx.Err(), filepath.Join(dir, daemonLog))
		}
	}
}

// Down ends the lab in a folder and removes everything that it made. No lab is no error.
func Down(ctx context.Context, dir string) error {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	unlock, err := lock(dir)
	if err != nil {
		return err
	}
	defer unlock()
	if h, ok := readHandle(dir); ok {
		ctx, cancel := context.WithTimeout(ctx, stopTime)
		defer cancel()
		if err := h.Stop(ctx); err != nil {
			return err
		}
	}
	if err := clean(dir); err != nil {
		return err
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.EBUSY) {
		return fmt.Errorf("lab's folder: %w", err)
	}
	return nil
}

// lock keeps two commands from starting and stopping the same lab at once. It
// is held on the folder itself, so that nothing is left behind.
func lock(dir string) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("lab's folder: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("lock of %s: %w", dir, err), f.Close())
	}
	return func() { _ = f.Close() }, nil
}

// clean removes what is in the lab's folder.
func clean(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("lab's folder: %w", err)
	}
	for _, e := range entries {
		if !ours(e.Name()) {
			return fmt.Errorf("%s has a file %s that is no lab's: give another --state-dir, or remove it", dir, e.Name())
		}
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return fmt.Errorf("lab's folder: %w", err)
		}
	}
	return nil
}

// ours are the names in a lab's folder: a folder given by mistake is not emptied.
func ours(name string) bool {
	switch name {
	case handleFile, daemonLog, "lab.sock", "config", "meshd", "logs", "private":
		return true
	}
	return false
}

func readHandle(dir string) (h sandbox.Handle, ok bool) {
	raw, err := os.ReadFile(filepath.Join(dir, handleFile))
	if err != nil {
		return h, false
	}
	err = json.Unmarshal(raw, &h)
	return h, err == nil
}

func writeHandle(dir string, h sandbox.Handle) error {
	raw, err := json.Marshal(h)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, handleFile), raw, 0o600); err != nil {
		return fmt.Errorf("lab's handle: %w", err)
	}
	return nil
}

func lastLine(path string) string {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
	return lines[len(lines)-1]
}
