package store

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/meshd-io/meshd/pkg/report"
)

// ExternalAddresses is an annotation of pods that play a host outside of the
// mesh's ranges: the addresses of that host, a comma list. meshd is not told of them.
const ExternalAddresses = "lab.meshd.io/external-addresses"

// mirrored are the kinds that meshd reads.
func mirrored(kind string) bool {
	switch kind {
	case "Namespace", "ServiceAccount", "Service", "EndpointSlice", "Pod", "Secret", "Ingress", "IngressClass", "HTTPRoute",
		"MeshConfig", "CertificateAuthority", "PeerAuthentication", "RequestAuthentication",
		"AuthorizationPolicy", "TrafficPolicy", "Workload":
		return true
	}
	return false
}

// Mirror keeps one YAML file per object in a folder. It is not safe for concurrent use.
type Mirror struct {
	dir     string
	written map[report.Object]string // resourceVersion
}

// NewMirror makes the folder where it is missing.
func NewMirror(dir string) (*Mirror, error) {
	// Secrets are in it.
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("folder for meshd's objects: %w", err)
	}
	return &Mirror{dir: dir, written: map[report.Object]string{}}, nil
}

// Sync makes the files equal to the view.
func (m *Mirror) Sync(v View) error {
	for _, k := range slices.SortedFunc(maps.Keys(v), report.Object.Compare) {
		o := v[k]
		if !mirrored(k.Kind) || o.GetAnnotations()[ExternalAddresses] != "" || m.written[k] == o.GetResourceVersion() {
			continue
		}
		if err := m.write(k, o); err != nil {
			return err
		}
		m.written[k] = o.GetResourceVersion()
	}
	for k := range m.written {
		if _, ok := v[k]; ok {
			continue
		}
		if err := os.Remove(m.path(k)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("file of %s: %w", k, err)
		}
		delete(m.written, k)
	}
	return nil
}

func (m *Mirror) path(k report.Object) string {
	return filepath.Join(m.dir, fmt.Sprintf("%s.%s.%s.yaml", strings.ToLower(k.Kind), k.Namespace, k.Name))
}

// write replaces the file in one step. Its temporary name starts with a dot
// and has no ending of YAML, so that no watcher reads half of it.
func (m *Mirror) write(k report.Object, o Object) error {
	raw, err := yaml.Marshal(o)
	if err != nil {
		return fmt.Errorf("writing %s: %w", k, err)
	}
	tmp := filepath.Join(m.dir, ".next")
	if err := os.WriteFile(tmp, raw, 0o600); err != nil {
		return fmt.Errorf("file of %s: %w", k, err)
	}
	if err := os.Rename(tmp, m.path(k)); err != nil {
		return fmt.Errorf("file of %s: %w", k, err)
	}
	return nil
}
