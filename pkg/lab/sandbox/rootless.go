package sandbox

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// skeletonDir is a directory of the machine that belongs to a user that the
// lab's user namespace may not know.
type skeletonDir struct {
	Path     string
	Mode     fs.FileMode
	UID, GID int
}

// skeletonRoots are where a container may want to write, and how deep.
func skeletonRoots() map[string]int {
	return map[string]int{
		"/": 1, "/etc": 1, "/run": 2, "/var": 2, "/var/log": 1, "/var/lib": 1, "/var/cache": 1,
		"/opt": 1, "/srv": 1, "/usr": 1, "/usr/local": 1, "/tmp": 0,
	}
}

// hostSkeleton reads modes and owners of the machine's writable places, which
// only the host can see: in the user namespace they all belong to nobody, and
// nobody's directories cannot be written to even by its root.
func hostSkeleton() []skeletonDir {
	seen := map[string]skeletonDir{}
	for root, depth := range skeletonRoots() {
		addSkeleton(seen, root, depth)
	}
	// By path, that is parents before children.
	return slices.SortedFunc(maps.Values(seen), func(a, b skeletonDir) int { return strings.Compare(a.Path, b.Path) })
}

func addSkeleton(seen map[string]skeletonDir, path string, depth int) {
	info, err := os.Lstat(path)
	if err != nil || !info.IsDir() || below(path, "/proc", "/sys", "/dev") {
		return
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return
	}
	seen[path] = skeletonDir{Path: path, Mode: info.Mode(), UID: int(st.Uid), GID: int(st.Gid)}
	if depth == 0 {
		return
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return
	}
	for _, e := range entries {
		if e.IsDir() {
			addSkeleton(seen, filepath.Join(path, e.Name()), depth-1)
		}
	}
}

// seedUpper makes the skeleton's directories of one file system in the upper
// layer, owned by the same number inside of the user namespace: what is in the
// lower layer stays visible, and the owner may write beside it.
func seedUpper(upper, point string, skeleton []skeletonDir) {
	for _, d := range skeleton {
		rel, err := filepath.Rel(point, d.Path)
		if err != nil || strings.HasPrefix(rel, "..") {
			continue
		}
		path := filepath.Join(upper, rel)
		if err := os.Mkdir(path, 0o755); err != nil && !os.IsExist(err) {
			continue
		}
		// An owner outside of the mapped range stays root's.
		_ = os.Lchown(path, d.UID, d.GID)
		_ = chmodLike(path, d.Mode)
	}
}

// mapIDs maps 0 to the calling user and 1.. to its subordinate ranges.
func mapIDs(ctx context.Context, pid int) error {
	for _, m := range []struct {
		tool, file string
		id         int
	}{{"newuidmap", "/etc/subuid", os.Getuid()}, {"newgidmap", "/etc/subgid", os.Getgid()}} {
		start, count, err := subordinate(m.file)
		if err != nil {
			return err
		}
		args := []string{strconv.Itoa(pid), "0", strconv.Itoa(m.id), "1", "1", start, count}
		if out, err := exec.CommandContext(ctx, m.tool, args...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", m.tool, err, strings.TrimSpace(string(out)))
		}
	}
	return nil
}

// subordinate finds the calling user's range in /etc/subuid or /etc/subgid.
func subordinate(file string) (start, count string, err error) {
	raw, err := os.ReadFile(file)
	if err != nil && !os.IsNotExist(err) {
		return "", "", err
	}
	id := strconv.Itoa(os.Getuid())
	name := id
	if u, err := user.LookupId(id); err == nil {
		name = u.Username
	}
	for line := range strings.Lines(string(raw)) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) == 3 && (f[0] == name || f[0] == id) {
			return f[1], f[2], nil
		}
	}
	return "", "", fmt.Errorf("user %s has no range in %s: add the line %s:100000:65536, or run as root", name, file, name)
}
