package server

import (
	"net/netip"
	"slices"
	"strings"

	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/meshd-io/meshd/pkg/xds/acks"
	"github.com/meshd-io/meshd/pkg/xds/cache"
	"github.com/meshd-io/meshd/pkg/xds/envoy"
)

const wildcard = "*"

// request takes what a client says: an answer to a response, a change of what
// it wants, or both. The error ends the stream.
func (s *session) request(r *request) error {
	s.resting = false
	l := s.laneOf(r.typeURL)
	if l == nil {
		return status.Errorf(codes.InvalidArgument, "type %q is not served on this stream", r.typeURL)
	}
	// A nonce that is not the newest one's is stale: it answers nothing.
	if l.flight != nil && string(r.nonce) == l.flight.nonce {
		if err := s.answered(l, r.refusal); err != nil {
			return err
		}
	}
	if l.sub == nil || len(r.subscribe)+len(r.unsubscribe) > 0 {
		return s.subscribe(l, r)
	}
	return nil
}

// laneOf a type on the wire; nil is one that this stream has not.
func (s *session) laneOf(typeURL []byte) *lane {
	if !s.onDemand {
		i := slices.IndexFunc(laneTypes[:], func(t envoy.Type) bool { return string(t) == string(typeURL) })
		if i < 0 {
			return nil
		}
		return s.lanes[i]
	}
	if string(typeURL) == string(envoy.ClusterType) || len(typeURL) == 0 {
		return s.lanes[onDemandLane]
	}
	return nil
}

// answered: the client has what is in flight, or has refused it.
func (s *session) answered(l *lane, refusal []byte) error {
	f := l.flight
	l.flight = nil
	defer func() { *f, s.spare = flight{}, f }()
	s.unacknowledged -= len(f.body.bytes)
	if refusal == nil {
		s.acknowledged(l, f)
		return nil
	}
	var why statuspb.Status
	if err := proto.Unmarshal(refusal, &why); err != nil {
		return errMalformed
	}
	s.refusedBy(l, f, inOneLine(why.GetMessage()))
	return nil
}

// begin takes the first request of a type: what the client holds already.
func (s *session) begin(l *lane, initial versions) {
	if len(initial) == 0 && l.typ == envoy.ClusterType {
		s.empty, s.out.fresh = true, true
	}
	if len(initial) > 0 {
		s.resume(l, initial)
	}
	for name := range l.force { // asked for the first time: it comes anyhow
		if initial.of(name) == "" {
			delete(l.force, name)
		}
	}
}

// resume notes what the client says that it holds.
func (s *session) resume(l *lane, initial versions) {
	s.out.events = append(s.out.events, note{kind: acks.Resumed, typ: l.typ, resources: len(initial)})
	if s.onDemand { // there a name waits until the snapshot has it: an exception from what is held
		l.diff = make(map[string]string, len(initial))
		for _, v := range initial {
			l.diff[strings.Clone(v.name)] = strings.Clone(v.version)
		}
		return
	}
	l.held = s.shared.holdings.set(l.typ, initial)
	l.heldSub = s.shared.intern.intern(false, l.held.Names())
	switch l.typ {
	case envoy.ClusterType:
		s.resumed = slices.ContainsFunc(l.heldSub.list, isDemanded)
	case envoy.ScopedRouteType:
		// Known without its on-demand stream too: a proxy that started with
		// what its workload has used need not have asked for it.
		s.scopes = l.held
		for _, name := range l.heldSub.list {
			if address, err := netip.ParseAddrPort(name); err == nil {
				s.out.resumed = append(s.out.resumed, envoy.GateCluster(address))
			}
		}
	}
}

func (s *session) subscribe(l *lane, r *request) error {
	first := l.sub == nil
	var initial versions
	wild := !first && l.sub.wild
	if first {
		initial = r.initial
		s.begin(l, initial)
		wild = len(r.subscribe) == 0
	}
	list := r.subscribe[:0]
	for _, name := range r.subscribe {
		switch {
		case name == wildcard:
			wild = true
			continue
		case s.onDemand && !isDestination(name):
			l.denied = append(l.denied, strings.Clone(name))
			continue
		}
		list = append(list, name)
		// Whoever asks again is answered, but for what a reconnect says that it holds.
		if initial.of(name) == "" && (l.version(name) != "" || l.inFlight(name) || l.heldSub.lists(name)) {
			l.again(strings.Clone(name))
		}
	}
	drop := make(map[string]bool, len(r.unsubscribe))
	for _, name := range r.unsubscribe {
		drop[name] = true
		delete(l.force, name)
		delete(l.diff, name)
		delete(l.refused, name)
	}
	wild = wild && !drop[wildcard] && !s.onDemand
	before := []string{}
	if !first {
		before = l.sub.list
	}
	after := slices.DeleteFunc(union(before, list), func(name string) bool { return drop[name] })
	if s.onDemand {
		after = s.bound(l, before, after, initial)
	} else if len(after) > s.limits.Names {
		return status.Errorf(codes.ResourceExhausted, "%d names of %s, at most %d", len(after), cache.Short(l.typ), s.limits.Names)
	}
	l.owed = l.owed || first && wild && len(initial) == 0
	l.sub = s.shared.intern.intern(wild, after)
	if s.onDemand {
		s.out.events = append(s.out.events, note{kind: acks.Demanded, destinations: len(after)})
	}
	return nil
}

