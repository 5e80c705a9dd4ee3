package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// build writes two files and a spec of them to a new folder, and packs it.
func build(t *testing.T, s spec, age time.Duration) []byte {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"a", "b"} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("content of "+name), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, time.Now(), time.Now().Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "spec.json"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "out.tar")
	if err := run(filepath.Join(dir, "spec.json"), out); err != nil {
		t.Fatal(err)
	}
	archive, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return archive
}

// unpack lays an archive out in a folder again.
func unpack(t *testing.T, archive []byte) layout.Path {
	t.Helper()
	dir := t.TempDir()
	r := tar.NewReader(bytes.NewReader(archive))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return layout.Path(dir)
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, filepath.Clean("/"+h.Name))
		if h.Typeflag == tar.TypeDir {
			err = os.MkdirAll(path, 0o700)
		} else if content, e := io.ReadAll(r); e == nil {
			err = os.WriteFile(path, content, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

var twoFiles = []file{{From: "b", To: "/usr/local/bin/b"}, {From: "a", To: "/lib64/a"}}

func TestOneImage(t *testing.T) {
	s := spec{Name: "x/y:1.2", User: "65532:65532", Entrypoint: []string{"b"}, Platforms: []platform{{"linux/amd64", twoFiles}}}
	first := build(t, s, 0)
	if second := build(t, s, 100*time.Hour); !bytes.Equal(first, second) {
		t.Error("the same files of another age and folder give another archive")
	}
	at := unpack(t, first)
	index, err := at.ImageIndex()
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if got := manifest.Manifests[0].Annotations["io.containerd.image.name"]; got != "docker.io/"+s.Name {
		t.Errorf("containerd would call it %q", got)
	}
	img, err := index.Image(manifest.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(img); err != nil {
		t.Error(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.Config.User != s.User || config.OS != "linux" || config.Architecture != "amd64" || config.Created.Unix() != 0 {
		t.Errorf("config is %+v", config)
	}
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	compressed, err := layers[0].Compressed()
	if err != nil {
		t.Fatal(err)
	}
	content, err := gzip.NewReader(compressed)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for r := tar.NewReader(content); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Uid != 0 || h.Gid != 0 || h.Mode != 0o755 || h.ModTime.Unix() != 0 {
			t.Errorf("%s carries something of this machine: %+v", h.Name, h)
		}
		names = append(names, h.Name)
	}
	if got, want := strings.Join(names, " "), "lib64/ lib64/a usr/ usr/local/ usr/local/bin/ usr/local/bin/b"; got != want {
		t.Errorf("the layer holds %s, want %s", got, want)
	}
}

func TestIndexOfPlatforms(t *testing.T) {
	s := spec{Name: "example.com/x:1", User: "1", Platforms: []platform{{"linux/amd64", twoFiles}, {"linux/arm64", twoFiles[:1]}}}
	first := build(t, s, 0)
	if !bytes.Equal(first, build(t, s, time.Hour)) {
		t.Error("built twice, it differs")
	}
	outer, err := unpack(t, first).ImageIndex()
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := outer.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	index, err := outer.ImageIndex(manifest.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(index); err != nil {
		t.Error(err)
	}
	inner, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(inner.Manifests) != 2 || inner.Manifests[1].Platform.Architecture != "arm64" {
		t.Errorf("the index lists %+v", inner.Manifests)
	}
}

func TestBadSpecs(t *testing.T) {
	for name, text := range map[string]string{
		"no tag":         `{"name": "example.com:5000/x", "platforms": [{"platform": "linux/amd64"}]}`,
		"no platform":    `{"name": "x:1"}`,
		"an unknown key": `{"name": "x:1", "usr": "1"}`,
		"a missing file": `{"name": "x:1", "platforms": [{"platform": "linux/amd64", "files": [{"from": "nowhere", "to": "/x"}]}]}`,
		"a relative to":  `{"name": "x:1", "platforms": [{"platform": "linux/amd64", "files": [{"from": "spec.json", "to": "x"}]}]}`,
		"a way out":      `{"name": "x:1", "platforms": [{"platform": "linux/amd64", "files": [{"from": "spec.json", "to": "/../x"}]}]}`,
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "spec.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := run(filepath.Join(dir, "spec.json"), filepath.Join(dir, "out.tar")); err == nil {
			t.Errorf("%s: no error", name)
		}
		if _, err := os.Stat(filepath.Join(dir, "out.tar")); err == nil {
			t.Errorf("%s: left an archive", name)
		}
	}
}
