package server

import (
	"slices"
	"strconv"

	"github.com/meshd-io/meshd/pkg/xds/acks"
	"github.com/meshd-io/meshd/pkg/xds/cache"
	"github.com/meshd-io/meshd/pkg/xds/envoy"
)

// session is the state of one stream: requests and snapshots in, messages and
// effects out. It knows no network, clock or lock.
type session struct {
	limits   Limits
	shared   *shared
	onDemand bool // the gate's stream
	// after asks the proxy's ADS session whether it holds a version (on-demand only).
	after func(r envoy.Ref, version string) bool
	// asks asks it whether it has asked for an assignment, or may have (on-demand only).
	asks func(assignment string) bool

	snap *cache.Snapshot
	// resting: there was nothing to send, and nothing has moved since.
	resting bool
	// settled: what a proxy has asked for is in the snapshot, so that what is
	// missing from it is really gone. Nothing is removed before.
	settled bool
	// resumed: the client came with clusters of destinations that it had asked
	// for; scopes are those by whose routes it knows the destinations, until
	// the snapshot has them all.
	resumed bool
	scopes  *cache.Set
	// empty: the client has said that it holds no clusters, and so no endpoints of any.
	empty bool
	lanes [laneCount]*lane // nil: not of this stream
	sent  uint64           // responses
	spare *flight          // that has landed: most have one at a time
	// unacknowledged is how many bytes of responses are not acknowledged yet.
	unacknowledged int
	// waiting: an on-demand answer is held back until the ADS stream has acknowledged more.
	waiting bool
	out     effects
}

// effects are what a step wants done outside of the session.
type effects struct {
	events   []note
	accepted []*cache.Item
	refused  []cache.Refusal
	// again are on-demand clusters whose assignments must come again on the ADS stream.
	again []*cache.Item
	// fresh: the client has said that it holds no clusters. Nothing that it has can be taken from it.
	fresh bool
	// asked are on-demand names that are new; resumed are new on this stream, but the client holds them.
	asked, resumed []string
}

// note is what a session knows of an acks.Event, which is ten times as large: a change makes some of each proxy.
type note struct {
	kind                    acks.EventKind
	typ                     envoy.Type
	version                 string
	resources, destinations int
	held                    acks.Held
	rejections              []acks.Rejection
	refused                 *acks.Rejection
	message                 string
}

func (n note) event() acks.Event {
	e := acks.Event{
		Kind: n.kind, Type: n.typ, Version: n.version, Resources: n.resources, Held: n.held,
		Rejections: n.rejections, Destinations: n.destinations, Message: n.message,
	}
	if n.refused != nil {
		e.Resource = *n.refused
	}
	return e
}

// lane is one type's state on a stream.
type lane struct {
	typ envoy.Type
	sub *names     // what the client wants; nil: it has never asked
	cur *cache.Set // what the client is to have

	// held and heldSub are what the client has acknowledged, except for diff.
	held    *cache.Set
	heldSub *names
	// diff has versions that differ from held; "" is a resource that the client has not.
	diff map[string]string
	// force are names to send again though the client holds them.
	force map[string]bool
	// refused are versions that this client has refused: not sent again.
	refused map[string]acks.Rejection
	// singles are names to send one by one: a response with them was refused.
	singles []string
	// denied are names that were asked for and will never be there.
	denied []string

	// owed: a first wildcard is answered even when there is nothing, or an Envoy never starts.
	owed   bool
	flight *flight
	// told is the last Acknowledged event's set and subscription.
	toldSet uint64
	toldSub *names
	retell  bool
}

// flight is a response that is not acknowledged yet.
type flight struct {
	nonce string
	set   *cache.Set
	sub   *names
	body  *body
	// again are clusters of an on-demand response whose assignments the client
	// had asked for before: it will not ask again.
	again []*cache.Item
	// complete: with it the client has everything of set that it wants.
	complete bool
}

// shared is what sessions have together.
type shared struct {
	intern   interner
	holdings holdings
	memo     memo
}

func newSession(limits Limits, with *shared, gate bool) *session {
	s := &session{limits: limits, shared: with, onDemand: gate}
	if gate {
		s.lanes[onDemandLane] = &lane{typ: envoy.OnDemandType}
		return s
	}
	lanes := new([onDemandLane]lane) // together: a change looks at them all
	for i := range lanes {
		lanes[i].typ = laneTypes[i]
		s.lanes[i] = &lanes[i]
	}
	return s
}

