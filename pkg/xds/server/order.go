package server

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/meshd-io/meshd/pkg/xds/acks"
	"github.com/meshd-io/meshd/pkg/xds/cache"
	"github.com/meshd-io/meshd/pkg/xds/envoy"
)

// makes are the stages in which new things are sent: each waits until the one
// before is acknowledged, except that endpoints and secrets hold nobody up:
// clusters are acknowledged when they are warm. (See newScopes.)
var makes = []struct{ send, wait []int }{
	{[]int{secretLane, clusterLane, endpointLane}, []int{clusterLane}},
	{[]int{extensionLane, scopeLane, routeLane}, []int{extensionLane, scopeLane, routeLane}},
	{[]int{listenerLane}, []int{listenerLane}},
}

// breaks are the stages of removals: listeners first, and clusters when nothing can name them any more.
var breaks = [][]int{{listenerLane}, {scopeLane, routeLane, extensionLane}, {clusterLane, endpointLane, secretLane}}

// next is the next message that may be sent now; ok is false when there is none
// until the client answers or another snapshot comes.
func (s *session) next() (m message, ok bool) {
	if s.resting {
		return message{}, false
	}
	if s.onDemand {
		s.waiting = false
		m, ok = s.nextOnDemand()
	} else {
		m, ok = s.nextADS()
	}
	s.resting = !ok && !s.waiting
	return m, ok
}

func (s *session) nextADS() (message, bool) {
	if s.snap == nil {
		return message{}, false
	}
	for _, stage := range makes {
		if stage.send[0] == listenerLane && s.resumed && !s.settled && !s.scopesKnown(s.snap) {
			// The snapshot is from before what the client uses was known
			// again: its listener would lose its promotions for a moment.
			return message{}, false
		}
		for _, t := range stage.send {
			if m, ok := s.update(s.lanes[t]); ok {
				return m, true
			}
		}
		if stage.send[0] == secretLane && s.clustersOnTheirWay() {
			if m, ok := s.newScopes(); ok {
				return m, true
			}
		}
		for _, t := range stage.wait {
			if !s.updated(s.lanes[t]) {
				return message{}, false
			}
		}
	}
	return s.nextRemoval()
}

// clustersOnTheirWay: all clusters of the snapshot have been sent, and not all
// are acknowledged. A scope that names one which the client has never seen is refused.
func (s *session) clustersOnTheirWay() bool {
	l := s.lanes[clusterLane]
	return l.flight != nil && l.flight.set == l.cur && len(l.singles) == 0
}

// newScopes go with the clusters that they lead to, and not after them: nobody
// can use them before the gate is answered or the destination promoted, and both
// wait for clusters and scopes. What the client has already is in use, and waits.
func (s *session) newScopes() (message, bool) {
	l := s.lanes[scopeLane]
	if l.sub == nil || l.flight != nil || len(l.singles) > 0 {
		return message{}, false
	}
	cur := l.cur
	d := s.delta(l, cur)
	var fresh []*cache.Item
	for _, it := range d.add {
		if l.version(it.Name) == "" {
			fresh = append(fresh, it)
		}
	}
	switch {
	case len(fresh) == 0:
		return message{}, false
	case len(fresh) < len(d.add) || d.body == nil:
		d.body = newBody(url(l.typ), fresh, nil)
	}
	return s.send(l, cur, d.body, len(fresh) == len(d.add) && len(d.removed) == 0 && !d.waiting), true
}

// scopesKnown reports whether the snapshot has all destinations that the client came with.
func (s *session) scopesKnown(snap *cache.Snapshot) bool {
	if s.lanes[scopeLane].sub == nil {
		return false
	}
	set := snap.Set(envoy.ScopedRouteType)
	for _, it := range s.scopes.Items() {
		if _, err := netip.ParseAddrPort(it.Name); err == nil && set.Get(it.Name) == nil && !set.Withheld(it.Name) {
			return false
		}
	}
	s.scopes, s.resumed, s.resting = nil, false, false
	return true
}

// nextRemoval breaks, once everything new is in force.
func (s *session) nextRemoval() (message, bool) {
	if !s.settled {
		return message{}, false
	}
	for _, stage := range breaks {
		for _, t := range stage {
			if m, ok := s.remove(s.lanes[t]); ok {
				return m, true
			}
		}
		for _, t := range stage {
			if s.lanes[t].flight != nil {
				return message{}, false
			}
		}
	}
	return message{}, false
}

func (s *session) nextOnDemand() (message, bool) {
	l := s.lanes[onDemandLane]
	if l.flight != nil || l.sub == nil {
		return message{}, false
	}
	if len(l.denied) > 0 {
		slices.Sort(l.denied)
		b := newBody(string(envoy.ClusterType), nil, slices.Compact(l.denied))
		l.denied = nil
		return s.send(l, l.held, b, false), true
	}
	if s.snap == nil {
		return message{}, false
	}
	if m, ok := s.update(l); ok {
		return m, true
	}
	if s.settled {
		return s.remove(l)
	}
	return message{}, false
}

