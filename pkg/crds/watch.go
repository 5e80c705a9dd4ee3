package crds

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/meshd-io/meshd/pkg/report"
)

// FileOptions are what a FileSource may be told; the zero value is ready to use.
type FileOptions struct {
	// Now gives the creationTimestamp of objects that are seen first; time.Now when nil.
	Now func() time.Time
	// Settle is how long a file must have stayed as it is before it may take
	// objects away or bring faults: an editor that truncates, then writes, or
	// renames back and forth, is not caught halfway. What is whole counts at once.
	// DefaultSettle when 0.
	Settle time.Duration
}

// DefaultSettle is longer than an editor takes to write a file.
const DefaultSettle = 100 * time.Millisecond

// pollInterval is how often folders are read that cannot be watched.
const pollInterval = time.Second

// ErrStopped is what Rescan returns once Run has returned.
var ErrStopped = errors.New("the source has stopped")

// FileSource watches a file or folder of objects. Symbolic links to files are
// read; a change at their other end is seen with the next event in the folder
// (as when a ConfigMap's volume is updated).
type FileSource struct {
	path    string
	now     func() time.Time
	settle  time.Duration
	loaded  map[string]*sourceFile // by Load
	rescans chan chan error
	stopped chan struct{}
}

// NewFileSource watches nothing before Run.
func NewFileSource(path string, options FileOptions) *FileSource {
	s := &FileSource{path: path, now: options.Now, settle: options.Settle, rescans: make(chan chan error), stopped: make(chan struct{})}
	if s.now == nil {
		s.now = time.Now
	}
	if s.settle == 0 {
		s.settle = DefaultSettle
	}
	return s
}

// Run reads the files, then watches them until the context ends, and calls emit
// with each new state: once after the first reading, then whenever an object or
// a finding has changed, never twice at a time. Changes that come while emit
// runs are one state. It fails when the path cannot be read to begin with.
// It may be called once.
func (s *FileSource) Run(ctx context.Context, emit func(*Snapshot, []report.Finding)) error {
	defer close(s.stopped)
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch files: %w", err)
	}
	defer func() { _ = watcher.Close() }() // nothing is read from it any more
	w := &watch{source: s, add: watcher.Add, emit: emit, files: map[string]*sourceFile{}, pending: map[string]pending{}}
	maps.Copy(w.files, s.loaded)
	if _, err := listFiles(s.path, nil); err != nil {
		return err
	}
	again := time.NewTimer(w.read(true))
	defer again.Stop()
	for {
		var done chan error
		select {
		case <-ctx.Done():
			return nil
		case <-watcher.Events:
			drain(watcher.Events)
		case <-watcher.Errors: //nolint:errcheck // events were lost: everything is read again, as always
		case <-again.C:
		case done = <-s.rescans:
		}
		again.Reset(w.read(done != nil))
		if done != nil {
			done <- nil
		}
	}
}

// drain takes the events that are there already: the reading that follows covers them.
func drain(events <-chan fsnotify.Event) {
	for {
		select {
		case <-events:
		default:
			return
		}
	}
}

// Rescan reads the files now, whether they have settled or not, and returns
// once emit has run if anything has changed. It waits for Run to begin. It may
// not be called from emit.
func (s *FileSource) Rescan(ctx context.Context) error {
	done := make(chan error, 1)
	select {
	case s.rescans <- done:
	case <-s.stopped:
		return ErrStopped
	case <-ctx.Done():
		return fmt.Errorf("rescan: %w", ctx.Err())
	}
	select {
	case err := <-done:
		return err
	case <-s.stopped:
		return ErrStopped
	case <-ctx.Done():
		return fmt.Errorf("rescan: %w", ctx.Err())
	}
}

// watch is the state of a Run. Only its goroutine touches it.
type watch struct {
	source  *FileSource
	add     func(folder string) error
	emit    func(*Snapshot, []report.Finding)
	files   map[string]*sourceFile // what counts
	pending map[string]pending     // what is there, but has not settled
	inForce entries
	// findings of the last state emitted; nil before the first.
	findings []report.Finding
	emitted  bool
	// stale: files have changed, or could not be listed, since the last publish looked at them all.
	stale bool
}

