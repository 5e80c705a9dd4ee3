package kubelet

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/meshd-io/meshd/pkg/lab/store"
)

// volume is one volume of a pod on disk.
type volume struct {
	spec     corev1.Volume
	dir      string
	readOnly bool
	group    *int64

	files   map[string]file // what a projected volume holds now
	version int
	renew   time.Time // when its tokens are to be replaced; zero is never
}

func (p *pod) volume(name string) *volume {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.volumes[name]
}

// makeVolumes makes every volume that is not there yet.
func (p *pod) makeVolumes(v store.View) error {
	for _, spec := range p.spec.Spec.Volumes {
		if p.volume(spec.Name) != nil {
			continue
		}
		vol := &volume{spec: spec, dir: filepath.Join(p.dir, "volumes", spec.Name)}
		if s := p.spec.Spec.SecurityContext; s != nil {
			vol.group = s.FSGroup
		}
		if err := p.makeVolume(v, vol); err != nil {
			return fmt.Errorf("volume %s: %w", spec.Name, err)
		}
		p.mu.Lock()
		p.volumes[spec.Name] = vol
		p.mu.Unlock()
	}
	return nil
}

func (p *pod) makeVolume(v store.View, vol *volume) error {
	if h := vol.spec.HostPath; h != nil {
		vol.dir, vol.readOnly = h.Path, !p.k.cfg.Trusted(p.spec)
		if _, err := os.Stat(h.Path); err != nil {
			return fmt.Errorf("hostPath: %w (the lab makes nothing on its machine)", err)
		}
		return nil
	}
	if err := os.MkdirAll(vol.dir, 0o755); err != nil {
		return err
	}
	if projected(vol.spec) {
		vol.readOnly = true
		return p.fill(v, vol)
	}
	return own(vol.dir, 0o777, vol.group)
}

// fill brings a projected volume up to date.
func (p *pod) fill(v store.View, vol *volume) error {
	files, refresh, err := projection(v, p.current(), vol.spec, p.k.cfg.Tokens)
	if err != nil {
		return err
	}
	if refresh > 0 {
		vol.renew = time.Now().Add(refresh)
	}
	if vol.files != nil && sameFiles(vol.files, files) {
		return nil
	}
	if err := vol.write(files); err != nil {
		return err
	}
	vol.files = files
	return nil
}

// keepVolumes follows changes of the objects behind projected volumes, and
// replaces tokens in time. The channel is closed when it has ended.
func (p *pod) keepVolumes() chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			var timer <-chan time.Time
			if next := p.nextRenewal(); !next.IsZero() {
				timer = time.After(time.Until(next))
			}
			select {
			case <-p.life.Done():
				return
			case <-p.change:
			case <-timer:
			}
			p.refresh()
		}
	}()
	return done
}

func (p *pod) nextRenewal() time.Time {
	var next time.Time
	for _, vol := range p.volumes {
		if !vol.renew.IsZero() && (next.IsZero() || vol.renew.Before(next)) {
			next = vol.renew
		}
	}
	return next
}

func (p *pod) refresh() {
	v, _ := p.k.cfg.Store.View()
	now := time.Now()
	for _, vol := range p.volumes {
		// A token is new each time it is made: only when it is due.
		due := !vol.renew.IsZero() && !vol.renew.After(now)
		if !projected(vol.spec) || (!vol.renew.IsZero() && !due) {
			continue
		}
		if err := p.fill(v, vol); err != nil {
			p.k.cfg.Log.Warn("volume keeps its old content", "pod", p.name(), "volume", vol.spec.Name, "error", err)
			if due {
				vol.renew = now.Add(retryTime)
			}
		}
	}
}

// write replaces all files of the volume in one step, in kubelet's layout: the
// files are in a folder of their own, ..data leads to it, and each name leads through ..data.
func (vol *volume) write(files map[string]file) error {
	vol.version++
	fresh := ".." + strconv.Itoa(vol.version)
	for rel, f := range files {
		full := filepath.Join(vol.dir, fresh, rel)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(full, f.data, 0o600); err != nil {
			return err
		}
		if err := own(full, fs.FileMode(f.mode), vol.group); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Join(vol.dir, fresh), 0o755); err != nil {
		return err
	}
	data := filepath.Join(vol.dir, "..data")
	before, err := os.Readlink(data)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(fresh, data+".next"); err != nil {
		return err
	}
	if err := os.Rename(data+".next", data); err != nil {
		return err
	}
	if err := vol.link(files); err != nil {
		return err
	}
	if before != "" {
		return os.RemoveAll(filepath.Join(vol.dir, before))
	}
	return nil
}

// link makes the names at the top of the volume, and removes those that are gone.
func (vol *volume) link(files map[string]file) error {
	top := map[string]bool{}
	for rel := range files {
		name, _, _ := strings.Cut(rel, "/")
		top[name] = true
	}
	for name := range top {
		err := os.Symlink(filepath.Join("..data", name), filepath.Join(vol.dir, name))
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	entries, err := os.ReadDir(vol.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "..") && !top[e.Name()] {
			if err := os.Remove(filepath.Join(vol.dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// sub is a subPath of the volume; of a volume that can be written it is made where it is missing.
func (vol *volume) sub(rel string) (string, error) {
	clean, err := inside(rel)
	if err != nil {
		return "", err
	}
	full := filepath.Join(vol.dir, clean)
	if _, err := os.Stat(full); errors.Is(err, fs.ErrNotExist) && !vol.readOnly {
		if err := vol.makeDir(clean); err != nil {
			return "", fmt.Errorf("subPath %s: %w", rel, err)
		}
	}
	// A mount of a link would be one of what it leads to now, or of nothing.
	real, err := filepath.EvalSymlinks(full)
	if err != nil {
		return "", fmt.Errorf("subPath %s: %w", rel, err)
	}
	root, err := filepath.EvalSymlinks(vol.dir)
	if err != nil {
		return "", err
	}
	if real != root && !strings.HasPrefix(real, root+"/") {
		return "", fmt.Errorf("subPath %s leads out of its volume", rel)
	}
	return real, nil
}

// makeDir follows no link that leads out of the volume.
func (vol *volume) makeDir(rel string) error {
	root, err := os.OpenRoot(vol.dir)
	if err != nil {
		return err
	}
	defer root.Close() //nolint:errcheck // a folder
	if err := root.MkdirAll(rel, 0o755); err != nil {
		return err
	}
	return own(filepath.Join(vol.dir, rel), 0o777, vol.group)
}

// own gives a file or folder its mode, and the group that the pod's processes share.
func own(path string, mode fs.FileMode, group *int64) error {
	if group != nil {
		if err := os.Chown(path, -1, int(*group)); err != nil {
			return err
		}
		mode |= (mode & 0o400) >> 3
		if info, err := os.Stat(path); err == nil && info.IsDir() {
			mode |= fs.ModeSetgid
		}
	}
	return os.Chmod(path, mode)
}
