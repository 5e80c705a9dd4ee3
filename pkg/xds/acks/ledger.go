package acks

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/meshd-io/meshd/pkg/xds/envoy"
	"github.com/meshd-io/meshd/pkg/xds/scope"
)

// Ledger is what is known of all live proxies. It is immutable: Fold gives a
// new one. The zero value is empty.
type Ledger struct {
	proxies []*entry // sorted by name
	sets    map[scope.Key][]Set
}

// entry is one proxy; never changed once it is in a Ledger.
type entry struct {
	proxy        Proxy
	connected    time.Time // zero: only its on-demand stream is there
	destinations int
	refused      string      // why it has been refused destinations
	types        []typeEntry // sorted by type
}

type typeEntry struct {
	typ          envoy.Type
	acknowledged string
	resources    int
	held         Held
	rejected     []Rejection // sorted by name
}

// Fold is the Ledger after an event.
func Fold(l Ledger, e Event) Ledger {
	switch e.Kind {
	case Published:
		sets := maps.Clone(l.sets)
		if sets == nil {
			sets = map[scope.Key][]Set{}
		}
		if len(e.Sets) == 0 {
			delete(sets, e.Key)
		} else {
			sets[e.Key] = e.Sets
		}
		return Ledger{proxies: l.proxies, sets: sets}
	case Connected, Disconnected, Rekeyed, Acknowledged, Rejected, Demanded:
		return l.with(e)
	case Refused:
		if e.Destinations > 0 {
			return l.with(e)
		}
	}
	return l
}

func (l Ledger) find(name string) (int, bool) {
	return slices.BinarySearchFunc(l.proxies, name, func(e *entry, n string) int { return cmp.Compare(e.proxy.Name, n) })
}

func (l Ledger) with(e Event) Ledger {
	i, ok := l.find(e.Proxy.Name)
	next := &entry{proxy: e.Proxy}
	proxies := slices.Clone(l.proxies)
	if ok {
		old := *proxies[i]
		next = &old
		next.proxy = e.Proxy
		proxies[i] = next
	} else {
		proxies = slices.Insert(proxies, i, next)
	}
	next.fold(e)
	if next.connected.IsZero() && len(next.types) == 0 && next.destinations == 0 && next.refused == "" {
		proxies = slices.Delete(proxies, i, i+1)
	}
	return Ledger{proxies: proxies, sets: l.sets}
}

func (n *entry) fold(e Event) {
	switch e.Kind {
	case Connected:
		// A new ADS stream starts from nothing; the on-demand stream may have come first.
		n.connected = e.At
		n.keep(true)
	case Disconnected:
		if e.Type == envoy.OnDemandType {
			n.keep(false)
			n.destinations, n.refused = 0, ""
			return
		}
		n.connected = time.Time{}
		n.keep(true)
	case Demanded:
		n.destinations = e.Destinations
	case Refused:
		n.refused = e.Message
	case Acknowledged:
		t := n.at(e.Type)
		t.acknowledged, t.resources, t.held, t.rejected = e.Version, e.Resources, e.Held, e.Rejections
	case Rejected:
		t := n.at(e.Resource.Type)
		i, ok := slices.BinarySearchFunc(t.rejected, e.Resource.Name, func(r Rejection, n string) int { return cmp.Compare(r.Name, n) })
		t.rejected = slices.Clone(t.rejected)
		if ok {
			t.rejected[i] = e.Resource
		} else {
			t.rejected = slices.Insert(t.rejected, i, e.Resource)
		}
	}
}

// keep leaves only what one of the proxy's streams has told.
func (n *entry) keep(onDemand bool) {
	n.types = slices.DeleteFunc(slices.Clone(n.types), func(t typeEntry) bool { return (t.typ == envoy.OnDemandType) != onDemand })
}

func (n *entry) at(typ envoy.Type) *typeEntry {
	n.types = slices.Clone(n.types)
	i, ok := slices.BinarySearchFunc(n.types, typ, func(t typeEntry, u envoy.Type) int { return cmp.Compare(t.typ, u) })
	if !ok {
		n.types = slices.Insert(n.types, i, typeEntry{typ: typ})
	}
	return &n.types[i]
}
