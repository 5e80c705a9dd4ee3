// Package store keeps the CA's root.
package store

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/meshd-io/meshd/pkg/ca"
)

// rootFile holds certificate and key in one file: they are written in one step or not at all.
const rootFile = "root.pem"

// maxRootFile bounds what is read from disk.
const maxRootFile = 64 << 10

// File is a store in a folder of the local machine.
type File struct {
	// Dir is made with mode 0700 if it is missing.
	Dir string
}

// Path of the file that holds certificate and key.
func (f File) Path() string { return filepath.Join(f.Dir, rootFile) }

// Root reads the root, or creates it once. A file that others may read or
// write, or that is broken, is an error and never replaced: a new root would
// cut off every workload that trusts the old one.
func (f File) Root(create func() (ca.Pair, error)) (ca.Pair, error) {
	pair, err := f.read()
	if !errors.Is(err, fs.ErrNotExist) {
		return pair, err
	}
	pair, err = create()
	if err != nil {
		return ca.Pair{}, err
	}
	if err := f.write(pair); err != nil && !errors.Is(err, fs.ErrExist) {
		return ca.Pair{}, fmt.Errorf("%s: %w", f.Path(), err)
	}
	return f.read()
}

func (f File) read() (ca.Pair, error) {
	file, err := os.Open(f.Path())
	if err != nil {
		return ca.Pair{}, err
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return ca.Pair{}, err
	}
	if !info.Mode().IsRegular() {
		return ca.Pair{}, fmt.Errorf("%s is not a regular file", f.Path())
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 {
		return ca.Pair{}, fmt.Errorf("%s has mode %04o: others can reach the root key; make a new root, or chmod 600 if nobody has read it", f.Path(), perm)
	}
	if info.Size() > maxRootFile {
		return ca.Pair{}, fmt.Errorf("%s has %d bytes, at most %d are expected", f.Path(), info.Size(), maxRootFile)
	}
	var raw bytes.Buffer
	if _, err := raw.ReadFrom(file); err != nil {
		return ca.Pair{}, err
	}
	pair, err := decode(raw.Bytes())
	if err != nil {
		return ca.Pair{}, fmt.Errorf("%s: %w", f.Path(), err)
	}
	return pair, nil
}

// write makes the file appear whole, and only if there is none: link fails where rename would replace.
func (f File) write(pair ca.Pair) error {
	if err := os.MkdirAll(f.Dir, 0o700); err != nil {
		return err
	}
	raw, err := encode(pair)
	if err != nil {
		return err
	}
	suffix := make([]byte, 8)
	if _, err := rand.Read(suffix); err != nil {
		return err
	}
	tmp := f.Path() + "." + hex.EncodeToString(suffix)
	file, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp) }()
	_, err = file.Write(raw)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := os.Link(tmp, f.Path()); err != nil {
		return err
	}
	return syncDir(f.Dir)
}

// syncDir makes the new name survive a crash of the machine.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func encode(pair ca.Pair) ([]byte, error) {
	key, err := x509.MarshalPKCS8PrivateKey(pair.Key)
	if err != nil {
		return nil, err
	}
	out := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate.Raw})
	return append(out, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...), nil
}

// decode wants one certificate and one key that fit together, and nothing else.
func decode(raw []byte) (ca.Pair, error) {
	var pair ca.Pair
	for {
		var block *pem.Block
		block, raw = pem.Decode(raw)
		if block == nil {
			break
		}
		switch {
		case block.Type == "CERTIFICATE" && pair.Certificate == nil:
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return ca.Pair{}, err
			}
			pair.Certificate = c
		case block.Type == "PRIVATE KEY" && pair.Key == nil:
			k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
			if err != nil {
				return ca.Pair{}, err
			}
			signer, ok := k.(crypto.Signer)
			if !ok {
				return ca.Pair{}, fmt.Errorf("key is a %T, which cannot sign", k)
			}
			pair.Key = signer
		default:
			return ca.Pair{}, fmt.Errorf("unexpected %q block", block.Type)
		}
	}
	if len(bytes.TrimSpace(raw)) > 0 {
		return ca.Pair{}, errors.New("has bytes that are not PEM")
	}
	if pair.Certificate == nil || pair.Key == nil {
		return ca.Pair{}, errors.New("certificate or key is missing")
	}
	return pair, fit(pair)
}

// fit wants a root as meshd makes it, with its own key.
func fit(pair ca.Pair) error {
	pub, ok := pair.Certificate.PublicKey.(*ecdsa.PublicKey)
	if !ok || !pub.Equal(pair.Key.Public()) {
		return errors.New("certificate and key do not belong together")
	}
	return nil
}
