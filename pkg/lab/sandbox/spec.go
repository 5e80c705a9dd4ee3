package sandbox

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// Mount is a bind mount into a container.
type Mount struct {
	// Source is a file or directory as the daemon sees it.
	Source string
	// Target is an absolute path in the container. It is made, parents
	// included, if it is missing (in the container's private layer).
	Target   string
	ReadOnly bool
}

// User is whom a process runs as.
type User struct {
	UID, GID uint32
	// Groups are the supplementary groups.
	Groups []uint32
}

// Spec is a container to start.
type Spec struct {
	// Name is for messages and for the private layer's directory, e.g.
	// NAMESPACE_POD_CONTAINER.
	Name string
	// Network is the pod's namespace (network.Namespace.File); nil is the
	// node's, which is what hostNetwork means in the lab.
	Network *os.File
	// Hostname is the UTS host name; "" keeps the machine's.
	Hostname string
	// Command and its arguments. Command[0] without a slash is looked up in
	// the container on the PATH of Env.
	Command []string
	// Env is the whole environment, KEY=VALUE. PATH is added if missing.
	Env []string
	// User is whom it runs as; the zero value is root.
	User User
	// WorkDir is made if it is missing; "" is "/".
	WorkDir string
	// Mounts are done in order.
	Mounts []Mount
	// Capabilities is the whole set that the container may have, names without
	// CAP_ ("NET_ADMIN"); nil is none. See DefaultCapabilities. As in
	// Kubernetes, a process that is not root has none of them in effect.
	Capabilities []string
	// NoNewPrivileges is allowPrivilegeEscalation: false.
	NoNewPrivileges bool
	// ReadOnlyRoot makes all but volumes, /dev and /proc read-only.
	ReadOnlyRoot bool
	// OOMScoreAdj is written to oom_score_adj; 0 leaves it.
	OOMScoreAdj int
	// Stdin is /dev/null if nil.
	Stdin *os.File
	// Stdout and Stderr receive the output until the container ends; nil
	// discards it. They may be the same; if not, writes to the two may happen
	// at the same time.
	Stdout, Stderr io.Writer
}

func (s Spec) validate() error {
	if len(s.Command) == 0 || s.Command[0] == "" {
		return fmt.Errorf("container %s has no command", s.Name)
	}
	if _, err := capabilityMask(s.Capabilities); err != nil {
		return fmt.Errorf("container %s: %w", s.Name, err)
	}
	for _, m := range s.Mounts {
		if !filepath.IsAbs(m.Target) || filepath.Clean(m.Target) == "/" {
			return fmt.Errorf("container %s: mount target %q is not an absolute path below /", s.Name, m.Target)
		}
	}
	if s.WorkDir != "" && !filepath.IsAbs(s.WorkDir) {
		return fmt.Errorf("container %s: working directory %q is not absolute", s.Name, s.WorkDir)
	}
	for _, e := range s.Env {
		if k, _, ok := strings.Cut(e, "="); !ok || k == "" {
			return fmt.Errorf("container %s: environment entry %q is not KEY=VALUE", s.Name, e)
		}
	}
	return nil
}

// defaultPath is the PATH of a container whose environment has none.
const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// withPath adds PATH if it is missing.
func withPath(env []string) []string {
	for _, e := range env {
		if strings.HasPrefix(e, "PATH=") {
			return env
		}
	}
	return append(env[:len(env):len(env)], defaultPath)
}
