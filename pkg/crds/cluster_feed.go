package crds

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"sync"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshd-io/meshd/pkg/report"
)

// feed is one kind on its way from a watch to the Snapshot.
type feed struct {
	gvk schema.GroupVersionKind
	// resource is the kind's name in paths, such as endpointslices.
	resource string
	// watch is what the API server is asked for: typed or unstructured.
	watch    client.Object
	selector fields.Selector // nil: every object
	// strip makes what is kept of an object. It may be given what it has made.
	strip func(any) (client.Object, error)
	// same compares two stripped objects, but for their resourceVersion.
	same func(a, b client.Object) bool
	// ownStatus: the generation tells changes of the spec, and nothing is compiled from the status.
	ownStatus bool
	// defined: a CustomResourceDefinition says that the kind is there.
	defined bool
	// optional: nobody misses the kind where it is not served.
	optional bool
	// put publishes the rows. It reports whether that has changed the Snapshot.
	put func(*Snapshot) bool

	rows []row // only the writer's

	mu    sync.Mutex
	state feedState
	// epoch counts the watches that the feed has had: what a former one tells does not count.
	epoch  int
	cancel func() // of this epoch's watch
	newest string // the version up to which it has told everything; "" before
	// pending is what the watch has told and the writer has not taken; nil is a deletion.
	pending map[types.NamespacedName]client.Object
	// whole: what is not in pending is not there any more.
	whole bool
	// ended is closed when everything has been read for this epoch or it is not wanted any more.
	ended chan struct{}
}

type feedState int

const (
	absent  feedState = iota // the API server does not serve the kind
	reading                  // the watch has not told everything yet
	live
)

// row is an object in force and what was found in its newest version.
type row struct {
	types.NamespacedName
	// object is the last good version; where there was none, what could be read
	// of the newest one (lax), or nil.
	object client.Object
	lax    bool
	// version is the resourceVersion that was seen last, of whatever was kept of it.
	version  string
	findings []report.Finding
}

// change is what a fold has changed.
type change struct {
	objects  bool
	content  bool // more than the status of objects
	findings bool
}

// refusal stands for an object that breaks the rules of its kind.
type refusal struct {
	metav1.PartialObjectMetadata
	findings []report.Finding
	// readable is what could be read of it; nil where that is nothing.
	readable client.Object
}

func compareNames(a, b types.NamespacedName) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

// begin starts an epoch, whose watch cancel ends; a former one's is ended. What
// is known stays until the watch has told everything.
func (f *feed) begin(cancel, poke func()) told {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.state != absent {
		f.cancel()
	}
	if f.state == reading {
		close(f.ended)
	}
	f.epoch++
	f.cancel, f.newest, f.state, f.pending, f.whole, f.ended = cancel, "", reading, nil, false, make(chan struct{})
	return told{feed: f, epoch: f.epoch, poke: poke}
}

// drop ends the epoch: all objects of the kind are gone.
func (f *feed) drop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.state == absent {
		return
	}
	if f.state == reading {
		close(f.ended)
	}
	f.cancel()
	f.epoch++
	f.state, f.pending, f.whole = absent, nil, true
}

// settled is closed when the kind has been read or is not served.
func (f *feed) settled() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended != nil {
		return f.ended
	}
	done := make(chan struct{})
	close(done)
	return done
}

func (f *feed) absent() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state == absent
}

