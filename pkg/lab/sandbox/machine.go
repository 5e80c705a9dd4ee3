package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// overlayMachine mounts an overlay over each file system of the machine.
func overlayMachine(cfg initConfig, root string) error {
	mounts, err := machineMounts(cfg.Private)
	if err != nil {
		return err
	}
	for i, m := range mounts {
		if m.ofKernel() || below(m.point, "/proc", "/sys", "/dev") {
			continue
		}
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

func (m machineMount) ofKernel() bool { return strings.Contains(kernelFilesystems, " "+m.fstype+" ") }

// machineMounts lists the machine's file systems, parents first, without the
// lab's own tmpfs.
func machineMounts(private string) ([]machineMount, error) {
	raw, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var out []machineMount
	index := map[string]int{}
	for line := range strings.Lines(string(raw)) {
		m, ok := parseMount(line)
		if !ok || below(m.point, private) {
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

// chmodLike sets permission bits, the sticky bit included.
func chmodLike(path string, mode fs.FileMode) error {
	return os.Chmod(path, mode.Perm()|mode&(fs.ModeSticky|fs.ModeSetgid))
}

func (m machineMount) bindReadOnly(root string) error {
	target := filepath.Join(root, m.point)
	if err := unix.Mount(m.point, target, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	return setReadOnly(target)
}
