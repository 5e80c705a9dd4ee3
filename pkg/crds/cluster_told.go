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
	t.note(client.ObjectKeyFromObject(object), object)
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
	t.note(client.ObjectKeyFromObject(object), nil)
	return nil
}

// note an object's newest version; nil is its deletion.
func (t told) note(name types.NamespacedName, object client.Object) {
	t.mu.Lock()
	if t.feed.epoch == t.epoch {
		if t.pending == nil {
			t.pending = map[types.NamespacedName]client.Object{}
		}
		t.pending[name] = object
	}
	t.mu.Unlock()
	t.poke()
}

// Replace implements toolscache.ReflectorStore: the list is all that there is.
func (t told) Replace(list []any, _ string) error {
	all := make(map[types.NamespacedName]client.Object, len(list))
	for _, in := range list {
		object, err := t.strip(in)
		if err != nil {
			return err
		}
		all[client.ObjectKeyFromObject(object)] = object
	}
	t.mu.Lock()
	if t.feed.epoch == t.epoch {
		t.pending, t.whole = all, true
		if t.state == reading {
			t.state = live
			close(t.ended)
		}
	}
	t.mu.Unlock()
	t.poke()
	return nil
}

// Resync implements toolscache.ReflectorStore.
func (t told) Resync() error { return nil }

// Transformer implements toolscache.TransformingStore: what a list brings is
// stripped as it comes.
func (t told) Transformer() toolscache.TransformFunc {
	return func(in any) (any, error) { return t.strip(in) }
}
