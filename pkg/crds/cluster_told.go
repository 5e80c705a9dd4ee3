package crds

import (
	"fmt"

	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// told is what a Reflector tells of one epoch of a feed
// (toolscache.ReflectorStore). It keeps nothing but what the writer has not taken
// yet, and never waits for more than the feed's lock. A shared informer would
// keep the objects a second time, and hand each on through five goroutines.
type told struct {
	*feed
	epoch int
	poke  func()
}

// Add implements toolscache.ReflectorStore.
func (t told) Add(in any) error {
	object, err := t.strip(in)
	if err != nil {
		return err
	}
	t.note(func() { t.change(object, object) })
	return nil
}

// Update implements toolscache.ReflectorStore.
func (t told) Update(in any) error { return t.Add(in) }

// Delete implements toolscache.ReflectorStore.
func (t told) Delete(in any) error {
	object, ok := in.(client.Object)
	if !ok {
		return fmt.Errorf("%s: %w: %T", t.gvk.Kind, errUnexpected, in)
	}
	t.note(func() { t.change(object, nil) })
	return nil
}

// Replace implements toolscache.ReflectorStore: the list is all that there is.
func (t told) Replace(list []any, version string) error {
	all := make(map[types.NamespacedName]client.Object, len(list))
	for _, in := range list {
		object, err := t.strip(in)
		if err != nil {
			return err
		}
		all[client.ObjectKeyFromObject(object)] = object
	}
	t.note(func() {
		t.pending, t.whole, t.newest = all, true, version
		if t.state == reading {
			t.state = live
			close(t.ended)
		}
	})
	return nil
}

// Bookmark implements toolscache.ReflectorBookmarkStore.
func (t told) Bookmark(version string) error {
	t.note(func() { t.newest = version })
	return nil
}

// change notes an object's newest version; nil is its deletion. The feed's lock is held.
func (t told) change(of, object client.Object) {
	if t.pending == nil {
		t.pending = map[types.NamespacedName]client.Object{}
	}
	t.pending[client.ObjectKeyFromObject(of)], t.newest = object, of.GetResourceVersion()
}

// note what is told, unless it is of an epoch that has ended.
func (t told) note(what func()) {
	t.mu.Lock()
	if t.feed.epoch == t.epoch {
		what()
	}
	t.mu.Unlock()
	t.poke()
}

// Resync implements toolscache.ReflectorStore.
func (t told) Resync() error { return nil }

// Transformer implements toolscache.TransformingStore: what a list brings is
// stripped as it comes.
func (t told) Transformer() toolscache.TransformFunc {
	return func(in any) (any, error) { return t.strip(in) }
}
