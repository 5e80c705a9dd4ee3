package model

import (
	"hash/maphash"
	"iter"
	"math/bits"
	"slices"
)

// Map is an immutable map: an Edit of it gives another one that shares all but
// what has changed, at a cost that does not grow with its size, and two of them
// tell how they differ by what they do not share. The zero value is empty.
//
// It is a hash array mapped trie (Bagwell, "Ideal Hash Trees", 2001).
type Map[K, V comparable] struct {
	root *trie[K, V]
	size int
}

// trie has a slot for each bit of bitmap, in its order; below the last level it
// is a list of the keys whose whole hashes are equal.
type trie[K, V comparable] struct {
	owner  *owner // the edit that has made it may still change it
	bitmap uint32
	slots  []slot[K, V]
}

// owner tells edits apart. It is not the edit itself, which holds on to a whole map.
type owner struct{ _ byte }

// slot is a leaf or a trie.
type slot[K, V comparable] struct {
	leaf *leaf[K, V]
	trie *trie[K, V]
}

type leaf[K, V comparable] struct {
	key   K
	value V
}

const (
	levelBits = 5
	hashBits  = 64
)

// seed is one for all maps: those of one history must put keys in the same places.
var seed = maphash.MakeSeed()

func hashOf[K comparable](k K) uint64 { return maphash.Comparable(seed, k) }

func at(hash uint64, level int) uint32 {
	return 1 << ((hash >> (level * levelBits)) & (1<<levelBits - 1))
}

// MapOf is a Map of what m holds.
func MapOf[K, V comparable](m map[K]V) Map[K, V] {
	e := Map[K, V]{}.Edit()
	for k, v := range m {
		e.Set(k, v)
	}
	return e.Map()
}

// Len is the number of keys.
func (m Map[K, V]) Len() int { return m.size }

// Get finds a key's value.
func (m Map[K, V]) Get(key K) (value V, ok bool) {
	hash := hashOf(key)
	t := m.root
	for level := 0; t != nil; level++ {
		if level*levelBits >= hashBits {
			for _, s := range t.slots {
				if s.leaf.key == key {
					return s.leaf.value, true
				}
			}
			return value, false
		}
		i, there := t.index(at(hash, level))
		if !there {
			return value, false
		}
		s := t.slots[i]
		if s.leaf != nil {
			if s.leaf.key == key {
				return s.leaf.value, true
			}
			return value, false
		}
		t = s.trie
	}
	return value, false
}

func (t *trie[K, V]) index(bit uint32) (int, bool) {
	return bits.OnesCount32(t.bitmap & (bit - 1)), t.bitmap&bit != 0
}

// All are the keys with their values, in no order.
func (m Map[K, V]) All() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		m.root.each(func(l *leaf[K, V]) bool { return yield(l.key, l.value) })
	}
}

func (t *trie[K, V]) each(yield func(*leaf[K, V]) bool) bool {
	if t == nil {
		return true
	}
	for _, s := range t.slots {
		if s.leaf != nil && !yield(s.leaf) || s.leaf == nil && !s.trie.each(yield) {
			return false
		}
	}
	return true
}

// Changes are the keys whose values in m are not those in old, in no order.
func (m Map[K, V]) Changes(old Map[K, V]) iter.Seq[K] {
	return func(yield func(K) bool) { changes(old.root, m.root, 0, yield) }
}

func changes[K, V comparable](a, b *trie[K, V], level int, yield func(K) bool) bool {
	if a == b {
		return true
	}
	if a == nil || b == nil || level*levelBits >= hashBits {
		return apart(a, b, yield)
	}
	for all := a.bitmap | b.bitmap; all != 0; all &= all - 1 {
		bit := all & -all
		x, y := a.slot(bit), b.slot(bit)
		if x.leaf == nil && y.leaf == nil {
			if !changes(x.trie, y.trie, level+1, yield) {
				return false
			}
			continue
		}
		if !apart(x.whole(), y.whole(), yield) {
			return false
		}
	}
	return true
}

func (t *trie[K, V]) slot(bit uint32) slot[K, V] {
	if i, there := t.index(bit); there {
		return t.slots[i]
	}
	return slot[K, V]{}
}

// whole is the slot's content as a trie.
func (s slot[K, V]) whole() *trie[K, V] {
	if s.leaf != nil {
		return &trie[K, V]{slots: []slot[K, V]{s}}
	}
	return s.trie
}

