package server

import (
	"net/netip"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/meshd-io/meshd/pkg/xds/acks"
	"github.com/meshd-io/meshd/pkg/xds/cache"
	"github.com/meshd-io/meshd/pkg/xds/envoy"
	"github.com/meshd-io/meshd/pkg/xds/scope"
)

// transport is the network under a stream; it calls the stream's receive and close.
type transport interface {
	// Send waits only behind a big response that the client does not take.
	Send(message) error
}

// stream drives one session. It has no goroutine: whoever has something for it runs it.
type stream struct {
	server   *Server
	tx       transport
	node     scope.Node
	onDemand bool
	// pending counts wakes that no worker has seen: one worker has the stream at a time.
	pending  atomic.Int64
	replaced atomic.Bool
	// waiting: this on-demand stream's answers wait for acknowledgements on the ADS stream.
	waiting atomic.Bool
	// flights are the lanes with a response that was not acknowledged after the last step.
	flights atomic.Uint32
	proxyIs atomic.Pointer[acks.Proxy]
	proxy   *proxy

	// Of Server.mu.
	left  bool
	place int // among its key's

	mu      sync.Mutex
	session *session
	// ads is the other stream of an on-demand stream's proxy, as of the last step; nil is none.
	ads *stream
}

func newStream(tx transport, node scope.Node, onDemand bool, who acks.Proxy) *stream {
	st := &stream{tx: tx, node: node, onDemand: onDemand}
	st.proxyIs.Store(&who)
	return st
}

// who is read only.
func (st *stream) who() *acks.Proxy { return st.proxyIs.Load() }

// other is the proxy's other stream; nil is none.
func (st *stream) other() *stream {
	if st.onDemand {
		return st.proxy.ads.Load()
	}
	return st.proxy.onDemand.Load()
}

// setKey gives the destinations that the stream has in use. Server.mu is held.
func (st *stream) setKey(key scope.Key) []netip.AddrPort {
	who := *st.who()
	who.Key = key
	st.proxyIs.Store(&who)
	st.mu.Lock()
	defer st.mu.Unlock()
	if l := st.session.lanes[onDemandLane]; l != nil && l.sub != nil {
		return addresses(l.sub.list)
	}
	return nil
}

func addresses(list []string) []netip.AddrPort {
	out := make([]netip.AddrPort, 0, len(list))
	for _, name := range list {
		if a, err := envoy.ParseGateCluster(name); err == nil {
			out = append(out, a)
		}
	}
	return out
}

// open begins a stream, of which the first request has come.
func (s *Server) open(st *stream) {
	st.server = s
	st.session = newSession(s.limits, &s.shared, st.onDemand)
	st.session.after, st.session.asks = st.adsHolds, st.adsAsks
	s.enter(st)
	if !st.onDemand {
		s.record(st, acks.Event{Kind: acks.Connected})
		s.demander.Demand(st.who().Key, nil, false)
	}
}

// receive takes a request. The error ends the stream.
func (st *stream) receive(r *request) error {
	if st.replaced.Load() {
		return status.Error(codes.Aborted, "replaced by a newer stream of the same proxy")
	}
	st.mu.Lock()
	err := st.session.request(r)
	fx := st.session.take()
	st.mu.Unlock()
	st.apply(fx)
	if err != nil {
		return err
	}
	st.server.pushHere(st)
	if other := st.other(); other != nil && other.waiting.Load() { // for this acknowledgement, it may be
		st.server.wake(other)
	}
	return nil
}

// close ends a stream: nothing is sent any more.
func (st *stream) close() {
	if st.server.leave(st) {
		gone := acks.Event{Kind: acks.Disconnected}
		if st.onDemand {
			gone.Type = envoy.OnDemandType
		}
		st.server.record(st, gone)
	}
	st.replaced.Store(true)
}

// adsHolds asks the proxy's ADS session. st.mu is held.
//
// Locks are taken in this order: Server.mu, an on-demand stream's mu, an ADS stream's mu.
func (st *stream) adsHolds(r envoy.Ref, version string) bool {
	if st.ads == nil {
		return false
	}
	st.ads.mu.Lock()
	defer st.ads.mu.Unlock()
	return st.ads.session.holds(r, version)
}