// fold takes what is pending into the rows. Nothing is taken before the kind has been read.
func (f *feed) fold() change {
	f.mu.Lock()
	var pending map[types.NamespacedName]client.Object
	whole := false
	if f.state != reading {
		pending, f.pending = f.pending, nil
		whole, f.whole = f.whole, false
	}
	f.mu.Unlock()

	switch {
	case len(f.rows) == 0:
		return f.fill(pending)
	case whole && len(pending) == 0:
		gone := change{objects: true, content: true, findings: slices.ContainsFunc(f.rows, func(r row) bool { return r.findings != nil })}
		f.rows = nil
		return gone
	case whole:
		f.addGone(pending)
	}
	var c change
	for name, object := range pending {
		i, known := slices.BinarySearchFunc(f.rows, name, func(r row, n types.NamespacedName) int { return compareNames(r.NamespacedName, n) })
		switch {
		case object == nil && known:
			c = c.and(change{objects: f.rows[i].object != nil, content: f.rows[i].object != nil, findings: f.rows[i].findings != nil})
			f.rows = slices.Delete(f.rows, i, i+1)
		case object == nil:
		case known:
			c = c.and(f.update(&f.rows[i], object))
		default:
			r := row{NamespacedName: name}
			c = c.and(f.update(&r, object))
			f.rows = slices.Insert(f.rows, i, r)
		}
	}
	return c
}

// addGone adds the deletion of each row that is not in all.
func (f *feed) addGone(all map[types.NamespacedName]client.Object) {
	for _, r := range f.rows {
		if _, there := all[r.NamespacedName]; !there {
			all[r.NamespacedName] = nil
		}
	}
}

// fill makes the first rows.
func (f *feed) fill(pending map[types.NamespacedName]client.Object) change {
	var c change
	f.rows = slices.Grow(f.rows, len(pending))
	for _, name := range slices.SortedFunc(maps.Keys(pending), compareNames) {
		if object := pending[name]; object != nil {
			r := row{NamespacedName: name}
			c = c.and(f.update(&r, object))
			f.rows = append(f.rows, r)
		}
	}
	return c
}

// update gives a row its object's newest version. One that is refused does not
// count where there is a good one of the same object. Where there is none, as
// after a start, what can be read of it counts: compile judges it again, closes
// what it cannot understand, and a policy that was simply not there would leave
// open what it should close.
func (f *feed) update(r *row, object client.Object) change {
	r.version = object.GetResourceVersion()
	refused, is := object.(*refusal)
	if !is {
		c := change{findings: r.findings != nil}
		r.findings = nil
		return c.and(f.set(r, object, false))
	}
	c := change{findings: !slices.Equal(r.findings, refused.findings)}
	r.findings = refused.findings
	if r.object != nil && !r.lax && r.object.GetUID() == refused.UID {
		return c
	}
	return c.and(f.set(r, refused.readable, true))
}

func (f *feed) set(r *row, object client.Object, lax bool) change {
	old := r.object
	r.lax = lax
	switch {
	case old == nil && object == nil, old != nil && object != nil && f.same(old, object):
		return change{}
	}
	r.object = object
	return change{objects: true, content: old == nil || object == nil || !f.ownStatus || !sameContent(old, object)}
}

func (c change) and(d change) change {
	return change{objects: c.objects || d.objects, content: c.content || d.content, findings: c.findings || d.findings}
}

// sameContent reports whether two versions of an object differ in their status at most.
func sameContent(a, b client.Object) bool {
	return a.GetUID() == b.GetUID() && a.GetGeneration() == b.GetGeneration() &&
		maps.Equal(a.GetLabels(), b.GetLabels()) && maps.Equal(a.GetAnnotations(), b.GetAnnotations())
}

// structOf is a pointer to an object's struct.
type structOf[S any] interface {
	*S
	client.Object
}

// sameBut compares two objects, but for their resourceVersion.
func sameBut[S any, T structOf[S]](a, b client.Object) bool {
	x, ok := a.(T)
	y, too := b.(T)
	if !ok || !too {
		return false
	}
	copyX, copyY := *x, *y
	T(&copyX).SetResourceVersion("")
	T(&copyY).SetResourceVersion("")
	return apiequality.Semantic.DeepEqual(&copyX, &copyY)
}

// objectsOf are the rows' objects, sorted as the rows are.
func objectsOf[T client.Object](rows []row) []T {
	out := make([]T, 0, len(rows))
	for _, r := range rows {
		if object, ok := r.object.(T); ok {
			out = append(out, object)
		}
	}
	return out
}

var errUnexpected = errors.New("a watch gave an object of another kind")
