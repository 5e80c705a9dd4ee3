package main

import (
	"hash/maphash"
	"iter"
	"maps"
)

// table is an immutable map. A changed one shares all but the parts that have
// changed: proxies differ in little from what they held before.
type table[V any] struct {
	parts *[tableParts]map[string]V
	size  int
}

const tableParts = 64

var tableSeed = maphash.MakeSeed()

func (t table[V]) get(name string) (V, bool) {
	if t.parts == nil {
		var none V
		return none, false
	}
	v, ok := t.parts[partOf(name)][name]
	return v, ok
}

func partOf(name string) uint64 { return maphash.String(tableSeed, name) % tableParts }

func (t table[V]) all() iter.Seq2[string, V] {
	return func(yield func(string, V) bool) {
		if t.parts == nil {
			return
		}
		for _, part := range t.parts {
			for name, v := range part {
				if !yield(name, v) {
					return
				}
			}
		}
	}
}

// change gives a table to set and to delete in, which is t's from then on no more.
func (t table[V]) change() *tableEdit[V] {
	e := &tableEdit[V]{table: table[V]{parts: &[tableParts]map[string]V{}, size: t.size}}
	if t.parts != nil {
		*e.parts = *t.parts
	}
	return e
}

// tableEdit is a table while it is made; after the last change it is one.
type tableEdit[V any] struct {
	table[V]
	own uint64 // parts that are not shared
}

func (e *tableEdit[V]) part(name string) map[string]V {
	i := partOf(name)
	if e.own&(1<<i) == 0 {
		e.own |= 1 << i
		e.parts[i] = maps.Clone(e.parts[i])
		if e.parts[i] == nil {
			e.parts[i] = map[string]V{}
		}
	}
	return e.parts[i]
}

func (e *tableEdit[V]) set(name string, v V) {
	part := e.part(name)
	before := len(part)
	part[name] = v
	e.size += len(part) - before
}

func (e *tableEdit[V]) remove(name string) {
	part := e.part(name)
	before := len(part)
	delete(part, name)
	e.size += len(part) - before
}
