package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

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
	sources, err := cloneSources(cfg.Spec.Mounts)
	if err != nil {
		return err
	}
	root := filepath.Join(cfg.Layer, "root")
	if err := os.Mkdir(root, 0o755); err != nil {
		return err
	}
	if err := overlayMachine(cfg, root); err != nil {
		return err
	}
	if err := mountKernel(root); err != nil {
		return err
	}
	if err := pivot(root); err != nil {
		return err
	}
	nameUser(cfg.Spec.User)
	for i, m := range cfg.Spec.Mounts {
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
		if err := setReadOnly("/", 0); err != nil {
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

// makeTarget makes the file or directory that a mount needs as its target.
func makeTarget(target string, dir bool) error {
	if dir {
		return os.MkdirAll(target, 0o755)
	}
	if _, err := os.Stat(target); err == nil {
		return nil
	}
	// A dangling link (/etc/resolv.conf into a /run that is not there) is no
	// target; the container gets a file in its place.
	if err := os.Remove(target); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
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

func setReadOnly(path string, flags uint) error {
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	return unix.MountSetattr(unix.AT_FDCWD, path, flags, &attr)
}

// overlayMachine mounts an overlay over each file system of the machine.
func overlayMachine(cfg initConfig, root string) error {
	points, err := machineMounts(cfg.Private)
	if err != nil {
		return err
	}
	for i, m := range points {
		layer := filepath.Join(cfg.Layer, "fs"+strconv.Itoa(i))
		err := m.overlay(cfg, layer, root)
		if err != nil && m.point == "/" {
			return fmt.Errorf("mount an overlay over /: %w", err)
		}
		// Any other file system that cannot be a lower layer is shown as it
		// is, read-only, and if that fails too (another user's FUSE mount) not
		// at all.
		if err != nil {
			_ = m.bindReadOnly(root)
		}
	}
	return nil
}

// machineMount is a file system of the machine.
type machineMount struct {
	point   string
	fstype  string
	options string
}

// kernelFilesystems have no files that a container could need.
const kernelFilesystems = " proc sysfs cgroup cgroup2 devtmpfs devpts mqueue debugfs tracefs securityfs pstore bpf " +
	"configfs fusectl hugetlbfs autofs nsfs binfmt_misc efivarfs rpc_pipefs selinuxfs ramfs "

// readOnlyFilesystems need no overlay.
const readOnlyFilesystems = " squashfs iso9660 erofs "

// machineMounts lists the machine's file systems, parents first. Those below
// /proc, /sys, /dev and the lab's own tmpfs are left out.
func machineMounts(private string) ([]machineMount, error) {
	raw, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var out []machineMount
	index := map[string]int{}
	for line := range strings.Lines(string(raw)) {
		m, ok := parseMount(line)
		if !ok || strings.Contains(kernelFilesystems, " "+m.fstype+" ") || below(m.point, private, "/proc", "/sys", "/dev") {
			continue
		}
		// A later mount at the same point hides the earlier.
		if i, ok := index[m.point]; ok {
			out[i] = m
			continue
		}
		index[m.point] = len(out)
		out = append(out, m)
	}
	return out, nil
}

func below(path string, dirs ...string) bool {
	for _, d := range dirs {
		if path == d || strings.HasPrefix(path, d+"/") {
			return true
		}
	}
	return false
}

// parseMount reads a line of proc_pid_mountinfo(5).
func parseMount(line string) (machineMount, bool) {
	left, right, ok := strings.Cut(line, " - ")
	fields, types := strings.Fields(left), strings.Fields(right)
	const pointField, optionsField = 4, 5
	if !ok || len(fields) <= optionsField || len(types) == 0 {
		return machineMount{}, false
	}
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	return machineMount{
		point: unescape.Replace(fields[pointField]), options: fields[optionsField], fstype: types[0],
	}, true
}

// overlay mounts the overlay of one file system below root.
func (m machineMount) overlay(cfg initConfig, layer, root string) error {
	info, err := os.Stat(m.point)
	if err != nil {
		return err
	}
	if !info.IsDir() || strings.Contains(readOnlyFilesystems, " "+m.fstype+" ") || strings.ContainsAny(m.point, `:,\`) {
		return errors.New("not a lower layer")
	}
	upper, work := filepath.Join(layer, "upper"), filepath.Join(layer, "work")
	if err := os.MkdirAll(work, 0o700); err != nil {
		return err
	}
	if err := mkdirLike(upper, info); err != nil {
		return err
	}
	data := "lowerdir=" + m.point + ",upperdir=" + upper + ",workdir=" + work
	if cfg.Rootless {
		data += ",userxattr"
		seedUpper(upper, m.point, cfg.Skeleton)
	}
	flags := uintptr(unix.MS_NODEV)
	if strings.Contains(","+m.options+",", ",nosuid,") {
		flags |= unix.MS_NOSUID
	}
	return unix.Mount("overlay", filepath.Join(root, m.point), "overlay", flags, data)
}

// mkdirLike makes a directory with the mode and owner of another; the upper
// layer's is the one that counts.
func mkdirLike(dir string, like os.FileInfo) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	if st, ok := like.Sys().(*syscall.Stat_t); ok {
		_ = os.Chown(dir, int(st.Uid), int(st.Gid)) // fails for an unmapped owner: root's then
	}
	return chmodLike(dir, like.Mode())
}

func (m machineMount) bindReadOnly(root string) error {
	target := filepath.Join(root, m.point)
	if err := unix.Mount(m.point, target, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	return setReadOnly(target, 0)
}
