package crds

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/meshd-io/meshd/pkg/report"
)

// state is what a source has emitted.
type state struct {
	snapshot *Snapshot
	findings []report.Finding
}

// watched runs a FileSource on a folder until the test ends.
type watched struct {
	t      *testing.T
	dir    string
	source *FileSource
	states chan state
	last   state
	now    time.Time
	cancel context.CancelFunc
	done   chan error
}

func watchFolder(t *testing.T, files map[string]string, options FileOptions) *watched {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, files)
	return watchPath(t, dir, dir, options)
}

func watchPath(t *testing.T, dir, path string, options FileOptions) *watched {
	t.Helper()
	w := &watched{t: t, dir: dir, states: make(chan state, 1000), now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), done: make(chan error, 1)}
	options.Now = func() time.Time { return w.now }
	w.source = NewFileSource(path, options)
	ctx, cancel := context.WithCancel(t.Context())
	w.cancel = cancel
	go func() {
		w.done <- w.source.Run(ctx, func(s *Snapshot, fs []report.Finding) { w.states <- state{s, fs} })
	}()
	t.Cleanup(w.stop)
	w.next()
	return w
}

func (w *watched) stop() {
	w.cancel()
	select {
	case err := <-w.done:
		if err != nil {
			w.t.Errorf("Run: %v", err)
		}
		w.done <- nil
	case <-time.After(30 * time.Second):
		w.t.Error("Run does not end")
	}
}

// next takes the next state.
func (w *watched) next() {
	w.t.Helper()
	select {
	case w.last = <-w.states:
	case err := <-w.done:
		w.t.Fatalf("Run ended: %v", err)
	case <-time.After(30 * time.Second):
		w.t.Fatalf("no new state; the last one has %s, findings %+v", accounts(w.last.snapshot), w.last.findings)
	}
}

// until takes states until the accounts are those.
func (w *watched) until(want string) {
	w.t.Helper()
	for accounts(w.last.snapshot) != want {
		w.next()
	}
}

func (w *watched) untilFindings(n int) {
	w.t.Helper()
	for len(w.last.findings) != n {
		w.next()
	}
}

// rescan is the barrier: afterwards every state is in the channel.
func (w *watched) rescan() {
	w.t.Helper()
	if err := w.source.Rescan(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	for len(w.states) > 0 {
		w.next()
	}
}

func (w *watched) write(name, content string) {
	w.t.Helper()
	write(w.t, w.dir, map[string]string{name: content})
}

func (w *watched) path(name string) string { return filepath.Join(w.dir, name) }

func (w *watched) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func TestWatchSeesChanges(t *testing.T) {
	w := watchFolder(t, map[string]string{"a.yaml": serviceAccount("a", "a")}, FileOptions{})
	w.until("a/a")
	w.write("b.yaml", serviceAccount("b", "b"))
	w.until("a/a b/b")
	w.write("sub/deep/c.yaml", serviceAccount("c", "c"))
	w.until("a/a b/b c/c")
	w.write("sub/deep/c.yaml", serviceAccount("c", "c")+"---\n"+serviceAccount("d", "d"))
	w.until("a/a b/b c/c d/d")
	w.must(os.Remove(w.path("b.yaml")))
	w.until("a/a c/c d/d")
	w.must(os.RemoveAll(w.path("sub")))
	w.until("a/a")
	w.write("sub/e.yaml", serviceAccount("e", "e"))
	w.until("a/a e/e")
	w.write("unrelated.txt", "x")
	w.write(".hidden.yaml", serviceAccount("h", "h"))
	w.write("f.yaml", serviceAccount("f", "f"))
	w.until("a/a e/e f/f")
}

func TestWatchSeesAtomicRenames(t *testing.T) {
	w := watchFolder(t, map[string]string{"a.yaml": serviceAccount("a", "a")}, FileOptions{})
	for i := range 3 {
		name := fmt.Sprintf("x%d", i)
		w.write(".a.yaml.tmp", serviceAccount("a", name))
		w.must(os.Rename(w.path(".a.yaml.tmp"), w.path("a.yaml")))
		w.until("a/" + name)
	}
	w.must(os.Rename(w.path("a.yaml"), w.path("b.yaml")))
	w.rescan()
	if accounts(w.last.snapshot) != "a/x2" {
		t.Errorf("accounts = %s", accounts(w.last.snapshot))
	}
}

// A ConfigMap's volume: files are links by way of a link that is swapped.
func TestWatchSeesSwappedLinks(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"..1/a.yaml": serviceAccount("a", "one"), "..2/a.yaml": serviceAccount("a", "two")})
	for link, target := range map[string]string{"..data": "..1", "a.yaml": "..data/a.yaml"} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	w := watchPath(t, dir, dir, FileOptions{})
	w.until("a/one")
	w.must(os.Symlink("..2", w.path("..tmp")))
	w.must(os.Rename(w.path("..tmp"), w.path("..data")))
	w.until("a/two")
}

