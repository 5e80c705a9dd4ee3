package cache

import (
	"cmp"
	"iter"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/meshd-io/meshd/pkg/report"
	"github.com/meshd-io/meshd/pkg/xds/acks"
	"github.com/meshd-io/meshd/pkg/xds/envoy"
)

// Encoded is the bytes of a resource; shared by all keys that have an equal one.
type Encoded struct {
	Name string
	// Version is a hash of type, name and bytes.
	Version string
	// Segment is an envoy.service.discovery.v3.Resource, encoded. Read only.
	Segment []byte
	// Assignment is the name of a cluster's EDS assignment; "" for clusters without EDS and other types.
	Assignment string
}

// Item is a resource of a snapshot. It is immutable.
type Item struct {
	*Encoded
	Type    envoy.Type
	Origins []report.Origin
	After   []envoy.Ref

	refs references
	// accepted: some proxy has acknowledged it.
	accepted atomic.Bool
}

// Aside is a version that was put aside: it is not served.
type Aside struct {
	Version string
	// Message are the words of the Envoy or of the gate.
	Message string
	Origins []report.Origin
	// ByEnvoy: an Envoy has refused it; otherwise it was the gate.
	ByEnvoy bool
}

// Set is everything of one type that a key's proxies may see. It is immutable.
type Set struct {
	// ID is equal exactly when Version is, within this process: quick to compare.
	ID uint64
	// Version is a hash of all names and versions, those put aside included.
	Version string
	typ     envoy.Type
	items   []*Item // sorted by name
	// aside by name: names that are in items hold their last good version there;
	// names that are not have none, and proxies keep what they hold.
	aside    map[string]Aside
	withheld []string             // sorted
	sums     [][versionBytes]byte // of which Version is the hash

	once    sync.Once
	objects map[report.Object][]acks.Resource
}

// HeldID is the first ID that no Cache gives to a Set.
const HeldID = 1 << 63

// HeldSet is what a client says that it holds of a type: names, sorted, with
// their versions, and no bytes. id is HeldID or above.
func HeldSet(id uint64, t envoy.Type, versions iter.Seq2[string, string]) *Set {
	s := &Set{ID: id, typ: t}
	for name, version := range versions {
		s.items = append(s.items, &Item{Encoded: &Encoded{Name: name, Version: version}, Type: t})
	}
	return s
}

// Items are sorted by name. Read only.
func (s *Set) Items() []*Item {
	if s == nil {
		return nil
	}
	return s.items
}

// Names are sorted.
func (s *Set) Names() []string {
	out := make([]string, len(s.Items()))
	for i, it := range s.Items() {
		out[i] = it.Name
	}
	return out
}

// Get finds a resource; nil is none.
func (s *Set) Get(name string) *Item {
	if s == nil {
		return nil
	}
	i, ok := slices.BinarySearchFunc(s.items, name, func(it *Item, n string) int { return cmp.Compare(it.Name, n) })
	if !ok {
		return nil
	}
	return s.items[i]
}

// Withheld reports whether the name exists, but has no version that is good:
// it is neither sent nor removed.
func (s *Set) Withheld(name string) bool {
	if s == nil {
		return false
	}
	_, ok := s.aside[name]
	return ok && s.Get(name) == nil
}

// WithheldNames are the names for which Withheld is true, sorted. Read only.
func (s *Set) WithheldNames() []string {
	if s == nil {
		return nil
	}
	return s.withheld
}

// Wants reports whether version is the one that the newest translation has for the name,
// even if it is put aside.
func (s *Set) Wants(name, version string) bool {
	if s == nil {
		return false
	}
	if a, ok := s.aside[name]; ok && a.Version == version {
		return true
	}
	it := s.Get(name)
	return it != nil && it.Version == version
}

// Snapshot is everything that a key's proxies may see. It is immutable.
type Snapshot struct {
	sets map[envoy.Type]*Set
}

// Set of a type; nil where there is nothing.
func (s *Snapshot) Set(t envoy.Type) *Set {
	if s == nil {
		return nil
	}
	return s.sets[t]
}

// Sets are the versions of all types, sorted, for the Ledger.
func (s *Snapshot) Sets() []acks.Set {
	if s == nil {
		return nil
	}
	out := make([]acks.Set, 0, len(s.sets))
	for t, set := range s.sets {
		out = append(out, acks.Set{Type: t, Version: set.Version, Resources: len(set.items)})
	}
	slices.SortFunc(out, func(a, b acks.Set) int { return cmp.Compare(a.Type, b.Type) })
	return out
}

// Of is what of the snapshot was made from an object.
func (s *Snapshot) Of(obj report.Object) []acks.Resource {
	if s == nil {
		return nil
	}
	var out []acks.Resource
	for _, set := range s.sets {
		set.once.Do(set.index)
		out = append(out, set.objects[obj]...)
	}
	return out
}

// Objects are those that Of has something for, with what it has, one type after
// another: an object comes once for each type that it is an origin of.
func (s *Snapshot) Objects() iter.Seq2[report.Object, []acks.Resource] {
	return func(yield func(report.Object, []acks.Resource) bool) {
		for _, t := range acks.Types() {
			set := s.Set(t)
			if set == nil {
				continue
			}
			set.once.Do(set.index)
			for obj, rs := range set.objects {
				if !yield(obj, rs) {
					return
				}
			}
		}
	}
}

// index is made when the first status asks: most sets are replaced before.
func (s *Set) index() {
	s.objects = map[report.Object][]acks.Resource{}
	add := func(origins []report.Origin, r acks.Resource) {
		for _, o := range origins {
			r.Generation = o.Generation
			had := s.objects[o.Object]
			if last := len(had) - 1; last >= 0 && had[last].Name == r.Name { // once for all origins
				had[last].Generation = max(had[last].Generation, o.Generation)
				continue
			}
			s.objects[o.Object] = append(had, r)
		}
	}
	for _, it := range s.items {
		r := acks.Resource{Type: it.Type, Name: it.Name, Version: it.Version}
		a, ok := s.aside[it.Name]
		if ok {
			r.Refused = a.Message
			add(a.Origins, r)
			continue
		}
		add(it.Origins, r)
	}
	for name, a := range s.aside {
		if s.Get(name) == nil {
			add(a.Origins, acks.Resource{Type: s.typ, Name: name, Version: a.Version, Refused: a.Message})
		}
	}
}
