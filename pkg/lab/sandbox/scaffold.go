package sandbox

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// scaffold builds a container's root without root. There the kernel refuses an
// overlay over a directory that has a mount of the machine somewhere below, as
// / always does. So directories with mounts below are made anew in a tmpfs, and
// their entries put in one by one: an overlay for a directory without mounts
// below, a bind mount for a file, a copy of a symbolic link.
type scaffold struct {
	cfg    initConfig
	root   string
	mounts []machineMount
	owners map[string]skeletonDir
	layers int // numbers the overlays' layers
}

func scaffoldMachine(cfg initConfig, root string) error {
	mounts, err := machineMounts(cfg.Private)
	if err != nil {
		return err
	}
	if err := unix.Mount("meshd-lab", root, "tmpfs", unix.MS_NODEV, "mode=0755"); err != nil {
		return fmt.Errorf("mount the root: %w", err)
	}
	s := &scaffold{cfg: cfg, root: root, mounts: mounts, owners: map[string]skeletonDir{}}
	for _, d := range cfg.Skeleton {
		s.owners[d.Path] = d
	}
	return s.fill("/")
}

// fill puts the machine's entries of a directory into its copy. Entries that
// cannot be read or mounted (another user's) are left out, as they would be of
// no use.
func (s *scaffold) fill(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		copied := filepath.Join(s.root, path)
		switch {
		case e.Type()&fs.ModeSymlink != 0:
			if to, err := os.Readlink(path); err == nil {
				_ = os.Symlink(to, copied)
			}
		case e.IsDir():
			info, err := e.Info()
			if err == nil {
				err = s.directory(path, copied, info)
			}
			if err != nil && !os.IsNotExist(err) {
				return err
			}
		case e.Type().IsRegular():
			_ = bindFile(path, copied)
		}
	}
	return nil
}

func (s *scaffold) directory(path, copied string, info fs.FileInfo) error {
	if err := mkdirLike(copied, info); err != nil {
		return fmt.Errorf("make %s: %w", path, err)
	}
	if d, ok := s.owners[path]; ok {
		_ = os.Lchown(copied, d.UID, d.GID) // outside of the mapped range: root's
		if err := chmodLike(copied, d.Mode); err != nil {
			return fmt.Errorf("make %s: %w", path, err)
		}
	}
	at := s.mountAt(path)
	if below(path, "/proc", "/sys", "/dev") || at.ofKernel() {
		return nil
	}
	if s.mountsBelow(path) {
		_ = s.fill(path)
		return nil
	}
	m := machineMount{point: path, fstype: at.fstype, options: at.options}
	s.layers++
	layer := filepath.Join(s.cfg.Layer, "fs"+strconv.Itoa(s.layers))
	if err := m.overlay(s.cfg, layer, s.root); err != nil {
		_ = m.bindReadOnly(s.root)
	}
	return nil
}

// mountAt is the file system that a path is on.
func (s *scaffold) mountAt(path string) machineMount {
	var best machineMount
	for _, m := range s.mounts {
		if (m.point == "/" || below(path, m.point)) && len(m.point) >= len(best.point) {
			best = m
		}
	}
	return best
}

func (s *scaffold) mountsBelow(path string) bool {
	for _, m := range s.mounts {
		if strings.HasPrefix(m.point, path+"/") {
			return true
		}
	}
	return false
}
