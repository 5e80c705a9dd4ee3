package golden

import (
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// update must exist before the test binary parses its flags, hence a variable;
// nothing writes it but the flag package.
var update = flag.Bool("update", false, "rewrite golden files with what the tests got")

// Updating reports whether this run rewrites golden files.
func Updating() bool { return *update }

// Check fails the test unless the file at path holds exactly got. With
// -update it writes the file instead, if it differs.
func Check(t testing.TB, path string, got []byte) {
	t.Helper()
	want, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if err == nil && string(want) == string(got) {
		return
	}
	if *update {
		write(t, path, got)
		return
	}
	if err != nil {
		t.Fatalf("%s does not exist: run the tests of this package with -update to write it", path)
	}
	t.Errorf("%s differs (-file +got); -update rewrites it:\n%s", path, Diff(string(want), string(got)))
}

// Diff shows how two texts differ, line by line; "" where they do not.
func Diff(want, got string) string {
	return cmp.Diff(strings.Split(want, "\n"), strings.Split(got, "\n"))
}

// Inputs lists the files that match the pattern, sorted. A pattern that matches
// nothing fails the test: a corpus that is not found proves nothing.
func Inputs(t testing.TB, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatalf("no file matches %s", pattern)
	}
	return files
}

func write(t testing.TB, path string, got []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, got, 0o644); err != nil {
		t.Fatal(err)
	}
}
