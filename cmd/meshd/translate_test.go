package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// meshd runs a command of the command line in this process.
func meshd(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	var out, errs bytes.Buffer
	root := newRootCommand()
	root.SetArgs(args)
	root.SetOut(&out)
	root.SetErr(&errs)
	err = root.ExecuteContext(t.Context())
	return out.String(), errs.String(), err
}

const example = "../../examples/eazybank"

func TestTranslateIsStable(t *testing.T) {
	for _, output := range []string{"json", "yaml"} {
		first, _, err := meshd(t, "translate", "-f", example, "--workload", "bank/accounts", "-o", output)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"Listener", "Cluster", "/ns/bank/sa/accounts"} {
			if !strings.Contains(first, want) {
				t.Errorf("%s: nothing of %s", output, want)
			}
		}
		for range 3 {
			if again, _, _ := meshd(t, "translate", "-f", example, "--workload", "bank/accounts", "-o", output); again != first {
				t.Errorf("%s: another answer to the same question", output)
			}
		}
		if output == "json" && !json.Valid([]byte(first)) {
			t.Error("not JSON")
		}
	}
}

func TestTranslateRefuses(t *testing.T) {
	empty := t.TempDir()
	t.Setenv("KUBECONFIG", filepath.Join(empty, "none"))
	for _, c := range []struct {
		name string
		args []string
		says string
	}{
		{"unknown workload", []string{"-f", example, "--workload", "bank/nobody"}, "bank/accounts"},
		{"outside of the mesh", []string{"-f", example, "--workload", "outside/client"}, "not in the mesh"},
		{"no name", []string{"-f", example, "--workload", "accounts"}, "NAMESPACE/NAME"},
		{"no path", []string{"-f", filepath.Join(empty, "none"), "--workload", "bank/accounts"}, "none"},
		{"nothing there", []string{"-f", empty, "--workload", "bank/accounts"}, "no pod"},
		{"no -f", []string{"--workload", "bank/accounts"}, "without -f it is a cluster"},
		{"unknown output", []string{"-f", example, "--workload", "bank/accounts", "-o", "xml"}, "yaml"},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, _, err := meshd(t, append([]string{"translate"}, c.args...)...)
			if err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") || out != "" {
				t.Errorf("%v: %q", err, out)
			}
		})
	}
}

// Broken files are told of, with their lines, and the rest is translated all the same.
func TestTranslateTellsFindings(t *testing.T) {
	dir := t.TempDir()
	files, err := filepath.Glob(filepath.Join(example, "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, filepath.Base(f)), string(raw))
	}
	write(t, filepath.Join(dir, "zz.yaml"), "kind: [\n")
	write(t, filepath.Join(dir, "zy.yaml"), "apiVersion: meshd.io/v1alpha1\nkind: PeerAuthentication\nmetadata: {name: x, namespace: bank}\nspec:\n  mod: Strict\n")
	out, errs, err := meshd(t, "translate", "-f", dir, "--workload", "bank/accounts", "-o", "json")
	if err == nil || !json.Valid([]byte(out)) {
		t.Errorf("%v: %d bytes", err, len(out))
	}
	for _, want := range []string{"zz.yaml:1: ", "zy.yaml:5: PeerAuthentication bank/x: UnknownField: spec.mod"} {
		if !strings.Contains(errs, want) {
			t.Errorf("nothing of %q in %q", want, errs)
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
