package acks

import (
	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/xds/scope"
)

// Ledger is what is known of all live proxies. It is immutable: Fold gives a
// new one, which shares with it what has not changed. The zero value is empty.
type Ledger struct {
	proxies   model.Map[string, *entry] // by name
	sets      model.Map[scope.Key, *sets]
	connected int
	points    *points // made when the first reader asks; nil while there is nothing
}

// Fold is the Ledger after an event.
func Fold(l Ledger, e Event) Ledger {
	edit := l.Edit()
	edit.Fold(e)
	return edit.Ledger()
}

// sets are what is published for a key, in the order of types; the zero Set is none.
type sets [len(types)]Set

func byType(list []Set) *sets {
	var out sets
	for _, s := range list {
		out[indexOf(s.Type)] = s
	}
	return &out
}

// Len is the number of connected proxies.
func (l Ledger) Len() int { return l.connected }

// Edit is a Ledger in the making: many events cost less than as many Ledgers.
// It is not for several goroutines.
func (l Ledger) Edit() *Edit {
	return &Edit{proxies: l.proxies.Edit(), sets: l.sets.Edit(), connected: l.connected, owner: &owner{}}
}

// Edit makes a Ledger from another one.
type Edit struct {
	proxies   *model.MapEdit[string, *entry]
	sets      *model.MapEdit[scope.Key, *sets]
	connected int
	owner     *owner
	recent    recent
}

// owner tells which entries an Edit may change: those that are in no Ledger yet.
type owner struct{ _ byte }

// Ledger is what has been folded so far; the edit may go on.
func (d *Edit) Ledger() Ledger {
	d.owner = &owner{}
	return Ledger{proxies: d.proxies.Map(), sets: d.sets.Map(), connected: d.connected, points: &points{}}
}

// Fold takes an event in, and reports whether it is one that changes a Ledger.
func (d *Edit) Fold(e Event) bool { return d.fold(&e) }

// fold does not keep the event, which is large.
func (d *Edit) fold(e *Event) bool {
	switch e.Kind {
	case Published:
		if len(e.Sets) == 0 {
			d.sets.Delete(e.Key)
		} else {
			d.sets.Set(e.Key, byType(e.Sets))
		}
		return true
	case Connected, Disconnected, Rekeyed, Acknowledged, Rejected, Demanded:
		d.proxy(e)
		return true
	case Refused:
		if e.Destinations > 0 {
			d.proxy(e)
			return true
		}
	}
	return false
}

func (d *Edit) proxy(e *Event) {
	n, known := d.proxies.Get(e.Proxy.Name)
	connected := known && n.live()
	if !known || n.owner != d.owner {
		n = n.clone(e.Proxy.Name, d.owner)
		d.proxies.Set(n.name, n)
	}
	n.fold(e, &d.recent)
	switch {
	case n.live() && !connected:
		d.connected++
	case connected && !n.live():
		d.connected--
	}
	if n.empty() {
		d.proxies.Delete(n.name)
	}
}
