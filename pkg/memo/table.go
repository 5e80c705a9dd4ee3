package memo

import (
	"iter"
	"reflect"
)

// cell is a key's place in a table: its value, if it has one.
type cell[K comparable, V any] struct {
	node
	table *Table[K, V]
	key   K
	value V
	reads []*node
	// kept counts the tables by which the key is one of this table; other cells live as long as someone reads them.
	kept                   int32
	there, dirty, computed bool
}

// Table is values by key.
type Table[K comparable, V any] struct {
	graph   *Graph
	rank    int
	cells   map[K]*cell[K, V]
	dirty   []*cell[K, V]
	compute func(*Run, K) (V, bool) // nil for inputs
	same    func(a, b V) bool
	watches []func(key K, old V, was bool, value V, is bool)
}

// Input is a table that is set from outside.
type Input[K comparable, V any] struct{ *Table[K, V] }

// NewInput is empty.
func NewInput[K comparable, V any](g *Graph) Input[K, V] { return Input[K, V]{newTable[K, V](g)} }

// NewTable has the values that compute gives; false is none. Keys come from
// what the table Follows, and from those who read it.
func NewTable[K comparable, V any](g *Graph, compute func(*Run, K) (V, bool)) *Table[K, V] {
	t := newTable[K, V](g)
	t.compute = compute
	return t
}

func newTable[K comparable, V any](g *Graph) *Table[K, V] {
	t := &Table[K, V]{graph: g, cells: map[K]*cell[K, V]{}, same: deeply[V]}
	t.rank = g.add(t)
	return t
}

// Get reads a value.
func (t *Table[K, V]) Get(r *Run, key K) (V, bool) {
	c := t.cell(key)
	if c.dirty && t.compute != nil {
		t.update(c) // asked for the first time: what it reads is up to date
	}
	r.note(&c.node, t.rank)
	return c.value, c.there
}

// cell makes an empty one where there is none: whoever reads it is told when it gets a value.
func (t *Table[K, V]) cell(key K) *cell[K, V] {
	c := t.cells[key]
	if c == nil {
		c = &cell[K, V]{table: t, key: key, dirty: t.compute != nil && len(t.watches) == 0}
		c.owner = c
		t.cells[key] = c
	}
	return c
}

// Set gives a key of an input a value. An equal value changes nothing.
func (t Input[K, V]) Set(key K, value V) {
	c := t.cell(key)
	c.kept = 1
	if c.there && t.same(c.value, value) {
		return
	}
	t.replace(c, value, true)
}

// Delete takes a key's value from an input.
func (t Input[K, V]) Delete(key K) {
	if c := t.cells[key]; c != nil && c.there {
		var none V
		c.kept = 0
		t.replace(c, none, false)
		t.graph.idle = append(t.graph.idle, c)
	}
}

// Watch has f called with each change of a value.
func (t *Table[K, V]) Watch(f func(key K, old V, was bool, value V, is bool)) {
	t.watches = append(t.watches, f)
}

// Follow makes a table have the keys that another one has.
func Follow[K comparable, V, W any](t *Table[K, V], other *Table[K, W]) {
	other.Watch(func(key K, _ W, was bool, _ W, is bool) {
		if was != is {
			t.keep(key, is)
		}
	})
}

// keep makes a key the table's own, or leaves it to its readers.
func (t *Table[K, V]) keep(key K, kept bool) {
	c := t.cell(key)
	if kept {
		c.kept++
	} else if c.kept--; c.kept == 0 {
		t.graph.idle = append(t.graph.idle, c)
	}
	if !c.computed {
		c.dirty = false
		c.invalidate()
	}
}

func (t *Table[K, V]) step() {
	for _, c := range t.dirty {
		if c.dirty {
			t.update(c)
		}
	}
	clear(t.dirty)
	t.dirty = t.dirty[:0]
}

func (t *Table[K, V]) update(c *cell[K, V]) {
	g := t.graph
	g.run++
	r := &Run{graph: g, rank: t.rank, id: g.run, reads: g.scratch[:0]}
	g.scratch = nil // a value that is asked for the first time has a run inside of this one
	value, there := t.compute(r, c.key)
	c.dirty, c.computed = false, true
	c.reads = r.relink(&c.node, c.reads)
	g.scratch = r.reads
	g.tell(&c.node, r.findings)
	if there == c.there && (!there || t.same(c.value, value)) {
		return
	}
	t.replace(c, value, there)
}

func (t *Table[K, V]) replace(c *cell[K, V], value V, there bool) {
	old, was := c.value, c.there
	c.value, c.there = value, there
	for _, f := range t.watches {
		f(c.key, old, was, value, there)
	}
	c.changed()
}

func (c *cell[K, V]) invalidate() {
	if !c.dirty {
		c.dirty = true
		c.table.dirty = append(c.table.dirty, c)
	}
}

// drop forgets a cell that nobody has any use for.
func (c *cell[K, V]) drop() {
	if c.kept > 0 || len(c.readers) > 0 || c.table.cells[c.key] != c {
		return
	}
	delete(c.table.cells, c.key)
	c.table.graph.tell(&c.node, nil)
	for _, n := range c.reads {
		c.table.graph.unlink(n, &c.node)
	}
	c.reads = nil
}

// deeply compares what pointers lead to as well.
func deeply[V any](a, b V) bool { return reflect.DeepEqual(a, b) }

// Compare has a table's values compared by same, instead of all that they lead to.
func (t *Table[K, V]) Compare(same func(a, b V) bool) { t.same = same }

// Invalidate has a value computed again if anyone has read it: it is looked up
// where the graph does not see it change.
func (t *Table[K, V]) Invalidate(key K) {
	if c := t.cells[key]; c != nil {
		c.invalidate()
	}
}

// All are the values of a table that has been brought up to date, in no order.
func (t *Table[K, V]) All() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for k, c := range t.cells {
			if c.there && !yield(k, c.value) {
				return
			}
		}
	}
}