// bound refuses what is beyond the limit of destinations, and notes what is new.
func (s *session) bound(l *lane, before, after []string, initial versions) []string {
	kept := make([]string, 0, len(after))
	room := s.limits.Destinations - len(before)
	var over []string
	for _, name := range after {
		_, known := slices.BinarySearch(before, name)
		switch {
		case known:
		case room > 0:
			room--
			if initial.of(name) != "" {
				s.out.resumed = append(s.out.resumed, name)
			} else {
				s.out.asked = append(s.out.asked, name)
			}
		default:
			over = append(over, strings.Clone(name))
			continue
		}
		kept = append(kept, name)
	}
	if len(over) > 0 {
		l.denied = append(l.denied, over...)
		s.out.events = append(s.out.events, note{
			kind: acks.Refused, destinations: len(kept),
			message: "more destinations than a proxy may use; refused: " + over[0],
		})
	}
	return kept
}

// isDemanded reports whether a cluster is there because a destination was asked for.
func isDemanded(name string) bool {
	n, err := envoy.ParseName(name)
	return err == nil && (n.Kind == envoy.OutName || n.Kind == envoy.DetectedTCPName)
}

// isDestination: an address that is written another way than meshd writes it
// would wait for an answer for ever.
func isDestination(name string) bool {
	a, err := envoy.ParseGateCluster(name)
	return err == nil && envoy.GateCluster(a) == name
}

// acknowledged: the client has what the response said.
func (s *session) acknowledged(l *lane, f *flight) {
	s.out.accepted, s.out.again = f.body.items, f.again // a request answers one response
	for _, it := range f.body.items {
		if _, ok := l.refused[it.Name]; ok {
			delete(l.refused, it.Name)
			l.retell = true
		}
	}
	if f.complete && len(l.diff) == 0 && len(l.refused) == 0 && len(f.set.WithheldNames()) == 0 {
		l.held, l.heldSub = f.set, f.sub
		return
	}
	for _, it := range f.body.items {
		l.set(it.Name, it.Version)
	}
	for _, name := range f.body.removed {
		l.set(name, "")
	}
}

// refusedBy: the client has refused the response. With one resource it is that
// one; otherwise Envoy's words do not tell reliably which, nor what it took of
// the others: they are sent again one by one.
//
// Clusters are the exception. Envoy names each bad one and takes the others; and
// one that failed late stays with it half made, so that sent again it is taken
// for known and acknowledged. There the words count.
func (s *session) refusedBy(l *lane, f *flight, words string) {
	items := f.body.items
	if len(items) == 0 {
		// Removals cannot be narrowed down and would be refused again: taken as done.
		for _, name := range f.body.removed {
			l.set(name, "")
		}
		return
	}
	var singles []string
	for _, it := range items {
		if len(items) > 1 {
			l.set(it.Name, unknown)
		}
		named := url(l.typ) == string(envoy.ClusterType) && strings.Contains(words, " "+it.Name+": ")
		if len(items) == 1 || named {
			s.refuse(l, it, words)
		} else {
			singles = append(singles, it.Name)
		}
	}
	l.singles = append(singles, l.singles...)
}

// unknown is no version: the client may have taken a resource or not.
const unknown = "?"

func (s *session) refuse(l *lane, it *cache.Item, words string) {
	r := acks.Rejection{Type: l.typ, Name: it.Name, Version: it.Version, Message: words, Origins: it.Origins}
	l.set(it.Name, l.version(it.Name)) // it keeps what it had
	if l.typ == envoy.EndpointType {
		l.again(it.Name) // but a cluster that has changed warms until its assignment comes again, at whatever version
	}
	if l.refused == nil {
		l.refused = map[string]acks.Rejection{}
	}
	l.refused[it.Name] = r
	l.retell = true
	s.out.refused = append(s.out.refused, cache.Refusal{Type: l.typ, Name: it.Name, Version: it.Version, Message: words})
	s.out.events = append(s.out.events, note{kind: acks.Rejected, refused: &r})
}

// inOneLine is what an Envoy says, as one line of a status or a table.
func inOneLine(words string) string { return strings.Join(strings.Fields(words), " ") }
