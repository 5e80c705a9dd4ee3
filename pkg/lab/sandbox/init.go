package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// runInit is the set-up of a container's process, inside its new namespaces:
// network, mounts, credentials, then the command takes its place. It returns
// only if something failed.
func runInit() error {
	config := os.NewFile(fdConfig, "config")
	var cfg initConfig
	if err := json.NewDecoder(config).Decode(&cfg); err != nil {
		return fmt.Errorf("read the configuration: %w", err)
	}
	sealDescriptors(fdExtra)
	unix.Umask(0o022)
	var err error
	if cfg.Layer == "" {
		err = joinContainer()
	} else {
		err = makeContainer(cfg)
	}
	if err != nil {
		return err
	}
	if err := becomeUser(cfg.Spec, cfg.Rootless); err != nil {
		return err
	}
	return execute(cfg.Spec)
}

// joinContainer enters the namespaces of the container that the pidfd is of.
// The PID namespace is that of birth already.
func joinContainer() error {
	// Threads share their root directory; a shared one cannot change its mount
	// namespace.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Setns(fdExtra, unix.CLONE_NEWNS|unix.CLONE_NEWNET|unix.CLONE_NEWUTS|unix.CLONE_NEWIPC); err != nil {
		return fmt.Errorf("enter the container: %w", err)
	}
	return nil
}

func makeContainer(cfg initConfig) error {
	if cfg.Network {
		if err := unix.Setns(fdExtra, unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter the pod's network: %w", err)
		}
	}
	if cfg.Spec.Hostname != "" {
		if err := unix.Sethostname([]byte(cfg.Spec.Hostname)); err != nil {
			return fmt.Errorf("set the host name %q: %w", cfg.Spec.Hostname, err)
		}
	}
	if adj := cfg.Spec.OOMScoreAdj; adj != 0 {
		// Lowering it may be forbidden, which a container must not die of.
		_ = os.WriteFile("/proc/self/oom_score_adj", fmt.Append(nil, adj), 0)
	}
	return buildRoot(cfg)
}

// becomeUser gives up what the container may not have. All calls are for this
// thread alone, which is the one that executes the command.
func becomeUser(spec initSpec, rootless bool) error {
	mask, err := capabilityMask(spec.Capabilities)
	if err != nil {
		return err
	}
	if err := dropBounding(mask); err != nil {
		return err
	}
	groups := spec.User.Groups
	if len(groups) == 0 {
		groups = []uint32{spec.User.GID}
	}
	hint := ""
	if rootless {
		hint = " (without root only ids in the ranges of /etc/subuid and /etc/subgid exist)"
	}
	if err := setGroups(groups); err != nil {
		return fmt.Errorf("take the groups %v%s: %w", groups, hint, err)
	}
	gid, uid := uintptr(spec.User.GID), uintptr(spec.User.UID)
	if _, _, e := unix.RawSyscall(unix.SYS_SETRESGID, gid, gid, gid); e != 0 {
		return fmt.Errorf("become group %d%s: %w", gid, hint, e)
	}
	if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, uid, uid, uid); e != 0 {
		return fmt.Errorf("become user %d%s: %w", uid, hint, e)
	}
	if err := setCapabilities(mask); err != nil {
		return err
	}
	if spec.NoNewPrivileges {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return fmt.Errorf("set no_new_privs: %w", err)
		}
	}
	return nil
}

// execute replaces the process by the command.
func execute(spec initSpec) error {
	dir := spec.WorkDir
	if dir == "" {
		dir = "/"
	}
	if err := os.Chdir(dir); err != nil {
		return fmt.Errorf("enter the working directory: %w", err)
	}
	path, err := lookUp(spec.Command[0], spec.Env)
	if err != nil {
		exitWith(commandNotFound, err)
	}
	err = unix.Exec(path, spec.Command, spec.Env)
	exitWith(commandFailed, fmt.Errorf("%s: %w", spec.Command[0], err))
	return nil
}

// exitWith tells the daemon why there is no command, with the exit code that a
// shell would give.
func exitWith(code int, err error) {
	result := os.NewFile(fdResult, "result")
	fmt.Fprint(result, err)
	result.Close()
	os.Exit(code)
}

// lookUp finds a command on the PATH of env, as the container's user.
func lookUp(command string, env []string) (string, error) {
	if strings.Contains(command, "/") {
		if _, err := os.Stat(command); err != nil {
			return "", fmt.Errorf("%s: %w", command, errors.Unwrap(err))
		}
		return command, nil
	}
	path := ""
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			path = v
		}
	}
	for _, dir := range filepath.SplitList(path) {
		file := filepath.Join(dir, command)
		info, err := os.Stat(file)
		if err == nil && info.Mode().IsRegular() && unix.Faccessat(unix.AT_FDCWD, file, unix.X_OK, unix.AT_EACCESS) == nil {
			return file, nil
		}
	}
	return "", fmt.Errorf("%s: not found on PATH=%s", command, path)
}
