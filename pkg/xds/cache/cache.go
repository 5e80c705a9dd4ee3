package cache

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/meshd-io/meshd/pkg/report"
	"github.com/meshd-io/meshd/pkg/xds/acks"
	"github.com/meshd-io/meshd/pkg/xds/envoy"
	"github.com/meshd-io/meshd/pkg/xds/scope"
)

// Cache has the newest snapshot of every key. It may be used by many goroutines.
type Cache struct {
	// snapshots are *Snapshot by scope.Key: whoever sends need not wait for whoever publishes.
	snapshots sync.Map

	mu     sync.RWMutex
	keys   map[scope.Key]*entry
	intern map[string]*interned // by version, which hashes type, name and bytes
	ids    map[string]*setID    // by set version
	nextID uint64
	text   []byte // a set's versions while it is made, kept for the next
	watch  func(scope.Key)
}

// entry is a key's state. Its slots are the memory behind the snapshot.
type entry struct {
	slots map[envoy.Type]map[string]*slot
	// order has a type's slots, sorted by name; none while names come and go.
	order    map[envoy.Type][]*slot
	snapshot *Snapshot
	// translation is the newest; parts are what it was put together from, if it was.
	translation Translation
	parts       []*Translation
}

// New is empty.
func New() *Cache {
	return &Cache{keys: map[scope.Key]*entry{}, intern: map[string]*interned{}, ids: map[string]*setID{}}
}

// Watch has f called after each change of a key's snapshot, outside of all
// locks; one f, set before the first Publish. f must not block.
func (c *Cache) Watch(f func(scope.Key)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watch = f
}

// Snapshot of a key; nil where nothing was published.
func (c *Cache) Snapshot(key scope.Key) *Snapshot {
	s, _ := c.snapshots.Load(key)
	snapshot, _ := s.(*Snapshot)
	return snapshot
}

// Concerned is what of a key's snapshot was made from an object (acks.ProgressOf).
func (c *Cache) Concerned(key scope.Key, obj report.Object) []acks.Resource {
	return c.Snapshot(key).Of(obj)
}

// Publish makes a translation the newest of a key. The findings name the
// objects behind what did not pass the gate; it is put aside, and its last good
// version stays.
func (c *Cache) Publish(key scope.Key, rs envoy.Resources) []report.Finding {
	c.PublishChecked(key, c.Check(rs))
	c.mu.RLock()
	defer c.mu.RUnlock()
	return report.Sort(c.keys[key].findings(func(a Aside) bool { return !a.ByEnvoy }))
}

// PublishChecked is Publish of what has been through Check. Nothing happens
// when it is equal to the translation before; otherwise it costs what has
// changed. Nobody may change the lists afterwards.
func (c *Cache) PublishChecked(key scope.Key, t Translation) { c.publish(key, t, nil) }

func (c *Cache) publish(key scope.Key, t Translation, parts []*Translation) {
	c.mu.Lock()
	e := c.keys[key]
	if e == nil {
		e = &entry{slots: map[envoy.Type]map[string]*slot{}, order: map[envoy.Type][]*slot{}}
		c.keys[key] = e
	}
	fresh := e.snapshot == nil
	d := e.differenceTo(t)
	e.translation, e.parts = t, parts
	c.load(e, d)
	c.consistent(e, d)
	c.commit(e, d)
	changed := c.settle(key, e, d.names())
	watch := c.watch
	c.mu.Unlock()
	if (changed || fresh) && watch != nil {
		watch(key)
	}
}

// Remove forgets a key whose last proxy is gone.
func (c *Cache) Remove(key scope.Key) {
	c.mu.Lock()
	e := c.keys[key]
	delete(c.keys, key)
	c.snapshots.Delete(key)
	if e != nil {
		for _, slots := range e.slots {
			for _, s := range slots {
				c.empty(s)
			}
		}
		for _, set := range e.snapshot.sets {
			c.releaseID(set.Version)
		}
	}
	watch := c.watch
	c.mu.Unlock()
	if e != nil && watch != nil {
		watch(key)
	}
}

