package server

import (
	"encoding/binary"
	"slices"
	"strings"
	"sync"
)

// names is what a client subscribes to. It is interned and immutable: equal
// sets of equal streams are the same pointer.
type names struct {
	id   uint64
	wild bool
	list []string // sorted, distinct
}

func (n *names) lists(name string) bool {
	if n == nil {
		return false
	}
	_, ok := slices.BinarySearch(n.list, name)
	return ok
}

func (n *names) has(name string) bool { return n != nil && (n.wild || n.lists(name)) }

func (n *names) len() int {
	if n == nil {
		return 0
	}
	return len(n.list)
}

// interner gives equal names one pointer. It forgets those that no stream has asked
// for since two sweeps, so that it stays as small as what is in use.
type interner struct {
	mu     sync.Mutex
	next   uint64
	fresh  map[string]*names
	former map[string]*names
}

// sweepAt is how many new sets make a sweep.
const sweepAt = 1024

func (t *interner) intern(wild bool, list []string) *names {
	key := make([]byte, 0, 16*len(list)+1)
	if wild {
		key = append(key, 1)
	} else {
		key = append(key, 0)
	}
	for _, s := range list {
		key = binary.AppendUvarint(key, uint64(len(s)))
		key = append(key, s...)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := t.fresh[string(key)]; n != nil {
		return n
	}
	n := t.former[string(key)]
	if n == nil {
		t.next++
		n = &names{id: t.next, wild: wild, list: make([]string, len(list))}
		for i, s := range list {
			n.list[i] = strings.Clone(s) // of a message, which goes
		}
	}
	if t.fresh == nil || len(t.fresh) >= sweepAt {
		t.former, t.fresh = t.fresh, map[string]*names{}
	}
	t.fresh[string(key)] = n
	return n
}

// union is sorted.
func union(a, b []string) []string {
	out := slices.Concat(a, b)
	slices.Sort(out)
	return slices.Compact(out)
}
