package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"sort"
	"strconv"
	"strings"
	"syscall"
)

// Check tells in one line what this machine lacks to run a lab as the current
// user, nil if nothing.
func Check() error {
	if err := checkKernel(5, 12); err != nil {
		return err
	}
	if _, err := os.Stat("/proc/sys/net/ipv6"); err != nil {
		return errors.New("this kernel has no IPv6 (ipv6.disable=1?), which the lab's network needs")
	}
	if os.Geteuid() == 0 {
		return nil
	}
	return checkRootless()
}

// checkRootless looks at what a user namespace with ranges of ids needs.
func checkRootless() error {
	for _, s := range []struct{ file, bad, cure string }{
		{"/proc/sys/user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=15000"},
		{"/proc/sys/kernel/unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1"},
		{"/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1", "sysctl kernel.apparmor_restrict_unprivileged_userns=0"},
	} {
		raw, err := os.ReadFile(s.file)
		if err == nil && strings.TrimSpace(string(raw)) == s.bad {
			return fmt.Errorf("user namespaces are off on this machine: %s, or run as root", s.cure)
		}
	}
	if _, err := os.Stat("/proc/self/ns/user"); err != nil {
		return errors.New("this kernel has no user namespaces: run as root")
	}
	for _, tool := range []string{"newuidmap", "newgidmap"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("%s is missing: install the package uidmap (shadow-utils), or run as root", tool)
		}
	}
	for _, file := range []string{"/etc/subuid", "/etc/subgid"} {
		if _, _, err := subordinate(file); err != nil {
			return err
		}
	}
	return nil
}

// checkKernel asks for a kernel version: mount_setattr(2) came with 5.12, and
// overlays in user namespaces just before.
func checkKernel(major, minor int) error {
	var u syscall.Utsname
	if err := syscall.Uname(&u); err != nil {
		return nil
	}
	var release strings.Builder
	for _, c := range u.Release {
		if c == 0 {
			break
		}
		release.WriteByte(byte(c))
	}
	parts := strings.SplitN(release.String(), ".", 3)
	if len(parts) < 2 {
		return nil
	}
	have, err1 := strconv.Atoi(parts[0])
	haveMinor, err2 := strconv.Atoi(strings.TrimRight(parts[1], "-+abcdefghijklmnopqrstuvwxyz"))
	if err1 != nil || err2 != nil || have > major || have == major && haveMinor >= minor {
		return nil
	}
	return fmt.Errorf("the lab needs Linux %d.%d, this is %s", major, minor, release.String())
}

func sortByPath(dirs []skeletonDir) {
	sort.Slice(dirs, func(i, j int) bool { return dirs[i].Path < dirs[j].Path })
}

// chmodLike sets permission bits, the sticky bit included.
func chmodLike(path string, mode fs.FileMode) error {
	return os.Chmod(path, mode.Perm()|mode&(fs.ModeSticky|fs.ModeSetgid))
}
