package cache

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
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
	changed := c.settle(key, e, d.types())
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

// settle makes the snapshot of the slots, of which those of some types have
// changed, and reports whether it differs for proxies.
func (c *Cache) settle(key scope.Key, e *entry, types map[envoy.Type]bool) bool {
	if e.snapshot != nil && len(types) == 0 {
		return false
	}
	next := &Snapshot{sets: make(map[envoy.Type]*Set, len(e.slots))}
	if e.snapshot != nil {
		maps.Copy(next.sets, e.snapshot.sets)
	}
	changed := e.snapshot == nil
	for t := range types {
		old := next.sets[t]
		delete(next.sets, t)
		if len(e.slots[t]) > 0 {
			set := c.newSet(t, e.sorted(t))
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
	c.text = c.text[:0]
	for _, s := range slots {
		it, aside := s.effective()
		if it != nil {
			set.items = append(set.items, it)
			c.text = append(c.text, it.Version...)
		}
		if aside != nil {
			if set.aside == nil {
				set.aside = map[string]Aside{}
			}
			set.aside[s.name] = *aside
			if it == nil {
				set.withheld = append(set.withheld, s.name)
			}
			c.text = fmt.Appendf(c.text, " aside %q %s ", s.name, aside.Version)
		}
	}
	sum := sha256.Sum256(c.text)
	set.Version = hex.EncodeToString(sum[:versionBytes])
	set.ID = c.idOf(set.Version)
	return set
}
