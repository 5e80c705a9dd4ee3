package main

import (
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
	made, before madeOf
}

// revision of an object; another object of the name is another one.
type revision struct {
	uid        types.UID
	generation int64
}

// madeOf are resources by the keys that have them.
type madeOf map[scope.Key][]envoy.Ref

// progress is acks.ProgressOf with what was made of former generations.
func (f *formers) progress(o report.Object, v revision, ledger acks.Ledger, c *cache.Cache) acks.Progress {
	current := func(key scope.Key) []acks.Resource { return c.Concerned(key, o) }
	if o.Kind == "MeshConfig" || o.Kind == "CertificateAuthority" { // they concern all, always
		return acks.ProgressOf(ledger, current, v.generation)
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
	h.made = madeOf{}
	p := acks.ProgressOf(ledger, func(key scope.Key) []acks.Resource {
		rs := current(key)
		for _, r := range rs {
			h.made[key] = append(h.made[key], envoy.Ref{Type: r.Type, Name: r.Name})
		}
		return append(rs, left(h.before[key], h.made[key], c.Snapshot(key))...)
	}, v.generation)
	if len(h.before) == 0 || p.Acknowledged+p.Rejected < p.Total {
		return p
	}
	h.before = nil // everybody has let go
	return acks.ProgressOf(ledger, current, v.generation)
}

// left are the resources that an object no longer has a part in, as they are
// now; "" is the version of one that is gone.
func left(before, made []envoy.Ref, now *cache.Snapshot) []acks.Resource {
	var out []acks.Resource
	for _, ref := range before {
		set := now.Set(ref.Type)
		if slices.Contains(made, ref) || set.Withheld(ref.Name) { // what is withheld is not taken away
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

func join(a, b madeOf) madeOf {
	if len(a) == 0 {
		return b
	}
	out := madeOf{}
	for _, m := range []madeOf{a, b} {
		for key, refs := range m {
			for _, ref := range refs {
				if !slices.Contains(out[key], ref) {
					out[key] = append(out[key], ref)
				}
			}
		}
	}
	return out
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