// settle makes the snapshot of the slots, of which those of some names have
// changed, and reports whether it differs for proxies.
func (c *Cache) settle(key scope.Key, e *entry, names map[envoy.Type][]string) bool {
	if e.snapshot != nil && len(names) == 0 {
		return false
	}
	next := &Snapshot{sets: make(map[envoy.Type]*Set, len(e.slots))}
	if e.snapshot != nil {
		maps.Copy(next.sets, e.snapshot.sets)
	}
	changed := e.snapshot == nil
	for t, some := range names {
		old := next.sets[t]
		delete(next.sets, t)
		if len(e.slots[t]) > 0 {
			set := c.setOf(e, t, old, some)
			next.sets[t] = set
			changed = changed || old == nil || old.Version != set.Version
		} else {
			changed = changed || old != nil
		}
		if old != nil {
			c.releaseID(old.Version)
		}
	}
	e.snapshot = next
	c.snapshots.Store(key, next)
	return changed
}

// setOf is of the slots of a type. Where they are those that old was made of,
// only the slots of the names are looked at again.
func (c *Cache) setOf(e *entry, t envoy.Type, old *Set, names []string) *Set {
	var set *Set
	if old != nil && e.order[t] != nil {
		set = c.patchedSet(e.order[t], old, names)
	}
	if set == nil {
		set = c.newSet(t, e.sorted(t))
	}
	c.name(set)
	return set
}

// sorted are a type's slots.
func (e *entry) sorted(t envoy.Type) []*slot {
	if e.order[t] == nil {
		for i, r := range e.translation[t] {
			if i == 0 || e.translation[t][i-1].name != r.name {
				e.order[t] = append(e.order[t], e.slots[t][r.name])
			}
		}
	}
	return e.order[t]
}

// newSet is of the slots of a type, sorted by name.
func (c *Cache) newSet(t envoy.Type, slots []*slot) *Set {
	set := &Set{typ: t, items: make([]*Item, 0, len(slots))}
	for _, s := range slots {
		it, aside := s.effective()
		if it != nil {
			set.items = append(set.items, it)
		}
		if aside != nil {
			if set.aside == nil {
				set.aside = map[string]Aside{}
			}
			set.aside[s.name] = *aside
			if it == nil {
				set.withheld = append(set.withheld, s.name)
			}
		}
	}
	for share := range slices.Chunk(slots, perSum) {
		set.sums = append(set.sums, c.sum(share))
	}
	return set
}

// patchedSet is newSet of the slots that old was made of, of which those of the
// names have changed; nil where something is put aside, before or now.
func (c *Cache) patchedSet(slots []*slot, old *Set, names []string) *Set {
	if len(old.aside) > 0 {
		return nil
	}
	set := &Set{typ: old.typ, items: slices.Clone(old.items), sums: slices.Clone(old.sums)}
	summed := -1
	for _, name := range names {
		i, _ := slices.BinarySearchFunc(slots, name, func(s *slot, name string) int { return cmp.Compare(s.name, name) })
		it, aside := slots[i].effective()
		if it == nil || aside != nil {
			return nil
		}
		set.items[i] = it
		if share := i / perSum; share != summed {
			set.sums[share] = c.sum(slots[share*perSum : min(len(slots), (share+1)*perSum)])
			summed = share
		}
	}
	return set
}

// perSum is how many slots a sum is of.
const perSum = 32

// sum is a hash of what is served of slots, and of what was put aside for them.
func (c *Cache) sum(slots []*slot) (out [versionBytes]byte) {
	c.text = c.text[:0]
	for _, s := range slots {
		it, aside := s.effective()
		if it != nil {
			c.text = append(c.text, it.Version...)
		}
		if aside != nil {
			c.text = fmt.Appendf(c.text, " aside %q %s ", s.name, aside.Version)
		}
	}
	all := sha256.Sum256(c.text)
	copy(out[:], all[:])
	return out
}

// name gives a set its version and its ID.
func (c *Cache) name(set *Set) {
	c.text = c.text[:0]
	for _, sum := range set.sums {
		c.text = append(c.text, sum[:]...)
	}
	sum := sha256.Sum256(c.text)
	set.Version = hex.EncodeToString(sum[:versionBytes])
	set.ID = c.idOf(set.Version)
}