func TestWatchOfOneFile(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"a.yaml": serviceAccount("a", "a"), "b.yaml": serviceAccount("b", "b")})
	w := watchPath(t, dir, filepath.Join(dir, "a.yaml"), FileOptions{})
	w.until("a/a")
	w.write(".tmp", serviceAccount("a", "x"))
	w.must(os.Rename(w.path(".tmp"), w.path("a.yaml")))
	w.until("a/x")
}

func TestWatchKeepsTheLastGoodVersion(t *testing.T) {
	two := serviceAccount("a", "a") + "---\n" + serviceAccount("b", "b")
	w := watchFolder(t, map[string]string{"a.yaml": two, "b.yaml": serviceAccount("c", "c")}, FileOptions{})
	w.write("a.yaml", serviceAccount("a", "a")+"foo: bar\n---\n"+serviceAccount("b", "b"))
	w.untilFindings(1)
	if f := w.last.findings[0]; accounts(w.last.snapshot) != "a/a b/b c/c" || f.File != w.path("a.yaml") || f.Line != 4 || f.Field != "foo" {
		t.Errorf("accounts = %s, findings = %+v", accounts(w.last.snapshot), w.last.findings)
	}
	w.write("a.yaml", "]]]")
	w.rescan()
	if accounts(w.last.snapshot) != "a/a b/b c/c" || len(w.last.findings) != 1 {
		t.Errorf("accounts = %s, findings = %+v", accounts(w.last.snapshot), w.last.findings)
	}
	w.write("a.yaml", two)
	w.untilFindings(0)
}

// A file that is truncated, then written, takes nothing away in between.
func TestWatchIsNotCaughtHalfway(t *testing.T) {
	content := serviceAccount("a", "a") + "---\n" + serviceAccount("b", "b")
	w := watchFolder(t, map[string]string{"a.yaml": content}, FileOptions{Settle: time.Hour})
	f, err := os.OpenFile(w.path("a.yaml"), os.O_WRONLY|os.O_TRUNC, 0)
	w.must(err)
	defer f.Close()
	for _, part := range []string{content[:20], content[20:70], content[70:]} {
		_, err := f.WriteString(part)
		w.must(err)
		w.must(f.Sync())
	}
	w.write("z.yaml", serviceAccount("z", "z"))
	w.until("a/a b/b z/z")
	w.must(os.Rename(w.path("a.yaml"), w.path("a.yaml~")))
	w.write("a.yaml", content+"---\n"+serviceAccount("c", "c"))
	for accounts(w.last.snapshot) != "a/a b/b c/c z/z" {
		w.next()
		if !strings.HasPrefix(accounts(w.last.snapshot), "a/a b/b ") || len(w.last.findings) > 0 {
			t.Fatalf("caught halfway: %s, findings %+v", accounts(w.last.snapshot), w.last.findings)
		}
	}
}

func TestRescanIsABarrier(t *testing.T) {
	w := watchFolder(t, map[string]string{"a.yaml": serviceAccount("a", "a")}, FileOptions{Settle: time.Hour})
	for i := range 20 {
		w.write("a.yaml", serviceAccount("a", fmt.Sprintf("x%d", i)))
		w.rescan()
		if got, want := accounts(w.last.snapshot), fmt.Sprintf("a/x%d", i); got != want {
			t.Fatalf("accounts = %s, want %s", got, want)
		}
	}
	w.must(os.Remove(w.path("a.yaml")))
	w.rescan()
	if got := accounts(w.last.snapshot); got != "" {
		t.Errorf("accounts = %s after the file is gone", got)
	}
}

