package cache

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/meshd-io/meshd/pkg/report"
	"github.com/meshd-io/meshd/pkg/xds/acks"
	"github.com/meshd-io/meshd/pkg/xds/envoy"
	"github.com/meshd-io/meshd/pkg/xds/scope"
)

// Cache has the newest snapshot of every key. It may be used by many goroutines.
type Cache struct {
	mu     sync.RWMutex
	keys   map[scope.Key]*entry
	intern map[string]*interned // by version, which hashes type, name and bytes
	ids    map[string]*setID    // by set version
	nextID uint64
	watch  func(scope.Key)
}

// entry is a key's state. Its slots are the memory behind the snapshot.
type entry struct {
	slots    map[envoy.Type]map[string]*slot
	snapshot *Snapshot
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
	c.mu.RLock()
	defer c.mu.RUnlock()
	if e := c.keys[key]; e != nil {
		return e.snapshot
	}
	return nil
}

// Concerned is what of a key's snapshot was made from an object (acks.ProgressOf).
func (c *Cache) Concerned(key scope.Key, obj report.Object) []acks.Resource {
	return c.Snapshot(key).Of(obj)
}

// Publish makes a translation the newest of a key. Nothing happens when it is
// equal to the one before. The findings name the objects behind what did not
// pass the gate; it is put aside, and its last good version stays.
func (c *Cache) Publish(key scope.Key, rs envoy.Resources) []report.Finding {
	encoded := encodeAll(c.Snapshot(key), rs) // most of the work; no proxy waits for it
	c.mu.Lock()
	e := c.keys[key]
	if e == nil {
		e = &entry{slots: map[envoy.Type]map[string]*slot{}}
		c.keys[key] = e
	}
	fresh := e.snapshot == nil
	c.load(e, rs, encoded)
	c.consistent(e)
	c.commit(e)
	changed := c.settle(e)
	findings, watch := e.gateFindings(), c.watch
	c.mu.Unlock()
	if (changed || fresh) && watch != nil {
		watch(key)
	}
	return findings
}

// Remove forgets a key whose last proxy is gone.
func (c *Cache) Remove(key scope.Key) {
	c.mu.Lock()
	e := c.keys[key]
	delete(c.keys, key)
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

// settle makes the snapshot of the slots, and reports whether it differs for proxies.
func (c *Cache) settle(e *entry) bool {
	next := &Snapshot{sets: make(map[envoy.Type]*Set, len(e.slots))}
	for t, slots := range e.slots {
		next.sets[t] = newSet(t, slots)
	}
	changed := e.snapshot == nil || len(next.sets) != len(e.snapshot.sets)
	for t, set := range next.sets {
		old := e.snapshot.Set(t)
		if old == nil || old.Version != set.Version {
			changed = true
		}
		set.ID = c.idOf(set.Version)
	}
	if e.snapshot != nil {
		for _, set := range e.snapshot.sets {
			c.releaseID(set.Version)
		}
	}
	e.snapshot = next
	return changed
}

func newSet(t envoy.Type, slots map[string]*slot) *Set {
	set := &Set{typ: t}
	names := make([]string, 0, len(slots))
	for name := range slots {
		names = append(names, name)
	}
	slices.Sort(names)
	h := sha256.New()
	for _, name := range names {
		it, aside := slots[name].effective()
		if it != nil {
			set.items = append(set.items, it)
			_, _ = io.WriteString(h, it.Version)
		}
		if aside != nil {
			if set.aside == nil {
				set.aside = map[string]Aside{}
			}
			set.aside[name] = *aside
			if it == nil {
				set.withheld = append(set.withheld, name)
			}
			fmt.Fprintf(h, " aside %q %s ", name, aside.Version)
		}
	}
	set.Version = hex.EncodeToString(h.Sum(nil)[:versionBytes])
	return set
}
