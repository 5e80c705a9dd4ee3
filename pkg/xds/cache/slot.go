package cache

import (
	"fmt"
	"slices"

	"github.com/meshd-io/meshd/pkg/report"
	"github.com/meshd-io/meshd/pkg/xds/envoy"
	"github.com/meshd-io/meshd/pkg/xds/scope"
)

// keptGood is how many acknowledged versions are kept: one more than the
// newest, because a version that one proxy takes another may yet refuse.
const keptGood = 2

// slot is one name of a key: what is wanted, and what is known of its versions.
type slot struct {
	name string
	// candidate is of the translation that is being published.
	candidate *Item
	wanted    *Item // the newest that has passed the gate; nil is none
	// good are the newest that proxies have acknowledged, newest first.
	good []*Item
	// failed is the newest translation, where it did not pass the gate.
	failed *Aside
	// refused by an Envoy: versions (of wanted or good) and its words.
	refused map[string]string
}

// load fills the candidates of slots, and empties the slots of names that are gone.
func (c *Cache) load(e *entry, d difference) {
	for t, list := range d.put {
		slots := e.slots[t]
		if slots == nil {
			slots = map[string]*slot{}
			e.slots[t] = slots
		}
		for i, r := range list {
			s := slots[r.name]
			if s == nil {
				s = &slot{name: r.name}
				slots[r.name] = s
				delete(e.order, t)
			}
			if i > 0 && list[i-1].name == r.name {
				s.failed = &Aside{Message: "two resources have this name", Origins: r.origins}
				continue
			}
			c.put(s, r)
		}
	}
	for t, names := range d.gone {
		for _, name := range names {
			if s := e.slots[t][name]; s != nil {
				c.empty(s)
				delete(e.slots[t], name)
				delete(e.order, t)
			}
		}
		if len(e.slots[t]) == 0 {
			delete(e.slots, t)
		}
	}
}

// put makes a resource its slot's candidate, if it has passed the gate.
func (c *Cache) put(s *slot, r *Checked) {
	s.failed = nil
	if r.err != nil {
		s.failed = &Aside{Version: r.version(), Message: r.err.Error(), Origins: r.origins}
		return
	}
	it := &Item{Type: r.typ, Encoded: c.shared(r.Encoded), Origins: r.origins, After: r.after, refs: r.refs}
	if s.wanted != nil && s.wanted.Version == it.Version {
		it.accepted.Store(s.wanted.accepted.Load())
	}
	s.candidate = c.retain(it)
}

// consistent puts candidates aside that name what is not there. What is put
// aside may be what another one names, hence until nothing changes.
func (c *Cache) consistent(e *entry, d difference) {
	for again := true; again; {
		again = false
		for s := range d.slots(e) {
			if s.candidate == nil {
				continue
			}
			if missing, ok := e.missing(s.candidate); ok {
				s.failed = &Aside{
					Version: s.candidate.Version, Origins: s.candidate.Origins,
					Message: fmt.Sprintf("names %s %q, which is not there", Short(missing.Type), missing.Name),
				}
				c.release(s.candidate)
				s.candidate = nil
				again = true
			}
		}
	}
}

func (e *entry) missing(it *Item) (envoy.Ref, bool) {
	for _, refs := range [][]envoy.Ref{it.refs, it.After} {
		for _, ref := range refs {
			s := e.slots[ref.Type][ref.Name]
			if s == nil || s.candidate == nil && s.wanted == nil {
				return ref, true
			}
		}
	}
	return envoy.Ref{}, false
}

// commit makes candidates wanted, and forgets refusals of versions that are history.
func (c *Cache) commit(e *entry, d difference) {
	for s := range d.slots(e) {
		if s.candidate != nil {
			c.release(s.wanted)
			s.wanted, s.candidate = s.candidate, nil
		}
		for v := range s.refused {
			if (s.wanted == nil || s.wanted.Version != v) && !slices.ContainsFunc(s.good, func(it *Item) bool { return it.Version == v }) {
				delete(s.refused, v)
			}
		}
	}
}