// adsAsks asks the proxy's ADS session, as adsHolds does.
func (st *stream) adsAsks(assignment string) bool {
	if st.ads == nil {
		return true // for all that is known
	}
	st.ads.mu.Lock()
	defer st.ads.mu.Unlock()
	l := st.ads.session.lanes[endpointLane]
	return l.sub.has(assignment) || l.sub == nil && !st.ads.session.empty
}

// endpointsAgain: an on-demand cluster may name an assignment that the proxy has
// already; it warms until that comes again on the ADS stream.
func (st *stream) endpointsAgain(clusters []*cache.Item) {
	other := st.other()
	if other == nil {
		return
	}
	other.mu.Lock()
	other.session.endpointsAgain(clusters)
	other.mu.Unlock()
	st.server.wake(other)
}

// apply does what a session wants done outside.
func (st *stream) apply(fx effects) {
	key := st.who().Key
	if fx.fresh {
		st.server.settle(st.proxy)
	}
	if len(fx.accepted) > 0 {
		st.server.cache.Accept(key, fx.accepted)
	}
	if len(fx.again) > 0 {
		st.endpointsAgain(fx.again)
	}
	for _, r := range fx.refused {
		st.server.cache.Reject(key, r)
	}
	for _, e := range fx.events {
		st.server.record(st, e.event())
	}
	if len(fx.asked) > 0 {
		st.server.demander.Demand(key, addresses(fx.asked), false)
	}
	if len(fx.resumed) > 0 {
		st.server.demander.Demand(key, addresses(fx.resumed), true)
	}
}

// step gives the next message to send.
func (st *stream) step() (message, bool, int) {
	s := st.server
	if st.replaced.Load() {
		return message{}, false, 0
	}
	// In this order: what was settled with a snapshot is not looked for in one
	// from before it, nor in another key's.
	key := st.who().Key
	other, settled := st.other(), st.proxy.settled.Load()
	snap := s.cache.Snapshot(key)
	if !settled && st.onDemand && st.met(snap, other) {
		settled = true
		s.settle(st.proxy)
	}
	st.mu.Lock()
	if st.onDemand {
		st.ads = other
		st.waiting.Store(true) // what is acknowledged from here on may be looked at too early
	}
	st.session.publish(snap)
	st.session.settle(settled)
	m, ok := st.session.next()
	unacknowledged := st.session.unacknowledged
	st.waiting.Store(st.session.waiting)
	st.flights.Store(uint32(st.session.flights()))
	fx := st.session.take()
	st.mu.Unlock()
	if ok {
		s.record(st, acks.Event{Kind: acks.Sent, Type: m.typ, Resources: len(m.items)})
	}
	st.apply(fx)
	return m, ok, unacknowledged
}

// met: everything that the proxy has asked for, and what it was given without
// asking, is in the snapshot; what is missing from it is really gone.
func (st *stream) met(snap *cache.Snapshot, ads *stream) bool {
	if snap == nil || ads == nil {
		return false
	}
	st.mu.Lock()
	met := st.session.met(snap)
	st.mu.Unlock()
	if !met {
		return false
	}
	ads.mu.Lock()
	defer ads.mu.Unlock()
	return ads.session.toldAll(snap)
}

// toldAll reports whether an ADS client has told which destinations it holds, and the snapshot has all of them.
func (s *session) toldAll(snap *cache.Snapshot) bool {
	if s.lanes[clusterLane].sub == nil {
		return false
	}
	return !s.resumed || s.scopesKnown(snap)
}

// met reports whether the snapshot answers everything that was asked for.
func (s *session) met(snap *cache.Snapshot) bool {
	l := s.lanes[onDemandLane]
	if l.sub == nil {
		return false
	}
	set := snap.Set(envoy.OnDemandType)
	for _, name := range l.sub.list {
		if set.Get(name) == nil && !set.Withheld(name) {
			return false
		}
	}
	return true
}