func TestNothingIsEmittedWhenNothingChanged(t *testing.T) {
	w := watchFolder(t, map[string]string{"a.yaml": serviceAccount("a", "a"), "b.yaml": "]]]"}, FileOptions{})
	before := w.last
	w.rescan()
	w.write("a.yaml", "# the same\n"+serviceAccount("a", "a"))
	w.rescan()
	w.write("ignored.yaml", "apiVersion: v1\nkind: Event\nmetadata: {name: x}\n")
	w.rescan()
	if w.last.snapshot != before.snapshot {
		t.Error("emitted again")
	}
}

// The object's history survives reloads.
func TestWatchCountsGenerations(t *testing.T) {
	w := watchFolder(t, map[string]string{"a.yaml": peerAuthentication("a", "Strict")}, FileOptions{})
	created := w.now
	w.now = w.now.Add(time.Hour)
	w.write("a.yaml", peerAuthentication("a", "Permissive"))
	w.rescan()
	if pa := w.last.snapshot.PeerAuthentications[0]; pa.Generation != 2 || !pa.CreationTimestamp.Time.Equal(created) {
		t.Errorf("%+v", pa.ObjectMeta)
	}
}

// A folder that goes away takes nothing with it until it is back.
func TestWatchOutlivesItsFolder(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"conf/a.yaml": serviceAccount("a", "a")})
	w := watchPath(t, dir, filepath.Join(dir, "conf"), FileOptions{Settle: time.Hour})
	w.must(os.Rename(w.path("conf"), w.path("old")))
	w.rescan()
	if accounts(w.last.snapshot) != "a/a" || len(w.last.findings) != 1 || w.last.findings[0].Reason != report.Unreadable {
		t.Errorf("accounts = %s, findings = %+v", accounts(w.last.snapshot), w.last.findings)
	}
	w.write("conf/a.yaml", serviceAccount("a", "b"))
	w.rescan()
	if accounts(w.last.snapshot) != "a/b" || len(w.last.findings) != 0 {
		t.Errorf("accounts = %s, findings = %+v", accounts(w.last.snapshot), w.last.findings)
	}
	w.write("conf/b.yaml", serviceAccount("b", "b"))
	w.until("a/b b/b") // by its event: the new folder is watched
}

func TestRescanEnds(t *testing.T) {
	source := NewFileSource(t.TempDir(), FileOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := source.Rescan(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("before Run: %v", err)
	}
	if err := source.Run(ctx, func(*Snapshot, []report.Finding) {}); err != nil {
		t.Errorf("Run: %v", err)
	}
	if err := source.Rescan(t.Context()); !errors.Is(err, ErrStopped) {
		t.Errorf("after Run: %v", err)
	}
	if err := NewFileSource(filepath.Join(t.TempDir(), "none"), FileOptions{}).Run(t.Context(), nil); err == nil {
		t.Error("a path that is not there is no error")
	}
}

// TestRunAfterLoad: what has changed since counts, and what has not is in the first state too.
func TestRunAfterLoad(t *testing.T) {
	dir := t.TempDir()
	write := func(file, name string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, file), []byte(serviceAccount("a", name)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for i, name := range []string{"same", "before", "gone"} {
		write(fmt.Sprintf("%d.yaml", i), name)
	}
	source := NewFileSource(dir, FileOptions{})
	loaded, _, err := source.Load()
	if err != nil || len(loaded.ServiceAccounts) != 3 {
		t.Fatalf("%v, %v", loaded, err)
	}
	write("1.yaml", "after")
	if err := os.Remove(filepath.Join(dir, "2.yaml")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var got []string
	err = source.Run(ctx, func(s *Snapshot, _ []report.Finding) {
		for _, a := range s.ServiceAccounts {
			got = append(got, a.Name)
		}
		cancel()
	})
	slices.Sort(got)
	if err != nil || !slices.Equal(got, []string{"after", "same"}) {
		t.Errorf("%v, %v", got, err)
	}
}

func BenchmarkRescanOf1000Files(b *testing.B) {
	dir := b.TempDir()
	for i := range 1000 {
		content := serviceAccount("a", fmt.Sprintf("x%d", i))
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.yaml", i)), []byte(content), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	source := NewFileSource(dir, FileOptions{})
	go func() { _ = source.Run(b.Context(), func(*Snapshot, []report.Finding) {}) }()
	if err := source.Rescan(b.Context()); err != nil { // reads them all
		b.Fatal(err)
	}
	time.Sleep(2 * racyWindow) // what was written just now is read twice: not what is measured
	for b.Loop() {
		if err := source.Rescan(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