// effective is what is served of a slot, and what was put aside for it.
func (s *slot) effective() (*Item, *Aside) {
	if s.wanted == nil {
		return nil, s.failed
	}
	words, bad := s.refused[s.wanted.Version]
	if !bad {
		return s.wanted, s.failed
	}
	aside := s.failed
	if aside == nil {
		aside = &Aside{Version: s.wanted.Version, Message: words, Origins: s.wanted.Origins, ByEnvoy: true}
	}
	for _, it := range s.good {
		if _, bad := s.refused[it.Version]; !bad {
			return it, aside
		}
	}
	return nil, aside
}

// Accept notes that a proxy of the key has acknowledged the items: from now on
// they are what is served in place of a later version that is refused.
func (c *Cache) Accept(key scope.Key, items []*Item) {
	for _, it := range items {
		if it.accepted.Load() {
			continue
		}
		c.mu.Lock()
		if s := c.slot(key, it.Type, it.Name); s != nil {
			it.accepted.Store(true)
			s.good = slices.DeleteFunc(s.good, func(g *Item) bool {
				if g.Version == it.Version {
					c.release(g)
				}
				return g.Version == it.Version
			})
			s.good = slices.Insert(s.good, 0, c.retain(it))
			for len(s.good) > keptGood {
				c.release(s.good[keptGood])
				s.good = s.good[:keptGood]
			}
		}
		c.mu.Unlock()
	}
}

// Refusal is a version of a resource that an Envoy has refused, with its words.
type Refusal struct {
	Type          envoy.Type
	Name, Version string
	Message       string
}

// Reject puts a refused version aside for all proxies of the key, new ones
// too, until the name has another version. Other keys are not touched: a proxy
// has no say over what another workload gets.
func (c *Cache) Reject(key scope.Key, r Refusal) {
	c.mu.Lock()
	s := c.slot(key, r.Type, r.Name)
	if s == nil || !s.knows(r.Version) {
		c.mu.Unlock()
		return
	}
	if s.refused == nil {
		s.refused = map[string]string{}
	}
	changed := false
	if _, again := s.refused[r.Version]; !again {
		s.refused[r.Version] = r.Message
		changed = c.settle(key, c.keys[key], map[envoy.Type][]string{r.Type: {r.Name}})
	}
	watch := c.watch
	c.mu.Unlock()
	if changed && watch != nil {
		watch(key)
	}
}

func (s *slot) knows(version string) bool {
	return s.wanted != nil && s.wanted.Version == version ||
		slices.ContainsFunc(s.good, func(it *Item) bool { return it.Version == version })
}

func (c *Cache) slot(key scope.Key, t envoy.Type, name string) *slot {
	if e := c.keys[key]; e != nil {
		return e.slots[t][name]
	}
	return nil
}

// findings are on what is put aside and counts.
func (e *entry) findings(counts func(Aside) bool) []report.Finding {
	var out []report.Finding
	for t, set := range e.snapshot.sets {
		for name, aside := range set.aside {
			if counts(aside) {
				out = append(out, aside.findings(t, name)...)
			}
		}
	}
	return out
}

func (a Aside) findings(t envoy.Type, name string) []report.Finding {
	reason, who := report.Invalid, "does not pass meshd's own check"
	if a.ByEnvoy {
		reason, who = report.Rejected, "is refused by an Envoy"
	}
	origins := a.Origins
	if len(origins) == 0 {
		origins = []report.Origin{{Object: report.Object{Kind: "MeshConfig", Name: "default"}}} // behind what no other object has caused
	}
	out := make([]report.Finding, 0, len(origins))
	for _, o := range origins {
		out = append(out, report.Finding{
			Object: o.Object, Generation: o.Generation, Condition: report.Programmed, Reason: reason, Field: o.Rule,
			Message: fmt.Sprintf("%s %q %s, its last good version stays in force: %s", Short(t), name, who, a.Message),
		})
	}
	return out
}

// Findings are everything that is put aside now, of all keys, by the gate and by Envoys.
func (c *Cache) Findings() []report.Finding {
	c.mu.RLock()
	defer c.mu.RUnlock()
	var out []report.Finding
	for _, e := range c.keys {
		out = append(out, e.findings(func(Aside) bool { return true })...)
	}
	return report.Sort(out)
}
