package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const cgroupRoot = "/sys/fs/cgroup"

// hierarchies are the cgroup mounts of this machine: one with version 2, one per controller with version 1.
func hierarchies() (roots []string, v2 bool, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(cgroupRoot, &st); err != nil {
		return nil, false, err
	}
	if st.Type == unix.CGROUP2_SUPER_MAGIC {
		return []string{cgroupRoot}, true, nil
	}
	entries, err := os.ReadDir(cgroupRoot)
	if err != nil {
		return nil, false, err
	}
	for _, e := range entries {
		at := filepath.Join(cgroupRoot, e.Name())
		if e.Type()&fs.ModeSymlink != 0 { // cpu -> cpu,cpuacct
			continue
		}
		if err := unix.Statfs(at, &st); err == nil && (st.Type == unix.CGROUP_SUPER_MAGIC || st.Type == unix.CGROUP2_SUPER_MAGIC) {
			roots = append(roots, at)
		}
	}
	if len(roots) == 0 {
		return nil, false, fmt.Errorf("no cgroups are mounted in %s", cgroupRoot)
	}
	return roots, false, nil
}

// makeCgroups makes the cgroup under which kubelet keeps the pods.
func makeCgroups(name string) error {
	roots, v2, err := hierarchies()
	if err != nil {
		return err
	}
	for _, root := range roots {
		if err := os.Mkdir(filepath.Join(root, name), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		// cpuset of version 1: a new group has no processors until it is told.
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			all, err := os.ReadFile(filepath.Join(root, file))
			if err != nil {
				continue
			}
			if err := os.WriteFile(filepath.Join(root, name, file), all, 0); err != nil && !v2 {
				return err
			}
		}
	}
	if !v2 {
		return nil
	}
	controllers, err := os.ReadFile(filepath.Join(cgroupRoot, "cgroup.controllers"))
	if err != nil {
		return err
	}
	enable := "+" + strings.Join(strings.Fields(string(controllers)), " +")
	for _, dir := range []string{cgroupRoot, filepath.Join(cgroupRoot, name)} {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte(enable), 0); err != nil {
			return fmt.Errorf("enable the controllers below %s (in a container: move its processes to a cgroup of their own first): %w", dir, err)
		}
	}
	return nil
}

// removeCgroups removes it with all that kubelet and runc have made below; their processes have been killed.
func removeCgroups(name string) error {
	roots, _, err := hierarchies()
	if err != nil {
		return err
	}
	for _, root := range roots {
		var dirs []string
		err := filepath.WalkDir(filepath.Join(root, name), func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return nil // what is not there need not be removed
		})
		if err != nil {
			return err
		}
		slices.Reverse(dirs) // children first
		for _, dir := range dirs {
			if err := removeCgroup(dir); err != nil {
				return err
			}
		}
	}
	return nil
}

// removeCgroup removes one; the kernel may still be burying its last process.
func removeCgroup(dir string) error {
	deadline := time.Now().Add(10 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := unix.Rmdir(dir)
		if err == nil || errors.Is(err, unix.ENOENT) {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return fmt.Errorf("remove cgroup %s: %w", dir, err)
		}
		<-tick.C
	}
}