// The lanes of a session.
const (
	secretLane = iota
	clusterLane
	endpointLane
	extensionLane
	scopeLane
	routeLane
	listenerLane
	onDemandLane
	laneCount
)

var laneTypes = [laneCount]envoy.Type{envoy.SecretType, envoy.ClusterType, envoy.EndpointType, envoy.ExtensionType,
	envoy.ScopedRouteType, envoy.RouteType, envoy.ListenerType, envoy.OnDemandType}

// lane of a type; nil where this stream has none.
func (s *session) lane(t envoy.Type) *lane {
	if i := slices.Index(laneTypes[:], t); i >= 0 {
		return s.lanes[i]
	}
	return nil
}

// publish makes a snapshot the one to bring the client to.
func (s *session) publish(snap *cache.Snapshot) {
	if snap == s.snap {
		return
	}
	s.resting = s.resting && s.snap != nil
	s.snap = snap
	for _, l := range s.lanes {
		if l == nil {
			continue
		}
		if set := snap.Set(l.typ); set != l.cur {
			l.cur, s.resting = set, false
		}
	}
}

// settle says whether what is missing from the snapshot is really gone.
func (s *session) settle(settled bool) {
	s.resting = s.resting && settled == s.settled
	s.settled = settled
}

// take gives the effects since the last call.
func (s *session) take() effects {
	out := s.out
	s.out = effects{}
	return out
}

// version is what the client has of a name; "" is nothing.
func (l *lane) version(name string) string {
	if v, ok := l.diff[name]; ok {
		return v
	}
	if !l.heldSub.has(name) {
		return ""
	}
	if it := l.held.Get(name); it != nil {
		return it.Version
	}
	return ""
}

// holds reports whether the client has acknowledged a version and is owed nothing of it.
func (s *session) holds(r envoy.Ref, version string) bool {
	l := s.lane(r.Type)
	return l != nil && l.sub.has(r.Name) && l.version(r.Name) == version && !l.force[r.Name]
}

func (l *lane) set(name, version string) {
	if l.diff == nil {
		l.diff = map[string]string{}
	}
	l.diff[name] = version
}

func (l *lane) again(name string) {
	if l.force == nil {
		l.force = map[string]bool{}
	}
	l.force[name] = true
}

// inFlight reports whether a name is in the response that is not acknowledged yet.
func (l *lane) inFlight(name string) bool {
	if l.flight == nil {
		return false
	}
	for _, it := range l.flight.body.items {
		if it.Name == name {
			return true
		}
	}
	return false
}

// send puts a body in flight.
func (s *session) send(l *lane, cur *cache.Set, b *body, complete bool) message {
	s.sent++
	s.unacknowledged += len(b.bytes)
	l.owed = false
	if l.flight, s.spare = s.spare, nil; l.flight == nil {
		l.flight = &flight{}
	}
	*l.flight = flight{nonce: strconv.FormatUint(s.sent, 10), set: cur, sub: l.sub, body: b, complete: complete}
	for _, it := range b.items {
		delete(l.force, it.Name)
	}
	for _, name := range b.removed {
		delete(l.force, name)
	}
	if len(l.force) == 0 {
		l.force = nil // an empty map keeps its buckets
	}
	if l.typ == envoy.ClusterType {
		s.endpointsAgain(b.items)
	}
	if s.onDemand {
		l.flight.again = s.known(b.items)
	}
	return message{body: b, typ: l.typ, nonce: l.flight.nonce}
}

// known are the clusters whose assignments the client has asked for already.
func (s *session) known(clusters []*cache.Item) (known []*cache.Item) {
	for _, it := range clusters {
		if it.Assignment != "" && s.asks(it.Assignment) {
			known = append(known, it)
		}
	}
	return known
}

// endpointsAgain: Envoy warms a cluster that has changed until its assignment
// comes, changed or not, and asks for none that it knows already.
func (s *session) endpointsAgain(clusters []*cache.Item) {
	l := s.lanes[endpointLane]
	s.resting = false
	for _, it := range clusters {
		name := it.Assignment
		// Before the first request for endpoints nothing is known of what the client holds.
		if name != "" && (l.sub == nil && !s.empty || l.version(name) != "" || l.inFlight(name)) {
			l.again(name)
		}
	}
}
