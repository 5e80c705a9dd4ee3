package server

import (
	"slices"
	"strings"
	"sync"

	"github.com/meshd-io/meshd/pkg/xds/cache"
	"github.com/meshd-io/meshd/pkg/xds/envoy"
)

// delta is what separates a client from a set.
type delta struct {
	add     []*cache.Item
	body    *body // add, encoded; only if it is shared
	removed []string
	// waiting: something is held back until the ADS stream has acknowledged more.
	waiting bool
}

// delta compares what the client has with what it should have. Streams that
// stand at the same point share the answer, encoded.
func (s *session) delta(l *lane, cur *cache.Set) delta {
	plain := len(l.diff) == 0 && len(l.force) == 0 && len(l.refused) == 0
	if plain && l.heldSub == l.sub && id(l.held) == id(cur) {
		return delta{}
	}
	if !plain || s.onDemand {
		return s.compare(l, cur)
	}
	k := memoKey{typ: l.typ, held: id(l.held), cur: id(cur), sub: l.sub.id}
	if l.heldSub != nil {
		k.heldSub = l.heldSub.id
	}
	return s.shared.memo.get(k, func() delta {
		d := s.between(l, cur)
		if len(d.add) > 0 {
			d.body = newBody(url(l.typ), d.add, nil)
		}
		return d
	})
}

// between compares for a client without exceptions. One that wants what it has wanted before has
// to be told what differs between two sets, which have in common all that has not changed.
func (s *session) between(l *lane, cur *cache.Set) delta {
	if l.heldSub != l.sub {
		return s.compare(l, cur)
	}
	var d delta
	for before, after := l.held.Items(), cur.Items(); ; {
		before, after = passOver(before, after)
		var order int
		switch {
		case len(before)+len(after) == 0:
			return d
		case len(before) == 0:
			order = 1
		case len(after) == 0:
			order = -1
		default:
			order = strings.Compare(before[0].Name, after[0].Name)
		}
		switch {
		case order < 0 && l.sub.has(before[0].Name) && !cur.Withheld(before[0].Name):
			d.removed = append(d.removed, before[0].Name)
		case order > 0 && l.sub.has(after[0].Name),
			order == 0 && before[0].Version != after[0].Version && l.sub.has(after[0].Name):
			d.add = append(d.add, after[0])
		}
		if order <= 0 {
			before = before[1:]
		}
		if order >= 0 {
			after = after[1:]
		}
	}
}

// passOver leaves what follows the last item that both begin with.
func passOver(a, b []*cache.Item) (restA, restB []*cache.Item) {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return a[i:], b[i:]
		}
	}
	return a[n:], b[n:]
}

func (s *session) compare(l *lane, cur *cache.Set) delta {
	var d delta
	for _, it := range wanted(cur, l.sub) {
		if l.refused[it.Name].Version == it.Version || !l.force[it.Name] && l.version(it.Name) == it.Version {
			continue
		}
		if !s.mayFollow(it) {
			d.waiting, s.waiting = true, true
			continue
		}
		d.add = append(d.add, it)
	}
	d.removed = l.gone(cur)
	return d
}

// wanted is what of a set is subscribed to.
func wanted(cur *cache.Set, sub *names) []*cache.Item {
	if sub.wild {
		return cur.Items()
	}
	out := make([]*cache.Item, 0, len(sub.list))
	for _, name := range sub.list {
		if it := cur.Get(name); it != nil {
			out = append(out, it)
		}
	}
	return out
}

// mayFollow reports whether everything that an on-demand cluster comes after is
// acknowledged, at the versions of this snapshot.
func (s *session) mayFollow(it *cache.Item) bool {
	if !s.onDemand {
		return true
	}
	for _, ref := range it.After {
		behind := s.snap.Set(ref.Type).Get(ref.Name)
		if behind == nil || !s.after(ref, behind.Version) {
			return false
		}
	}
	return true
}

// gone are the names that the client has, or has just asked for, and that are not there.
func (l *lane) gone(cur *cache.Set) []string {
	var out []string
	check := func(name string) {
		if l.sub.has(name) && cur.Get(name) == nil && !cur.Withheld(name) {
			out = append(out, name)
		}
	}
	if id(l.held) != id(cur) {
		for _, it := range wanted(l.held, orNone(l.heldSub)) {
			if _, differs := l.diff[it.Name]; !differs {
				check(it.Name)
			}
		}
	}
	if l.typ != envoy.OnDemandType { // there a name waits until the snapshot has it
		for name, v := range l.diff {
			if v != "" {
				check(name)
			}
		}
		for _, name := range l.sub.list {
			if !l.heldSub.lists(name) || l.force[name] {
				if v, ok := l.diff[name]; !ok || v != "" || l.force[name] {
					check(name)
				}
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func orNone(n *names) *names {
	if n == nil {
		return &names{}
	}
	return n
}

// memoKey says between which two points a delta is. It pins nothing.
type memoKey struct {
	typ                     envoy.Type
	held, cur, heldSub, sub uint64
}

// memo remembers deltas, bounded by forgetting all of them.
type memo struct {
	mu    sync.Mutex
	seen  map[memoKey]*remembered
	bytes int
}

// remembered is made by the first who wants it: a thousand clients that come
// together would make a thousand, and those who do not read would keep theirs.
type remembered struct {
	once sync.Once
	delta
}

// The bounds are more than the points at which the streams of a replica stand at one time.
const (
	memoSize  = 1024
	memoBytes = 64 << 20
)

func (m *memo) get(k memoKey, first func() delta) delta {
	r := m.at(k)
	r.once.Do(func() {
		r.delta = first()
		if r.body != nil {
			m.mu.Lock()
			m.bytes += len(r.body.bytes)
			m.mu.Unlock()
		}
	})
	return r.delta
}

func (m *memo) at(k memoKey) *remembered {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r := m.seen[k]; r != nil {
		return r
	}
	if m.seen == nil || len(m.seen) >= memoSize || m.bytes > memoBytes {
		m.seen, m.bytes = map[memoKey]*remembered{}, 0
	}
	r := &remembered{}
	m.seen[k] = r
	return r
}