// apart compares what differs in shape: a leaf and a trie, or two small lists.
func apart[K, V comparable](a, b *trie[K, V], yield func(K) bool) bool {
	before := map[K]V{}
	a.each(func(l *leaf[K, V]) bool { before[l.key] = l.value; return true })
	going := b.each(func(l *leaf[K, V]) bool {
		old, there := before[l.key]
		delete(before, l.key)
		return there && old == l.value || yield(l.key)
	})
	for k := range before {
		if !going || !yield(k) {
			return false
		}
	}
	return going
}

// Edit is a Map in the making. It is not for several goroutines.
func (m Map[K, V]) Edit() *MapEdit[K, V] { return &MapEdit[K, V]{m: m, owner: &owner{}} }

// MapEdit makes a Map from another one.
type MapEdit[K, V comparable] struct {
	m     Map[K, V]
	owner *owner
}

// Map is what has been made so far; the edit may go on.
func (e *MapEdit[K, V]) Map() Map[K, V] {
	e.owner = &owner{}
	return e.m
}

// Get finds a key's value in what has been made so far.
func (e *MapEdit[K, V]) Get(key K) (value V, ok bool) { return e.m.Get(key) }

// Set gives a key a value.
func (e *MapEdit[K, V]) Set(key K, value V) {
	if old, there := e.m.Get(key); there {
		if old == value {
			return
		}
		e.m.size--
	}
	e.m.size++
	e.m.root = e.set(e.m.root, &leaf[K, V]{key, value}, hashOf(key), 0)
}

// mine is a trie that the edit may change.
func (e *MapEdit[K, V]) mine(t *trie[K, V]) *trie[K, V] {
	if t == nil {
		return &trie[K, V]{owner: e.owner}
	}
	if t.owner == e.owner {
		return t
	}
	return &trie[K, V]{owner: e.owner, bitmap: t.bitmap, slots: slices.Clone(t.slots)}
}

func (e *MapEdit[K, V]) set(t *trie[K, V], l *leaf[K, V], hash uint64, level int) *trie[K, V] {
	t = e.mine(t)
	if level*levelBits >= hashBits {
		i := slices.IndexFunc(t.slots, func(s slot[K, V]) bool { return s.leaf.key == l.key })
		if i < 0 {
			t.slots = append(t.slots, slot[K, V]{leaf: l})
		} else {
			t.slots[i].leaf = l
		}
		return t
	}
	bit := at(hash, level)
	i, there := t.index(bit)
	if !there {
		t.bitmap |= bit
		t.slots = slices.Insert(t.slots, i, slot[K, V]{leaf: l})
		return t
	}
	s := &t.slots[i]
	switch {
	case s.leaf == nil:
		s.trie = e.set(s.trie, l, hash, level+1)
	case s.leaf.key == l.key:
		s.leaf = l
	default:
		below := e.set(nil, s.leaf, hashOf(s.leaf.key), level+1)
		*s = slot[K, V]{trie: e.set(below, l, hash, level+1)}
	}
	return t
}

// Delete takes a key out.
func (e *MapEdit[K, V]) Delete(key K) {
	if _, there := e.m.Get(key); there {
		e.m.root = e.remove(e.m.root, key, hashOf(key), 0).trie
		e.m.size--
	}
}

// remove gives what is left: nothing, a trie or, below the root, a single leaf.
func (e *MapEdit[K, V]) remove(t *trie[K, V], key K, hash uint64, level int) slot[K, V] {
	t = e.mine(t)
	if level*levelBits >= hashBits {
		t.slots = slices.DeleteFunc(t.slots, func(s slot[K, V]) bool { return s.leaf.key == key })
	} else {
		bit := at(hash, level)
		i, _ := t.index(bit)
		var left slot[K, V]
		if t.slots[i].leaf == nil {
			left = e.remove(t.slots[i].trie, key, hash, level+1)
		}
		if left == (slot[K, V]{}) {
			t.bitmap &^= bit
			t.slots = slices.Delete(t.slots, i, i+1)
		} else {
			t.slots[i] = left
		}
	}
	switch {
	case len(t.slots) == 0:
		return slot[K, V]{}
	case len(t.slots) == 1 && t.slots[0].leaf != nil && level > 0:
		return t.slots[0]
	}
	return slot[K, V]{trie: t}
}
