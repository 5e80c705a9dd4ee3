package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

// Check tells in one line what this machine lacks to run a lab as the current
// user, nil if nothing.
func Check() error {
	if err := checkKernel(); err != nil {
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
func checkKernel() error {
	const major, minor = 5, 12
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return fmt.Errorf("ask for the kernel's version: %w", err)
	}
	release := unix.ByteSliceToString(u.Release[:])
	var have, haveMinor int
	n, _ := fmt.Sscanf(release, "%d.%d", &have, &haveMinor)
	if n < 2 || have > major || have == major && haveMinor >= minor {
		return nil // a version that says nothing is no reason to refuse
	}
	return fmt.Errorf("the lab needs Linux %d.%d, this is %s", major, minor, release)
}
