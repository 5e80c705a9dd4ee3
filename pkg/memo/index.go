package memo

import "slices"

// Member is a value in a group.
type Member[K comparable, M comparable] struct {
	Key   K
	Value M
}

// Index groups what a table's values give by other keys. A group is read as a
// whole; its members are sorted by their keys.
type Index[G, K, M comparable] struct {
	graph   *Graph
	rank    int
	compare func(K, K) int
	groups  map[G]*group[G, K, M]
	moved   []*group[G, K, M]
	watches []func(key G, is bool)
}

type group[G, K, M comparable] struct {
	node
	index   *Index[G, K, M]
	key     G
	members []Member[K, M] // replaced, never changed
	// out and in are what the group has lost and gained since the last step.
	out map[K]bool
	in  map[K]M
}

// Emit puts a member into a group.
type Emit[G, K, M comparable] func(group G, key K, member M)

// NewIndex groups what each gives for the values of a table; each is a pure function.
func NewIndex[G, K, M, TK comparable, TV any](t *Table[TK, TV], compare func(K, K) int, each func(TK, TV, Emit[G, K, M])) *Index[G, K, M] {
	x := &Index[G, K, M]{graph: t.graph, compare: compare, groups: map[G]*group[G, K, M]{}}
	x.rank = t.graph.add(x)
	Feed(x, t, each)
	return x
}

// Feed has a further table's values grouped in an index. Two tables may not give one key to one group.
func Feed[G, K, M, TK comparable, TV any](x *Index[G, K, M], t *Table[TK, TV], each func(TK, TV, Emit[G, K, M])) {
	if t.rank >= x.rank {
		panic("an index of a table that comes after it")
	}
	t.Watch(func(key TK, old TV, was bool, value TV, is bool) {
		if was {
			each(key, old, x.leave)
		}
		if is {
			each(key, value, x.enter)
		}
	})
}

func (x *Index[G, K, M]) group(key G) *group[G, K, M] {
	g := x.groups[key]
	if g == nil {
		g = &group[G, K, M]{index: x, key: key}
		g.owner = g
		x.groups[key] = g
	}
	return g
}

func (x *Index[G, K, M]) moving(key G) *group[G, K, M] {
	g := x.group(key)
	if g.out == nil {
		g.out, g.in = map[K]bool{}, map[K]M{}
		x.moved = append(x.moved, g)
	}
	return g
}

func (x *Index[G, K, M]) leave(key G, k K, _ M) {
	g := x.moving(key)
	g.out[k] = true
	delete(g.in, k)
}

func (x *Index[G, K, M]) enter(key G, k K, m M) { x.moving(key).in[k] = m }

// Get reads a group. Nobody may change it.
func (x *Index[G, K, M]) Get(r *Run, key G) []Member[K, M] {
	g := x.group(key)
	r.note(&g.node, x.rank)
	return g.members
}

// Len is the size of a group. It is for choosing what to read, not for a value.
func (x *Index[G, K, M]) Len(key G) int {
	if g := x.groups[key]; g != nil {
		return len(g.members)
	}
	return 0
}

// FollowGroups makes a table have the keys of the groups that have members.
func FollowGroups[K comparable, V any, MK, M comparable](t *Table[K, V], x *Index[K, MK, M]) {
	x.watches = append(x.watches, t.keep)
}

func (x *Index[G, K, M]) step() {
	for _, g := range x.moved {
		before := g.members
		g.members = g.merged()
		g.out, g.in = nil, nil
		if len(g.members) == 0 {
			x.graph.idle = append(x.graph.idle, g)
		}
		if slices.Equal(before, g.members) {
			g.members = before
			continue
		}
		if (len(before) > 0) != (len(g.members) > 0) {
			for _, f := range x.watches {
				f(g.key, len(g.members) > 0)
			}
		}
		g.changed()
	}
	clear(x.moved)
	x.moved = x.moved[:0]
}

// merged is the members without those that have left and with those that have come.
func (g *group[G, K, M]) merged() []Member[K, M] {
	come := make([]Member[K, M], 0, len(g.in))
	for k, m := range g.in {
		come = append(come, Member[K, M]{k, m})
	}
	compare := g.index.compare
	slices.SortFunc(come, func(a, b Member[K, M]) int { return compare(a.Key, b.Key) })
	out := make([]Member[K, M], 0, len(g.members)+len(come))
	for _, m := range g.members {
		for len(come) > 0 && compare(come[0].Key, m.Key) < 0 {
			out, come = append(out, come[0]), come[1:]
		}
		if !g.out[m.Key] {
			out = append(out, m)
		}
	}
	return append(out, come...)
}

// drop forgets an empty group that nobody reads.
func (g *group[G, K, M]) drop() {
	if len(g.members) == 0 && g.out == nil && len(g.readers) == 0 && g.index.groups[g.key] == g {
		delete(g.index.groups, g.key)
	}
}

// Names is an index that keeps no members: it has the keys that any value of its tables gives.
type Names[K comparable] struct {
	*Table[K, struct{}]
	input Input[K, struct{}]
	count map[K]int
	moved map[K]bool
}

// NewNames has no keys before it is fed.
func NewNames[K comparable](g *Graph) *Names[K] {
	n := &Names[K]{count: map[K]int{}, moved: map[K]bool{}}
	g.add(n)
	n.input = NewInput[K, struct{}](g)
	n.Table = n.input.Table
	return n
}

// FeedNames has a table's values give keys; each is a pure function.
func FeedNames[K, TK comparable, TV any](n *Names[K], t *Table[TK, TV], each func(TK, TV, func(K))) {
	if t.rank >= n.rank {
		panic("names of a table that comes after them")
	}
	t.Watch(func(key TK, old TV, was bool, value TV, is bool) {
		if was {
			each(key, old, func(k K) { n.count[k]--; n.moved[k] = true })
		}
		if is {
			each(key, value, func(k K) { n.count[k]++; n.moved[k] = true })
		}
	})
}

func (n *Names[K]) step() {
	for k := range n.moved {
		if n.count[k] > 0 {
			n.input.Set(k, struct{}{})
			continue
		}
		delete(n.count, k)
		n.input.Delete(k)
	}
	clear(n.moved)
}
