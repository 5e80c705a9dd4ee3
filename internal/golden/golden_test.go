package golden

import (
	"os"
	"path/filepath"
	"testing"
)

// recorder is a testing.TB that notes failures instead of failing.
type recorder struct {
	testing.TB
	failed bool
}

func (r *recorder) Helper()               {}
func (r *recorder) Errorf(string, ...any) { r.failed = true }

func TestCheckTellsDifferenceFromEquality(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.yaml")
	if err := os.WriteFile(path, []byte("a\nb\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for got, wantFailed := range map[string]bool{"a\nb\n": false, "a\nc\n": !*update} {
		r := &recorder{TB: t}
		Check(r, path, []byte(got))
		if r.failed != wantFailed {
			t.Errorf("%q: failed = %v", got, r.failed)
		}
	}
}

func TestWriteMakesFolders(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b.yaml")
	write(t, path, []byte("x"))
	got, err := os.ReadFile(path)
	if err != nil || string(got) != "x" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestDiffOfEqualTextsIsEmpty(t *testing.T) {
	if d := Diff("a\nb", "a\nb"); d != "" {
		t.Error(d)
	}
	if Diff("a", "b") == "" {
		t.Error("a and b do not differ")
	}
}
