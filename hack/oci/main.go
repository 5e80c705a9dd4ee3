// Command oci packs files into a container image without a container engine:
//
//	oci SPEC.json OUT.tar
//
// writes one image, or one index of several platforms, as an archive in the OCI
// image layout, which `ctr images import`, `docker load`, `podman load` and
// `skopeo copy oci-archive:` take under the name that the spec gives. Same spec
// and same files, same bytes: no time, owner or file mode of this machine enters.
package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: oci SPEC.json OUT.tar")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "oci:", err)
		os.Exit(1)
	}
}

// spec is what the caller writes. Paths of this machine are relative to the
// folder of the spec.
type spec struct {
	Name       string            `json:"name"`                 // with its tag: ghcr.io/meshd-io/meshd:0.5.0
	User       string            `json:"user"`                 // numeric, UID or UID:GID
	Entrypoint []string          `json:"entrypoint,omitempty"` // what runs where the pod names no command
	Labels     map[string]string `json:"labels,omitempty"`     // org.opencontainers.image.*
	Platforms  []platform        `json:"platforms"`            // one: an image; several: an index of images
}

type platform struct {
	Platform string `json:"platform"` // linux/amd64
	Files    []file `json:"files"`
}

// file is one regular file, owned by root and executable (0755): all that these images hold.
type file struct {
	From string `json:"from"`
	To   string `json:"to"`
}

func run(specPath, out string) error {
	text, err := os.ReadFile(specPath)
	if err != nil {
		return err
	}
	var s spec
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&s); err != nil {
		return fmt.Errorf("%s: %w", specPath, err)
	}
	tag, err := name.NewTag(s.Name)
	if err != nil {
		return fmt.Errorf("%s: %w", specPath, err)
	}
	if !strings.HasSuffix(s.Name, ":"+tag.TagStr()) || len(s.Platforms) == 0 {
		return fmt.Errorf("%s: a name with a tag and a platform are needed", specPath)
	}
	dir, err := os.MkdirTemp(filepath.Dir(out), ".oci-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }() // temporary
	if err := write(s, filepath.Dir(specPath), dir, layout.WithAnnotations(map[string]string{
		"io.containerd.image.name":          strings.TrimPrefix(tag.Name(), "index."), // as a kubelet asks for it: docker.io/...
		"org.opencontainers.image.ref.name": tag.TagStr(),
	})); err != nil {
		return fmt.Errorf("%s: %w", s.Name, err)
	}
	var archive bytes.Buffer
	if err := pack(&archive, dir); err != nil {
		return err
	}
	return os.WriteFile(out, archive.Bytes(), 0o644)
}

// write lays the image, or the index, out in dir, and says its digest.
func write(s spec, base, dir string, named layout.Option) error {
	to, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, p := range s.Platforms {
		img, err := image(s, p, base)
		if err != nil {
			return fmt.Errorf("%s: %w", p.Platform, err)
		}
		if len(s.Platforms) == 1 {
			return say(s.Name, img, to.AppendImage(img, named))
		}
		at, err := v1.ParsePlatform(p.Platform)
		if err != nil {
			return err
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: at}})
	}
	return say(s.Name, index, to.AppendIndex(index, named))
}

func say(name string, of interface{ Digest() (v1.Hash, error) }, failed error) error {
	if failed != nil {
		return failed
	}
	digest, err := of.Digest()
	if err == nil {
		fmt.Println(name, digest)
	}
	return err
}

func image(s spec, p platform, base string) (v1.Image, error) {
	at, err := v1.ParsePlatform(p.Platform)
	if err != nil {
		return nil, err
	}
	content, err := files(p.Files, base)
	if err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(content)), nil
	}, tarball.WithMediaType(types.OCILayer), tarball.WithCompressedCaching)
	if err != nil {
		return nil, err
	}
	img, err := mutate.ConfigFile(mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON), &v1.ConfigFile{
		OS: at.OS, Architecture: at.Architecture, Variant: at.Variant,
		Created: v1.Time{Time: time.Unix(0, 0).UTC()},
		RootFS:  v1.RootFS{Type: "layers"},
		Config:  v1.Config{User: s.User, Entrypoint: s.Entrypoint, Labels: s.Labels, WorkingDir: "/", Env: []string{"PATH=/usr/local/bin:/usr/bin:/bin"}},
	})
	if err != nil {
		return nil, err
	}
	return mutate.AppendLayers(img, layer)
}

// files is a layer's content: the folders that are needed, then the files, in order of name.
func files(list []file, base string) ([]byte, error) {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b file) int { return strings.Compare(a.To, b.To) })
	var b bytes.Buffer
	w, made := tar.NewWriter(&b), map[string]bool{}
	for _, f := range list {
		if !strings.HasPrefix(f.To, "/") || f.To != filepath.Clean(f.To) {
			return nil, fmt.Errorf("%q is no absolute path", f.To)
		}
		name := strings.TrimPrefix(f.To, "/")
		for i, c := range name {
			if dir := name[:i]; c == '/' && !made[dir] {
				made[dir] = true
				if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755, ModTime: time.Unix(0, 0)}); err != nil {
					return nil, err
				}
			}
		}
		from := f.From
		if !filepath.IsAbs(from) {
			from = filepath.Join(base, from)
		}
		content, err := os.ReadFile(from)
		if err != nil {
			return nil, err
		}
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o755, Size: int64(len(content)), ModTime: time.Unix(0, 0)}); err != nil {
			return nil, err
		}
		if _, err := w.Write(content); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// pack writes the layout in dir as a tar: names in order, nothing of this machine.
func pack(out io.Writer, dir string) error {
	w := tar.NewWriter(out)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755, ModTime: time.Unix(0, 0)})
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(content)), ModTime: time.Unix(0, 0)}); err != nil {
			return err
		}
		_, err = w.Write(content)
		return err
	})
	if err != nil {
		return err
	}
	return w.Close()
}
