package sandbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// pid1Config is what Start tells PID 1.
type pid1Config struct {
	Private  string
	Args     []string
	Rootless bool
	// Skeleton is set if Rootless.
	Skeleton []skeletonDir `json:",omitempty"`
}

// started is PID 1's word for success.
const started = "started"

// The first byte of PID 1's configuration.
const (
	idsMapped = 'm' // the user namespace's ids are mapped now
	idsOwn    = '-' // there is no user namespace
)

// mappedArg is the argument of PID 1's second life, see runPID1.
const mappedArg = "mapped"

// runPID1 is the program of the lab's PID 1: it sets up mounts, starts the
// daemon, reaps what is orphaned, and ends when the daemon ends. It is not the
// daemon itself so that reaping everything cannot take the daemon's own
// children away from it.
func runPID1() error {
	config := os.NewFile(fdConfig, "config")
	if len(os.Args) == 1 {
		var first [1]byte
		if _, err := config.Read(first[:]); err != nil {
			return fmt.Errorf("read the configuration: %w", err)
		}
		if first[0] != idsMapped {
			return servePID1(config)
		}
		// In a user namespace the first execve came before the ids were mapped
		// and lost all capabilities; as mapped root another one gains them.
		return fmt.Errorf("execute: %w", unix.Exec(selfExe, []string{argPID1, mappedArg}, os.Environ()))
	}
	return servePID1(config)
}

func servePID1(config *os.File) error {
	sealDescriptors(fdResult)
	var cfg pid1Config
	if err := json.NewDecoder(config).Decode(&cfg); err != nil {
		return fmt.Errorf("read the configuration: %w", err)
	}
	config.Close()
	unix.Umask(0o022)
	if err := mountLab(cfg); err != nil {
		return err
	}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGHUP)
	daemon, err := startDaemon(cfg)
	if err != nil {
		return err
	}
	result := os.NewFile(fdResult, "result")
	if _, err := io.WriteString(result, started); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	result.Close()
	go func() {
		for s := range signals {
			_ = unix.Kill(daemon, s.(unix.Signal))
		}
	}()
	debug.FreeOSMemory() // what a large program set up at its start is of no use here
	os.Exit(reap(daemon))
	return nil
}

func mountLab(cfg pid1Config) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc (inside of a container the lab needs it unmasked): %w", err)
	}
	if err := unix.Mount("meshd-lab", cfg.Private, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
		return fmt.Errorf("mount the lab's tmpfs: %w", err)
	}
	return probeOverlay(cfg)
}

// probeOverlay mounts an overlay once, so that a machine without says so when
// the lab starts and not with its first container.
func probeOverlay(cfg pid1Config) error {
	dir := filepath.Join(cfg.Private, "probe")
	m := machineMount{point: filepath.Join(dir, "lower")}
	if err := os.MkdirAll(m.point, 0o755); err != nil {
		return err
	}
	root := filepath.Join(dir, "root")
	if err := os.MkdirAll(filepath.Join(root, m.point), 0o755); err != nil {
		return err
	}
	err := m.overlay(initConfig{Rootless: cfg.Rootless}, filepath.Join(dir, "layer"), root)
	if errors.Is(err, unix.ENODEV) {
		return errors.New("this kernel has no overlay file system: modprobe overlay")
	}
	if err == nil {
		err = unix.Unmount(filepath.Join(root, m.point), 0)
	}
	if err != nil {
		return fmt.Errorf("mount an overlay file system: %w", err)
	}
	return os.RemoveAll(dir)
}

// startDaemon starts the daemon with its sandboxConfig on descriptor 3.
func startDaemon(cfg pid1Config) (pid int, err error) {
	raw, err := json.Marshal(sandboxConfig{
		Magic: sandboxMagic, Private: cfg.Private, Rootless: cfg.Rootless, Skeleton: cfg.Skeleton,
	})
	if err != nil {
		return 0, err
	}
	file, err := memFile("sandbox", raw)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	cmd := &exec.Cmd{
		Path: selfExe, Args: append([]string{os.Args[0]}, cfg.Args...), Dir: "/",
		Stdout: os.Stdout, Stderr: os.Stderr, ExtraFiles: []*os.File{file},
	}
	cmd.Args[0] = "meshd-lab"
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("start the lab's daemon: %w", err)
	}
	return cmd.Process.Pid, nil
}

// memFile is an anonymous file with the given content, at its start.
func memFile(name string, content []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make a memory file: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := io.Copy(f, bytes.NewReader(content)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	_, err = f.Seek(0, io.SeekStart)
	return f, err
}

// reap waits for every child until the daemon has ended; it returns the
// daemon's exit code.
func reap(daemon int) int {
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 1
		case pid == daemon && ws.Exited():
			return ws.ExitStatus()
		case pid == daemon:
			return signalBase + int(ws.Signal())
		}
	}
}

// signalBase plus a signal's number is how shells say that it ended a process.
const signalBase = 128
