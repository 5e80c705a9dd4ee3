package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// hack/image gives the same bytes from the same sources, wherever it works.
func TestBuiltTwice(t *testing.T) {
	if testing.Short() {
		t.Skip("NOT TESTED: it compiles a program twice")
	}
	var archives [2][]byte
	for i := range archives {
		out := t.TempDir()
		cmd := exec.Command("../image", out, "eazybank")
		cmd.Env = append(os.Environ(), "TMPDIR="+t.TempDir(), "PLATFORMS=linux/amd64,linux/arm64")
		if said, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, said)
		}
		var err error
		if archives[i], err = os.ReadFile(filepath.Join(out, "eazybank.tar")); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(archives[0], archives[1]) {
		t.Error("built twice, the archives differ")
	}
}
