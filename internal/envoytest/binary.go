package envoytest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Version is the Envoy that meshd is built for.
const Version = "1.40.0"

// Binary is the path of Envoy: $MESHD_ENVOY, or where `make` puts it, or the
// one on PATH. A test is skipped where there is none, except where $CI is set:
// there a missing Envoy must not look like a passed test.
func Binary(t testing.TB) string {
	t.Helper()
	candidates := []string{os.Getenv("MESHD_ENVOY")}
	if home, err := os.UserHomeDir(); err == nil {
		candidates = append(candidates, filepath.Join(home, ".cache", "meshd", "envoy-"+Version, "envoy"))
	}
	if onPath, err := exec.LookPath("envoy"); err == nil {
		candidates = append(candidates, onPath)
	}
	for _, path := range candidates {
		if info, err := os.Stat(path); path != "" && err == nil && !info.IsDir() {
			return path
		}
	}
	message := "no Envoy " + Version + ": set MESHD_ENVOY, or run `make envoy`"
	if os.Getenv("CI") != "" {
		t.Fatal(message)
	}
	t.Skip(message)
	return ""
}

// Validate has Envoy load a bootstrap (JSON or YAML) without running it, and
// fails the test with Envoy's words where it does not load.
func Validate(t testing.TB, bootstrap []byte) {
	t.Helper()
	if err := Load(t, bootstrap); err != nil {
		t.Error(err)
	}
}

// Load is Validate with the error given back.
func Load(t testing.TB, bootstrap []byte) error {
	t.Helper()
	file := filepath.Join(t.TempDir(), "bootstrap.yaml")
	if err := os.WriteFile(file, bootstrap, 0o600); err != nil {
		return err
	}
	var out bytes.Buffer
	command := exec.CommandContext(t.Context(), Binary(t), "--mode", "validate", "--log-level", "error", "-c", file)
	command.Stdout, command.Stderr = &out, &out
	err := command.Run()
	// Some of what discovers crashes Envoy's validation server on its way out,
	// after the verdict: the verdict counts.
	if err != nil && !bytes.Contains(out.Bytes(), []byte("configuration '"+file+"' OK")) {
		return fmt.Errorf("configuration is not loaded by Envoy: %w\n%s", err, out.Bytes())
	}
	return nil
}
