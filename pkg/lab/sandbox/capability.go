package sandbox

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// capabilityNames are the kernel's, in the order of their numbers
// (include/uapi/linux/capability.h).
func capabilityNames() []string {
	return []string{
		"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID",
		"SETPCAP", "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW",
		"IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT",
		"SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD",
		"LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG",
		"WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF", "CHECKPOINT_RESTORE",
	}
}

// DefaultCapabilities are those that container runtimes give by default (no
// NET_ADMIN, no SYS_ADMIN).
func DefaultCapabilities() []string {
	return []string{
		"CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID",
		"SETFCAP", "SETPCAP", "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE",
	}
}

// capabilityMask turns names into bits; "ALL" is all of them.
func capabilityMask(names []string) (uint64, error) {
	number := map[string]int{}
	for i, n := range capabilityNames() {
		number[n] = i
	}
	var mask uint64
	for _, n := range names {
		n = strings.TrimPrefix(strings.ToUpper(n), "CAP_")
		if n == "ALL" {
			return 1<<len(number) - 1, nil
		}
		i, ok := number[n]
		if !ok {
			return 0, fmt.Errorf("there is no capability %q", n)
		}
		mask |= 1 << i
	}
	return mask, nil
}

// dropBounding takes everything outside the mask from the thread's bounding
// set, so that no later execve can bring it back.
func dropBounding(mask uint64) error {
	for c := range len(capabilityNames()) {
		if mask&(1<<c) != 0 {
			continue
		}
		err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0)
		if errors.Is(err, unix.EINVAL) {
			break // an older kernel without this one
		}
		if err != nil {
			return fmt.Errorf("drop capability %s: %w", capabilityNames()[c], err)
		}
	}
	return nil
}

// setCapabilities limits what the thread has to the mask and clears what would
// be inherited.
func setCapabilities(mask uint64) error {
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("clear ambient capabilities: %w", err)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("read capabilities: %w", err)
	}
	for i := range data {
		keep := uint32(mask >> (32 * i))
		data[i].Permitted &= keep
		data[i].Effective = data[i].Permitted
		data[i].Inheritable = 0
	}
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("set capabilities: %w", err)
	}
	return nil
}
