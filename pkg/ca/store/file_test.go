package store_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/meshd-io/meshd/internal/clock/clocktest"
	"github.com/meshd-io/meshd/pkg/ca"
	"github.com/meshd-io/meshd/pkg/ca/store"
	"github.com/meshd-io/meshd/pkg/ca/template"
)

const td = "cluster.local"

// open opens an authority on a folder at a time.
func open(dir string, now time.Time) (*ca.Authority, error) {
	return ca.New(ca.Config{TrustDomain: td, Store: store.File{Dir: dir}, Clock: clocktest.New(now), Log: slog.New(slog.DiscardHandler)})
}

func TestModesAndReuse(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state", "ca")
	a, err := open(dir, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]os.FileMode{dir: 0o700, store.File{Dir: dir}.Path(): 0o600} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %o, want %o", path, info.Mode().Perm(), want)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("folder has %d entries, want 1 (%v)", len(entries), err)
	}
	b, err := open(dir, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if a.Bundle() != b.Bundle() {
		t.Error("the root was made again")
	}
}

// TestTogether starts many at once on an empty folder: all get one root.
func TestTogether(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	bundles := make([]string, 16)
	var wg sync.WaitGroup
	for i := range bundles {
		wg.Go(func() {
			a, err := open(dir, time.Now())
			if err != nil {
				t.Error(err)
				return
			}
			bundles[i] = a.Bundle()
		})
	}
	wg.Wait()
	for _, b := range bundles {
		if b != bundles[0] {
			t.Fatal("two roots were made")
		}
	}
}

// TestRefused spoils a good root file: each is refused with its reason, and the file is left as it is.
func TestRefused(t *testing.T) {
	now := time.Now()
	for _, tc := range []struct {
		name, want string
		spoil      func(t *testing.T, path string, pem []byte) time.Time
	}{
		{"readable by others", "mode 0644", func(t *testing.T, path string, _ []byte) time.Time {
			check(t, os.Chmod(path, 0o644))
			return now
		}},
		{"writable by the group", "mode 0620", func(t *testing.T, path string, _ []byte) time.Time {
			check(t, os.Chmod(path, 0o620))
			return now
		}},
		{"empty", "certificate or key is missing", func(t *testing.T, path string, _ []byte) time.Time {
			return write(t, path, nil, now)
		}},
		{"garbage", "not PEM", func(t *testing.T, path string, _ []byte) time.Time {
			return write(t, path, []byte("hello"), now)
		}},
		{"cut off", "not PEM", func(t *testing.T, path string, pem []byte) time.Time {
			return write(t, path, pem[:len(pem)-40], now)
		}},
		{"certificate only", "certificate or key is missing", func(t *testing.T, path string, pem []byte) time.Time {
			return write(t, path, pem[:strings.Index(string(pem), "-----BEGIN PRIVATE")], now)
		}},
		{"twice", "unexpected", func(t *testing.T, path string, pem []byte) time.Time {
			return write(t, path, append(pem, pem...), now)
		}},
		{"oversized", "bytes", func(t *testing.T, path string, _ []byte) time.Time {
			return write(t, path, make([]byte, 100<<10), now)
		}},
		{"key of another", "do not belong together", func(t *testing.T, path string, pem []byte) time.Time {
			other := filepath.Join(t.TempDir(), "ca")
			_, err := open(other, now)
			check(t, err)
			theirs, err := os.ReadFile(store.File{Dir: other}.Path())
			check(t, err)
			i, j := strings.Index(string(pem), "-----BEGIN PRIVATE"), strings.Index(string(theirs), "-----BEGIN PRIVATE")
			return write(t, path, append(pem[:i], theirs[j:]...), now)
		}},
		{"expired", "expired", func(*testing.T, string, []byte) time.Time { return now.Add(20 * 365 * 24 * time.Hour) }},
		{"from the future", "not valid before", func(*testing.T, string, []byte) time.Time { return now.Add(-time.Hour) }},
		{"a folder", "not a regular file", func(t *testing.T, path string, _ []byte) time.Time {
			check(t, os.Remove(path))
			check(t, os.Mkdir(path, 0o700))
			return now
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "ca")
			_, err := open(dir, now)
			check(t, err)
			path := store.File{Dir: dir}.Path()
			pem, err := os.ReadFile(path)
			check(t, err)
			at := tc.spoil(t, path, pem)
			before, _ := os.ReadFile(path)
			_, err = open(dir, at)
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "root") {
				t.Errorf("error %v, want %q", err, tc.want)
			}
			if after, _ := os.ReadFile(path); string(after) != string(before) {
				t.Error("the file was changed")
			}
		})
	}
}

// TestLeafIsNoRoot: a certificate that may not sign is refused as a root.
func TestLeafIsNoRoot(t *testing.T) {
	now := time.Now()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	tmpl := template.Root(td, big.NewInt(7), template.Validity{NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)})
	tmpl.IsCA, tmpl.MaxPathLen, tmpl.KeyUsage = false, 0, x509.KeyUsageDigitalSignature
	tmpl.PermittedURIDomains = nil
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	check(t, err)
	cert, err := x509.ParseCertificate(der)
	check(t, err)
	dir := t.TempDir()
	_, err = store.File{Dir: dir}.Root(func() (ca.Pair, error) { return ca.Pair{Certificate: cert, Key: key}, nil })
	check(t, err)
	if _, err := open(dir, now); err == nil || !strings.Contains(err.Error(), "not a CA") {
		t.Errorf("a leaf as root: %v", err)
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path string, content []byte, now time.Time) time.Time {
	t.Helper()
	check(t, os.WriteFile(path, content, 0o600))
	return now
}
