package sandbox

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// buildRoot gives the process a root directory of its own:
//
//	/      an overlay over each of the machine's file systems, upper layer in Layer
//	/proc, /sys, /dev  new ones, with what is not for containers masked
//	spec.Mounts        bind mounts
//
// Sources are opened before the root changes and attached after, so that a
// symbolic link in a target (/var/run -> /run) leads where it leads for the
// container.
func buildRoot(cfg initConfig) error {
	mounts, err := accountMounts(cfg.Spec.User, cfg.Layer)
	if err != nil {
		return fmt.Errorf("name the user: %w", err)
	}
	mounts = append(mounts, cfg.Spec.Mounts...)
	sources, err := cloneSources(mounts)
	if err != nil {
		return err
	}
	root := filepath.Join(cfg.Layer, "root")
	if err := os.Mkdir(root, 0o755); err != nil {
		return err
	}
	machine := overlayMachine
	if cfg.Rootless {
		machine = scaffoldMachine
	}
	if err := machine(cfg, root); err != nil {
		return err
	}
	if err := mountKernel(root); err != nil {
		return err
	}
	if err := pivot(root); err != nil {
		return err
	}
	for i, m := range mounts {
		if err := attach(sources[i], m); err != nil {
			return err
		}
	}
	if dir := cfg.Spec.WorkDir; dir != "" {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make the working directory: %w", err)
		}
	}
	if cfg.Spec.ReadOnlyRoot {
		if err := setReadOnly("/"); err != nil {
			return fmt.Errorf("make the root read-only: %w", err)
		}
	}
	return nil
}

// source is a detached copy of a mount source.
type source struct {
	fd  int
	dir bool
}

func cloneSources(mounts []Mount) ([]source, error) {
	out := make([]source, len(mounts))
	for i, m := range mounts {
		info, err := os.Stat(m.Source)
		if err != nil {
			return nil, fmt.Errorf("mount %s: %w", m.Target, err)
		}
		fd, err := unix.OpenTree(unix.AT_FDCWD, m.Source,
			unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
		if err != nil {
			return nil, fmt.Errorf("mount %s: open %s: %w", m.Target, m.Source, err)
		}
		out[i] = source{fd: fd, dir: info.IsDir()}
	}
	return out, nil
}

// attach puts a source at its target, in the container's root.
func attach(s source, m Mount) error {
	if err := makeTarget(m.Target, s.dir); err != nil {
		return fmt.Errorf("make the mount target %s: %w", m.Target, err)
	}
	if m.ReadOnly {
		attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
		if err := unix.MountSetattr(s.fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr); err != nil {
			return fmt.Errorf("make the mount %s read-only: %w", m.Target, err)
		}
	}
	const fromFD, followTarget = unix.MOVE_MOUNT_F_EMPTY_PATH, unix.MOVE_MOUNT_T_SYMLINKS
	if err := unix.MoveMount(s.fd, "", unix.AT_FDCWD, m.Target, fromFD|followTarget); err != nil {
		return fmt.Errorf("mount %s: %w", m.Target, err)
	}
	return unix.Close(s.fd)
}

// maxLinks bounds a chain of symbolic links, as the kernel does.
const maxLinks = 40

// makeTarget makes the file or directory that a mount needs as its target.
func makeTarget(target string, dir bool) error {
	if dir {
		return os.MkdirAll(target, 0o755)
	}
	// A link that leads nowhere (/etc/resolv.conf into a /run that is not
	// there) is followed: the mount will be where it leads.
	for range maxLinks {
		to, err := os.Readlink(target)
		if err != nil {
			break
		}
		if !filepath.IsAbs(to) {
			to = filepath.Join(filepath.Dir(target), to)
		}
		target = to
	}
	if _, err := os.Stat(target); err == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(target, os.O_CREATE|os.O_RDONLY, 0o644)
	if err != nil {
		return err
	}
	return f.Close()
}

// pivot makes root the root directory and lets go of the old one.
func pivot(root string) error {
	if err := os.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("change the root directory: %w", err)
	}
	// The old root lies on top of the new one now.
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("let go of the old root directory: %w", err)
	}
	return os.Chdir("/")
}

func setReadOnly(path string) error {
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	return unix.MountSetattr(unix.AT_FDCWD, path, 0, &attr)
}
