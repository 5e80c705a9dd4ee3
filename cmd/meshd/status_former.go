package main

import (
	"iter"
	"math"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/types"

	"github.com/meshd-io/meshd/pkg/report"
	"github.com/meshd-io/meshd/pkg/status"
	"github.com/meshd-io/meshd/pkg/xds/acks"
	"github.com/meshd-io/meshd/pkg/xds/cache"
	"github.com/meshd-io/meshd/pkg/xds/envoy"
	"github.com/meshd-io/meshd/pkg/xds/scope"
)

// formers (the zero value is ready to use) remember what was made from the former generation of an object: a
// policy that is given another target is programmed when the proxies of the
// former one have let go of it, too.
type formers struct {
	mu      sync.Mutex
	objects map[report.Object]*former
}

type former struct {
	revision revision
	// made is what the newest revision has made; before, what earlier ones had made
	// and proxies may still hold.
	made   made
	before map[scope.Key][]envoy.Ref
}

// revision of an object; another object of the name is another one.
type revision struct {
	uid        types.UID
	generation int64
}

// made is what was made from one object, by the keys of live proxies that have it.
type made struct {
	keys []scope.Key // of all live proxies
	by   []madeBy    // one key after another
}

// madeBy is of one type.
type madeBy struct {
	key       int // place in made.keys
	resources []acks.Resource
}

// all are the resources, with the places of the keys, each once. The lists are
// lent until the next one: those of several types are made in room.
func (m made) all(room *[]acks.Resource) iter.Seq2[int, []acks.Resource] {
	return func(yield func(int, []acks.Resource) bool) {
		for by := m.by; len(by) > 0; {
			n := 1 // types of the first key
			for n < len(by) && by[n].key == by[0].key {
				n++
			}
			resources := by[0].resources
			if n > 1 {
				*room = (*room)[:0]
				for _, one := range by[:n] {
					*room = append(*room, one.resources...)
				}
				resources = *room
			}
			if !yield(by[0].key, resources) {
				return
			}
			by = by[n:]
		}
	}
}

// look is at everything that was made for the proxies of a Ledger, in one pass for all objects.
type look struct {
	ledger  acks.Ledger
	cache   *cache.Cache
	objects map[report.Object][]madeBy
	room    []acks.Resource
}

// lookAt looks for about as many objects as it is told.
func lookAt(ledger acks.Ledger, c *cache.Cache, objects int) *look {
	l := &look{ledger: ledger, cache: c, objects: make(map[report.Object][]madeBy, objects)}
	for key := range ledger.Keys() {
		for o, rs := range c.Snapshot(ledger.Keys()[key]).Objects() {
			l.objects[o] = append(l.objects[o], madeBy{key, rs})
		}
	}
	return l
}

func (l *look) made(o report.Object) made { return made{l.ledger.Keys(), l.objects[o]} }

// progress is acks.ProgressOf with what was made of former generations.
func (f *formers) progress(o report.Object, v revision, l *look) acks.Progress {
	now := l.made(o)
	own := acks.ProgressAmong(l.ledger, now.all(&l.room), v.generation)
	if o.Kind == "MeshConfig" || o.Kind == "CertificateAuthority" { // they concern all, always
		return own
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	h := f.objects[o]
	if h == nil {
		h = &former{revision: v}
		if f.objects == nil {
			f.objects = map[report.Object]*former{}
		}
		f.objects[o] = h
	}
	if h.revision != v {
		h.revision, h.before = v, join(h.before, h.made)
	}
	h.made = now
	if len(h.before) == 0 {
		return own
	}
	if p := acks.ProgressAmong(l.ledger, l.withFormer(now, h.before), v.generation); p.Acknowledged+p.Rejected < p.Total {
		return p
	}
	h.before = nil // everybody has let go
	return own
}

// withFormer adds to what is made of an object what was made of it before.
func (l *look) withFormer(now made, before map[scope.Key][]envoy.Ref) iter.Seq2[int, []acks.Resource] {
	return func(yield func(int, []acks.Resource) bool) {
		current := map[int][]acks.Resource{}
		for i, rs := range now.all(&l.room) {
			current[i] = slices.Clone(rs)
		}
		for i, key := range now.keys {
			if !yield(i, slices.Concat(current[i], left(before[key], current[i], l.cache.Snapshot(key)))) {
				return
			}
		}
	}
}

// left are the resources that an object no longer has a part in, as they are
// now; "" is the version of one that is gone.
func left(before []envoy.Ref, made []acks.Resource, now *cache.Snapshot) []acks.Resource {
	var out []acks.Resource
	for _, ref := range before {
		set := now.Set(ref.Type)
		still := slices.ContainsFunc(made, func(r acks.Resource) bool { return r.Type == ref.Type && r.Name == ref.Name })
		if still || set.Withheld(ref.Name) { // what is withheld is not taken away
			continue
		}
		r := acks.Resource{Type: ref.Type, Name: ref.Name, Generation: math.MaxInt64} // of any generation
		if it := set.Get(ref.Name); it != nil {
			r.Version = it.Version
		}
		out = append(out, r)
	}
	return out
}

// join adds what was made to what had been made before.
func join(before map[scope.Key][]envoy.Ref, m made) map[scope.Key][]envoy.Ref {
	out := map[scope.Key][]envoy.Ref{}
	for key, refs := range before {
		out[key] = slices.Clone(refs)
	}
	for i, rs := range m.all(new([]acks.Resource)) {
		key := m.keys[i]
		for _, r := range rs {
			if ref := (envoy.Ref{Type: r.Type, Name: r.Name}); !slices.Contains(out[key], ref) {
				out[key] = append(out[key], ref)
			}
		}
	}
	return out
}

func (f *formers) len() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.objects)
}

// keep forgets the objects that are not there any more.
func (f *formers) keep(all []status.Desired) {
	there := make(map[report.Object]bool, len(all))
	for _, d := range all {
		there[d.Object] = true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for o := range f.objects {
		if !there[o] {
			delete(f.objects, o)
		}
	}
}
