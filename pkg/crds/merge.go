package crds

import (
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshd-io/meshd/pkg/report"
)

// entry is an object in force.
type entry struct {
	// object has generation and creationTimestamp.
	object Resource
	file   string
	// whole and content are sums of the object as declared: all of it, and all but metadata and status.
	whole, content sum
}

// entries are the objects in force, by name.
type entries map[report.Object]*entry

// merge folds what all files declare, in their order, into what was in force
// before. An object whose new version is refused keeps its last good one; one
// that may stand in a part that cannot be read stays as well.
func merge(files []*sourceFile, before entries, now time.Time) (entries, []report.Finding) {
	after := make(entries, len(before))
	type place struct {
		file string
		line int
	}
	declared := map[report.Object]place{}
	opaque := map[string]bool{}
	var findings []report.Finding
	for _, file := range files {
		opaque[file.path] = file.opaque()
		for _, d := range file.declarations {
			findings = append(findings, d.findings...)
			if d.ignored || !d.named() {
				continue
			}
			if first, again := declared[d.ref]; again {
				findings = append(findings, report.Finding{
					Object: d.ref, Condition: report.Accepted, Reason: report.Duplicate, File: file.path, Line: d.line,
					Message: fmt.Sprintf("declared before in %s, line %d, which counts: remove one of them", first.file, first.line),
				})
			} else {
				declared[d.ref] = place{file.path, d.line}
			}
			old := before[d.ref]
			switch {
			case after[d.ref] != nil:
			case d.object != nil:
				after[d.ref] = old.next(d, file.path, now)
			case old != nil && old.file == file.path:
				after[d.ref] = old
			}
		}
	}
	for ref, old := range before {
		if _, ok := declared[ref]; after[ref] == nil && (ok || opaque[old.file]) {
			after[ref] = old
		}
	}
	return after, report.Sort(findings)
}

// next is the entry after a declaration: the same one when nothing has changed.
func (old *entry) next(d declaration, file string, now time.Time) *entry {
	if old != nil && old.whole == d.whole && old.file == file {
		return old
	}
	object, ok := d.object.DeepCopyObject().(Resource)
	if !ok {
		object = d.object
	}
	e := &entry{object: object, file: file, whole: d.whole, content: d.content}
	if old != nil && old.whole == d.whole {
		e.object = old.object
		return e
	}
	if e.object.GetGeneration() == 0 {
		e.object.SetGeneration(1)
		if old != nil {
			e.object.SetGeneration(old.object.GetGeneration())
			if old.content != e.content {
				e.object.SetGeneration(old.object.GetGeneration() + 1)
			}
		}
	}
	if created := e.object.GetCreationTimestamp(); created.IsZero() {
		e.object.SetCreationTimestamp(metav1.NewTime(now.Truncate(time.Second)))
		if old != nil {
			e.object.SetCreationTimestamp(old.object.GetCreationTimestamp())
		}
	}
	return e
}

// sameObjects reports whether two sets hold the very same objects.
func sameObjects(a, b entries) bool {
	if len(a) != len(b) {
		return false
	}
	for ref, e := range a {
		if f := b[ref]; f == nil || f.object != e.object {
			return false
		}
	}
	return true
}

// sorted gives the objects by kind, namespace, name.
func (es entries) sorted() []Resource {
	refs := make([]report.Object, 0, len(es))
	for ref := range es {
		refs = append(refs, ref)
	}
	slices.SortFunc(refs, report.Object.Compare)
	out := make([]Resource, len(refs))
	for i, ref := range refs {
		out[i] = es[ref].object
	}
	return out
}
