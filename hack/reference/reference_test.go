package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/meshd-io/meshd/internal/golden"
)

// elsewhere are the files of docs/reference that something else writes.
func elsewhere() []string { return []string{"README.md", "commands.md"} }

// What is written in docs/reference is what would be written now: make gen does it.
func TestReferenceIsUpToDate(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, folder := range []string{"charts", "pkg/report", "pkg/ca/refusal", "pkg/telemetry"} {
		if err := os.CopyFS(filepath.Join(dir, folder), os.DirFS(filepath.Join(root, folder))); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	if err := run(); err != nil {
		t.Fatal(err)
	}
	same(t, root, schemaFile)
	written := names(t, out)
	for _, name := range written {
		same(t, root, filepath.Join(out, name))
	}
	for _, name := range names(t, filepath.Join(root, out)) {
		if !slices.Contains(written, name) && !slices.Contains(elsewhere(), name) {
			t.Errorf("%s/%s: nobody writes it: remove it", out, name)
		}
	}
}

func names(t *testing.T, folder string) []string {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func same(t *testing.T, root, path string) {
	t.Helper()
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(root, path))
	if err != nil || string(got) != string(want) {
		t.Errorf("%s is stale: make gen (%v)\n%s", path, err, golden.Diff(string(got), string(want)))
	}
}