// update sends what is new or has changed of one type.
func (s *session) update(l *lane) (message, bool) {
	if l.sub == nil || l.flight != nil {
		return message{}, false
	}
	cur := l.cur
	for len(l.singles) > 0 {
		it := cur.Get(l.singles[0])
		if l.singles = l.singles[1:]; len(l.singles) == 0 {
			l.singles = nil // the last one would keep them all
		}
		// What a refused response had of it is unknown: sent again unless it is known to be refused.
		if it != nil && l.sub.has(it.Name) && l.refused[it.Name].Version != it.Version {
			return s.send(l, cur, newBody(url(l.typ), []*cache.Item{it}, nil), false), true
		}
	}
	d := s.delta(l, cur)
	switch {
	case len(d.add) == 0 && l.owed:
		return s.send(l, cur, newBody(url(l.typ), nil, nil), len(d.removed) == 0 && !d.waiting), true
	case len(d.add) == 0:
		if len(d.removed) == 0 && !d.waiting {
			s.caughtUp(l, cur)
		}
		return message{}, false
	}
	if d.body == nil {
		d.body = newBody(url(l.typ), d.add, nil)
	}
	return s.send(l, cur, d.body, len(d.removed) == 0 && !d.waiting), true
}

// updated reports whether the client has acknowledged everything that is new of a type.
func (s *session) updated(l *lane) bool {
	if l.sub == nil {
		return true
	}
	return l.flight == nil && len(l.singles) == 0 && len(s.delta(l, l.cur).add) == 0
}

// remove sends the removals of one type.
func (s *session) remove(l *lane) (message, bool) {
	if l.sub == nil || l.flight != nil {
		return message{}, false
	}
	cur := l.cur
	d := s.delta(l, cur)
	if len(d.removed) == 0 {
		return message{}, false
	}
	return s.send(l, cur, newBody(url(l.typ), nil, d.removed), len(d.add) == 0 && !d.waiting), true
}

// url is the type on the wire.
func url(t envoy.Type) string {
	return strings.TrimPrefix(string(t), "on-demand/")
}

// caughtUp: the client owes and is owed nothing; exceptions are what it has refused and what is withheld.
func (s *session) caughtUp(l *lane, cur *cache.Set) {
	if l.held == cur && l.heldSub == l.sub && len(l.diff)+len(l.refused) == 0 && !l.retell && l.toldSub == l.sub && l.toldSet == id(cur) {
		return
	}
	diff := s.exceptions(l, cur)
	l.held, l.heldSub, l.diff = cur, l.sub, diff
	if l.toldSub == l.sub && l.toldSet == id(cur) && !l.retell {
		return
	}
	l.toldSub, l.toldSet, l.retell = l.sub, id(cur), false
	s.out.events = append(s.out.events, l.tell(cur))
}

// exceptions are the versions in which the client differs from a set though it
// is owed nothing of it; nil is none.
func (s *session) exceptions(l *lane, cur *cache.Set) map[string]string {
	if len(l.refused)+len(l.diff)+len(cur.WithheldNames()) == 0 {
		return nil
	}
	diff := map[string]string{}
	for name, r := range l.refused {
		if !cur.Wants(name, r.Version) {
			delete(l.refused, name)
			l.retell = true
			continue
		}
		if it := cur.Get(name); it != nil && it.Version == r.Version {
			// It was refused while another version was wanted, or under another key.
			s.out.refused = append(s.out.refused, cache.Refusal{Type: l.typ, Name: name, Version: r.Version, Message: r.Message})
		}
		diff[name] = l.version(name)
	}
	for _, name := range cur.WithheldNames() {
		if v := l.version(name); v != "" {
			diff[name] = v
		}
	}
	if l.typ == envoy.OnDemandType {
		// What the client came with waits here until the snapshot has it again.
		for name, v := range l.diff {
			if v != "" && l.sub.has(name) && cur.Get(name) == nil {
				diff[name] = v
			}
		}
	}
	for name := range diff {
		if it := cur.Get(name); it != nil && l.sub.has(name) && it.Version == diff[name] {
			delete(diff, name)
		}
	}
	if len(diff) == 0 {
		return nil
	}
	return diff
}

func id(s *cache.Set) uint64 {
	if s == nil {
		return 0
	}
	return s.ID
}

// tell is the event that everything of a set is held.
func (l *lane) tell(cur *cache.Set) note {
	e := note{kind: acks.Acknowledged, typ: l.typ, resources: l.sub.len(), held: held{set: cur, sub: l.sub}}
	if len(l.diff) > 0 {
		e.held = held{set: cur, sub: l.sub, but: &exceptions{maps.Clone(l.diff)}} // the lane writes into its own
	}
	if cur != nil {
		e.version = cur.Version
	}
	if l.sub.wild {
		e.resources = len(cur.Items())
	}
	if len(l.refused) == 0 {
		return e
	}
	for _, name := range slices.Sorted(maps.Keys(l.refused)) {
		e.rejections = append(e.rejections, l.refused[name])
	}
	return e
}

// held is what a client has, for the Ledger. Immutable, and equal for those that
// have all of one set.
type held struct {
	set *cache.Set
	sub *names
	but *exceptions // nil is none
}

type exceptions struct{ versions map[string]string }

// Version implements acks.Held.
func (h held) Version(name string) (string, bool) {
	if !h.sub.has(name) {
		return "", false
	}
	if h.but != nil {
		if v, ok := h.but.versions[name]; ok {
			return v, true
		}
	}
	if it := h.set.Get(name); it != nil {
		return it.Version, true
	}
	return "", true
}
