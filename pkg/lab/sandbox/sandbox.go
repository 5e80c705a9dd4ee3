package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
)

// Sandbox starts containers. There is one in the daemon.
type Sandbox struct {
	cfg  sandboxConfig
	next atomic.Int64 // numbers the private layers
}

// sandboxConfig is what PID 1 hands to the daemon.
type sandboxConfig struct {
	Magic    string
	Private  string
	Rootless bool
	Skeleton []skeletonDir `json:",omitempty"`
}

const sandboxMagic = "meshd-lab-sandbox"

// Open is called in the daemon (the process that Start executed with
// Options.Args), once.
func Open() (*Sandbox, error) {
	f := os.NewFile(fdConfig, "sandbox")
	if f == nil {
		return nil, errors.New("this process was not started by a lab")
	}
	defer f.Close()
	s := &Sandbox{}
	if err := json.NewDecoder(f).Decode(&s.cfg); err != nil || s.cfg.Magic != sandboxMagic {
		return nil, errors.New("this process was not started by a lab")
	}
	if err := os.MkdirAll(s.layers(), 0o755); err != nil {
		return nil, fmt.Errorf("make the layers' directory: %w", err)
	}
	return s, nil
}

// Private is the lab's tmpfs: a directory that only the lab sees and that
// vanishes with it. Volumes (emptyDir, projected files) go here. The name
// "containers" belongs to the Sandbox.
func (s *Sandbox) Private() string { return s.cfg.Private }

// Rootless tells whether the lab runs in a user namespace.
func (s *Sandbox) Rootless() bool { return s.cfg.Rootless }

func (s *Sandbox) layers() string { return filepath.Join(s.cfg.Private, "containers") }
