// Command upstream writes to pkg/crds/upstream the CustomResourceDefinitions of
// the Gateway API's kinds that meshd reads, of the version in go.mod. Of the
// experimental channel, since that has every field that an object can have,
// whichever channel a cluster has installed; of the newest API version; and
// without descriptions, which are most of it.
package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"sigs.k8s.io/yaml"
)

const (
	module = "sigs.k8s.io/gateway-api"
	folder = "pkg/crds/upstream"
)

func main() {
	if err := write(context.Background(), "gateway.networking.k8s.io_httproutes.yaml", "v1"); err != nil {
		fmt.Fprintln(os.Stderr, "upstream:", err)
		os.Exit(1)
	}
}

func write(ctx context.Context, name, version string) error {
	where, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Path}} {{.Version}}\n{{.Dir}}", module).Output()
	if err != nil {
		return fmt.Errorf("%s: %w", module, err)
	}
	of, dir, _ := strings.Cut(strings.TrimSpace(string(where)), "\n")
	text, err := os.ReadFile(filepath.Join(dir, "config", "crd", "experimental", name))
	if err != nil {
		return err
	}
	var crd map[string]any
	if err := yaml.Unmarshal(text, &crd); err != nil {
		return err
	}
	spec, _ := crd["spec"].(map[string]any)
	versions, _ := spec["versions"].([]any)
	var kept []any
	for _, v := range versions {
		if one, ok := v.(map[string]any); ok && one["name"] == version {
			kept = append(kept, one)
		}
	}
	spec["versions"] = kept
	delete(crd, "status")
	withoutDescriptions(crd)
	out, err := yaml.Marshal(crd)
	if err != nil {
		return err
	}
	head := fmt.Sprintf("# Made by hack/gen of %s, which is under Apache-2.0.\n", of)
	return os.WriteFile(filepath.Join(folder, name), append([]byte(head), out...), 0o644) // part of the program
}

// withoutDescriptions leaves a property that is called so alone: that is no text.
func withoutDescriptions(v any) {
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			withoutDescriptions(item)
		}
	case map[string]any:
		if _, text := v["description"].(string); text {
			delete(v, "description")
		}
		for _, item := range v {
			withoutDescriptions(item)
		}
	}
}
