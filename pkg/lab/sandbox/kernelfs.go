package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// mountKernel mounts /proc, /sys and /dev below root.
func mountKernel(root string) error {
	const strict = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	proc := filepath.Join(root, "proc")
	if err := unix.Mount("proc", proc, "proc", strict, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if err := maskProc(proc); err != nil {
		return err
	}
	// sysfs shows the network namespace of the one who mounts it. A machine
	// that forbids it leaves the container without, as some runtimes do.
	_ = unix.Mount("sysfs", filepath.Join(root, "sys"), "sysfs", strict|unix.MS_RDONLY, "")
	return mountDev(filepath.Join(root, "dev"))
}

// maskProc keeps root in a container from the machine's knobs: files in /proc
// obey the user id, not the capabilities.
func maskProc(proc string) error {
	for _, name := range []string{"bus", "fs", "irq", "sys", "sysrq-trigger"} {
		path := filepath.Join(proc, name)
		err := unix.Mount(path, path, "", unix.MS_BIND|unix.MS_REC, "")
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err == nil {
			err = setReadOnly(path)
		}
		if err != nil {
			return fmt.Errorf("make /proc/%s read-only: %w", name, err)
		}
	}
	for _, name := range []string{"kcore", "keys", "latency_stats", "timer_list", "sched_debug", "kmsg"} {
		err := unix.Mount("/dev/null", filepath.Join(proc, name), "", unix.MS_BIND, "")
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("mask /proc/%s: %w", name, err)
		}
	}
	return nil
}

// mountDev makes a /dev with what every program may expect, and no disk.
func mountDev(dev string) error {
	if err := unix.Mount("tmpfs", dev, "tmpfs", unix.MS_NOSUID|unix.MS_NOEXEC, "mode=0755"); err != nil {
		return fmt.Errorf("mount /dev: %w", err)
	}
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		if err := bindFile(filepath.Join("/dev", name), filepath.Join(dev, name)); err != nil {
			return err
		}
	}
	for link, to := range map[string]string{
		"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1",
		"stderr": "/proc/self/fd/2", "ptmx": "pts/ptmx",
	} {
		if err := os.Symlink(to, filepath.Join(dev, link)); err != nil {
			return err
		}
	}
	for _, m := range []struct{ name, fstype, data string }{
		{"shm", "tmpfs", "mode=1777"},
		{"mqueue", "mqueue", ""},
		{"pts", "devpts", "newinstance,ptmxmode=0666,mode=0620"},
	} {
		path := filepath.Join(dev, m.name)
		if err := os.Mkdir(path, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.fstype, path, m.fstype, unix.MS_NOSUID|unix.MS_NOEXEC, m.data); err != nil {
			return fmt.Errorf("mount /dev/%s: %w", m.name, err)
		}
	}
	return nil
}

func bindFile(from, to string) error {
	f, err := os.OpenFile(to, os.O_CREATE|os.O_RDONLY, 0o666)
	if err != nil {
		return err
	}
	f.Close()
	if err := unix.Mount(from, to, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind %s: %w", from, err)
	}
	return nil
}
