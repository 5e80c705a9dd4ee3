package attest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// maxJWKS bounds the file that is read.
const maxJWKS = 1 << 20

// Static is a set of keys that does not change.
type Static struct {
	Set jose.JSONWebKeySet
}

// Keys is the set.
func (s Static) Keys() (jose.JSONWebKeySet, error) { return s.Set, nil }

// File reads a JWKS file again when it has changed. The last good keys stay in
// force while the file is missing or broken.
type File struct {
	path string
	log  *slog.Logger

	mu   sync.Mutex
	seen stamp
	set  jose.JSONWebKeySet
	good bool
	// warned is the last complaint, said once.
	warned string
}

// stamp tells one version of a file from another without reading it.
type stamp struct {
	mod  time.Time
	size int64
}

// NewFile gives the keys of the file at path, which may come later. log may be nil.
func NewFile(path string, log *slog.Logger) *File {
	if log == nil {
		log = slog.Default()
	}
	return &File{path: path, log: log}
}

// Keys of the file's last good version.
func (f *File) Keys() (jose.JSONWebKeySet, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	info, err := os.Stat(f.path)
	if err == nil {
		now := stamp{mod: info.ModTime(), size: info.Size()}
		if now == f.seen && f.good {
			return f.set, nil
		}
		var set jose.JSONWebKeySet
		if set, err = readJWKS(f.path); err == nil {
			f.seen, f.set, f.good, f.warned = now, set, true, ""
			return set, nil
		}
	}
	if f.good {
		if f.warned != err.Error() {
			f.warned = err.Error()
			f.log.Warn("issuer's keys cannot be read; the last ones stay in force", "error", err)
		}
		return f.set, nil
	}
	return jose.JSONWebKeySet{}, err
}

// readJWKS wants public keys only: a private or symmetric key among them is a
// leak or an attempt to have HMAC verified.
func readJWKS(path string) (jose.JSONWebKeySet, error) {
	file, err := os.Open(path)
	if err != nil {
		return jose.JSONWebKeySet{}, err
	}
	defer func() { _ = file.Close() }()
	raw, err := io.ReadAll(io.LimitReader(file, maxJWKS+1))
	if err != nil {
		return jose.JSONWebKeySet{}, err
	}
	if len(raw) > maxJWKS {
		return jose.JSONWebKeySet{}, fmt.Errorf("%s is larger than %d bytes", path, maxJWKS)
	}
	return parseJWKS(path, raw)
}

// parseJWKS names where raw is from in its errors.
func parseJWKS(from string, raw []byte) (jose.JSONWebKeySet, error) {
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(raw, &set); err != nil {
		return jose.JSONWebKeySet{}, fmt.Errorf("%s: %w", from, err)
	}
	if len(set.Keys) == 0 {
		return jose.JSONWebKeySet{}, fmt.Errorf("%s has no keys", from)
	}
	for _, k := range set.Keys {
		if !k.IsPublic() || !k.Valid() {
			return jose.JSONWebKeySet{}, errors.New(from + " has a key that is not a valid public key")
		}
	}
	return set, nil
}