// pending is a version of a file that would take something away; the zero stamp is a file that is gone.
type pending struct {
	stamp stamp
	since time.Time
}

const never = time.Duration(1<<63 - 1)

// read brings files up to date, emits if that changes anything, and says how
// long to wait before reading again without an event.
func (w *watch) read(now bool) time.Duration {
	wait := never
	poll := false
	paths, err := listFiles(w.source.path, func(folder string) { poll = w.add(folder) != nil || poll })
	var fault []report.Finding
	if err != nil {
		// The folder is away, perhaps to be replaced: what was read of it stays in force.
		poll, w.stale = true, true
		fault = append(fault, report.Finding{
			Condition: report.Accepted, Reason: report.Unreadable, File: w.source.path, Message: err.Error(),
		})
	} else {
		wait = w.update(paths, now)
	}
	if poll {
		wait = min(wait, pollInterval)
	}
	if w.stale || !w.emitted {
		// With a fault it stays stale: the next reading is to take the finding away.
		w.stale = len(fault) > 0
		w.publish(fault)
	}
	return wait
}

// update reads the files that have changed. Without now, a version that takes
// something away counts only when it has settled; the result is when that will be.
func (w *watch) update(paths []string, now bool) time.Duration {
	wait := never
	there := make(map[string]bool, len(paths))
	for _, path := range paths {
		old := w.files[path]
		f, err := readFile(path, old)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		there[path] = true
		if f == old || now || !worse(old, f) {
			delete(w.pending, path)
			w.stale = w.stale || differs(old, f)
			w.files[path] = f
			continue
		}
		if left := w.unsettled(path, f.stamp); left > 0 {
			wait = min(wait, left)
			continue
		}
		w.files[path], w.stale = f, true
	}
	for path := range w.files {
		if there[path] {
			continue
		}
		if left := w.unsettled(path, stamp{}); left > 0 && !now {
			wait = min(wait, left)
			continue
		}
		delete(w.files, path)
		delete(w.pending, path)
		w.stale = true
	}
	maps.DeleteFunc(w.pending, func(path string, _ pending) bool { return !there[path] && w.files[path] == nil })
	return wait
}

// unsettled is how long a version of a file must still stay as it is.
func (w *watch) unsettled(path string, version stamp) time.Duration {
	now := time.Now() // how long a file has stayed is told by the machine's clock
	p, ok := w.pending[path]
	if !ok || p.stamp != version {
		p = pending{stamp: version, since: now}
		w.pending[path] = p
	}
	left := w.source.settle - now.Sub(p.since)
	if left <= 0 {
		delete(w.pending, path)
	}
	return left
}

// differs reports whether a file may say something else than before. A file
// that could not be read has no sum, and always may.
func differs(old, f *sourceFile) bool {
	return f != old && (old == nil || old.sum != f.sum || f.sum == [sha256.Size]byte{})
}

// worse reports whether a new version of a file has a fault, or lacks an object that the old one has.
func worse(old, f *sourceFile) bool {
	names := map[report.Object]bool{}
	for _, d := range f.declarations {
		if len(d.findings) > 0 {
			return true
		}
		names[d.ref] = true
	}
	return old != nil && slices.ContainsFunc(old.declarations, func(d declaration) bool {
		return !names[d.ref]
	})
}

func (w *watch) publish(fault []report.Finding) {
	files := make([]*sourceFile, 0, len(w.files))
	for _, f := range w.files {
		files = append(files, f)
	}
	slices.SortFunc(files, func(a, b *sourceFile) int { return cmp.Compare(a.path, b.path) })
	after, findings := merge(files, w.inForce, w.source.now())
	findings = report.Sort(append(findings, fault...))
	changed := !w.emitted || !sameObjects(w.inForce, after) || !slices.Equal(w.findings, findings)
	w.inForce, w.findings, w.emitted = after, findings, true
	if changed {
		w.emit(after.snapshot(), findings)
	}
}
