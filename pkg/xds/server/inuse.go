package server

import (
	"net/netip"
	"slices"

	"github.com/meshd-io/meshd/pkg/xds/acks"
	"github.com/meshd-io/meshd/pkg/xds/envoy"
	"github.com/meshd-io/meshd/pkg/xds/scope"
)

// InUse is what a live proxy subscribes to on its on-demand stream.
type InUse struct {
	Node         string
	Key          scope.Key
	Destinations []netip.AddrPort // shared by proxies that subscribe to the same
}

// InUse has every live proxy once.
func (s *Server) InUse() []InUse {
	lists := map[*names][]netip.AddrPort{}
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]InUse, 0, len(s.proxies))
	for id, p := range s.proxies {
		u := InUse{Node: id.node}
		if st := p.ads.Load(); st != nil {
			u.Key = st.who().Key
		}
		if st := p.onDemand.Load(); st != nil {
			var sub *names
			u.Key, sub = st.who().Key, st.subscription()
			if _, known := lists[sub]; !known && sub != nil {
				lists[sub] = addresses(sub.list)
			}
			u.Destinations = lists[sub]
		}
		out = append(out, u)
	}
	return out
}

func (st *stream) subscription() *names {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.session.lanes[onDemandLane].sub
}

// Deny answers those proxies of a key that wait for one of the destinations that
// there is none, for now. Envoy does not ask again: it comes once a snapshot has it.
func (s *Server) Deny(key scope.Key, destinations []netip.AddrPort, why string) {
	s.mu.Lock()
	var streams []*stream
	if of := s.byKey[key]; of != nil {
		for _, st := range of.streams {
			if st.onDemand {
				streams = append(streams, st)
			}
		}
	}
	s.mu.Unlock()
	for _, st := range streams {
		st.mu.Lock()
		denied, all := st.session.deny(destinations)
		st.mu.Unlock()
		if denied {
			s.record(st, acks.Event{Kind: acks.Refused, Destinations: all, Message: why})
			s.wake(st)
		}
	}
}

// deny reports whether the client waits for any of the destinations, and to how many it subscribes.
func (s *session) deny(destinations []netip.AddrPort) (denied bool, all int) {
	l := s.lanes[onDemandLane]
	for _, a := range destinations {
		name := envoy.GateCluster(a)
		if l.sub.lists(name) && l.version(name) == "" && !l.inFlight(name) && !slices.Contains(l.denied, name) {
			l.denied = append(l.denied, name)
			denied, s.resting = true, false
		}
	}
	return denied, l.sub.len()
}
