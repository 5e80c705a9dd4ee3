package apiserver

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/meshd-io/meshd/internal/kubetest"
)

// kubectl runs the real one as the administrator, with text as its standard input.
func kubectl(t *testing.T, c *kubetest.Cluster, in string, args ...string) (string, error) {
	t.Helper()
	path := filepath.Join(os.Getenv("MESHD_KUBE"), "kubectl")
	if _, err := os.Stat(path); err != nil {
		t.Skip("NOT TESTED: MESHD_KUBE has no kubectl")
	}
	cmd := exec.CommandContext(t.Context(), path, append([]string{"--kubeconfig", c.Kubeconfig(t)}, args...)...)
	cmd.Stdin = bytes.NewBufferString(in)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// apply is kubectl apply of some YAML, as strict as its default is.
func apply(t *testing.T, c *kubetest.Cluster, yaml string) {
	t.Helper()
	if out, err := kubectl(t, c, yaml, "apply", "--validate=strict", "-f", "-"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}
