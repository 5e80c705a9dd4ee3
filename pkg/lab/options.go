package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"

	"github.com/meshd-io/meshd/pkg/injector"
	"github.com/meshd-io/meshd/pkg/lab/network"
)

// Options of a lab's daemon.
type Options struct {
	// Dir is the lab's folder: socket, logs, meshd's state. It is readable by its owner only.
	Dir string
	// Network are the lab's address ranges.
	Network network.Config
	// Path is where commands are looked up.
	Path string
	// Programs are folders whose programs every container can execute, before those on Path.
	Programs []string
	// Meshd is the path of the meshd binary that runs in the lab; "" is a lab
	// without a mesh, whose pods are ordinary ones.
	Meshd string
	// Bootstrap renders the bootstrap of Envoys.
	Bootstrap injector.Bootstrapper
}

func (o Options) socket() string      { return filepath.Join(o.Dir, "lab.sock") }
func (o Options) configDir() string   { return filepath.Join(o.Dir, "config") }
func (o Options) stateDir() string    { return filepath.Join(o.Dir, "meshd") }
func (o Options) logDir() string      { return filepath.Join(o.Dir, "logs") }
func (o Options) jwks() string        { return filepath.Join(o.stateDir(), "jwks.json") }
func (o Options) adminSocket() string { return AdminSocket(o.Dir) }

// AdminSocket is the admin socket of the meshd in a lab, by the lab's folder.
func AdminSocket(dir string) string { return filepath.Join(dir, "meshd", "admin.sock") }

// cidrs are the addresses of pods and services.
func cidrs(c network.Config) []netip.Prefix {
	return []netip.Prefix{c.Pods.V4, c.Pods.V6, c.Services.V4, c.Services.V6}
}

// ParseRange reads one IPv4 and one IPv6 prefix; what is left out is the default's.
func ParseRange(texts []string, def network.Range) (network.Range, error) {
	for _, t := range texts {
		p, err := netip.ParsePrefix(t)
		if err != nil {
			return def, fmt.Errorf("CIDR %q: %w", t, err)
		}
		if p.Addr().Is4() {
			def.V4 = p
		} else {
			def.V6 = p
		}
	}
	if len(texts) > 2 {
		return def, errors.New("at most one IPv4 and one IPv6 CIDR")
	}
	return def, nil
}
