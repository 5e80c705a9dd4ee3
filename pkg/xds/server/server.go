package server

import (
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/meshd-io/meshd/pkg/identity"
	"github.com/meshd-io/meshd/pkg/xds/acks"
	"github.com/meshd-io/meshd/pkg/xds/cache"
	"github.com/meshd-io/meshd/pkg/xds/scope"
)

// Keyer knows the mesh: scope.ErrMismatch refuses a node for good, any other error for now.
type Keyer interface {
	KeyFor(scope.Node) (scope.Key, error)
}

// Demander hears what proxies ask for. It must not wait for the server. The
// next snapshot of the key should have an answer for each of the addresses,
// and for those that were asked for before.
type Demander interface {
	// Demand is called with addresses that are new of a proxy: one by one, all
	// of them when it reconnects or changes its key, and none when it connects.
	// Those that it holds already are in use: it may have them promoted.
	Demand(key scope.Key, addresses []netip.AddrPort, held bool)
}

// Recorder takes events, for the Ledger and the audit log. It must not wait for the server.
type Recorder interface {
	Record(acks.Event)
}

// Config of a Server.
type Config struct {
	Cache    *cache.Cache
	Keyer    Keyer
	Demander Demander
	Recorder Recorder
	Limits   Limits
	// Grace before removals; 0 is the constant Grace.
	Grace time.Duration
	// Log; nil is slog.Default.
	Log *slog.Logger
}

// proxyID pairs the streams of one Envoy.
type proxyID struct {
	identity identity.ID
	node     string
}

// proxy is one Envoy: its streams, of which the newest of each kind counts.
// Server.mu is held to change it; each step of a stream reads it.
type proxy struct {
	id            proxyID
	ads, onDemand atomic.Pointer[stream]
	settled       atomic.Bool
	grace         *time.Timer
}

// Server serves every proxy of this replica.
type Server struct {
	cache    *cache.Cache
	keyer    Keyer
	demander Demander
	recorder Recorder
	limits   Limits
	grace    time.Duration
	log      *slog.Logger

	shared shared
	ready  queue
	bulk   chan struct{}
	done   sync.WaitGroup

	mu      sync.Mutex
	proxies map[proxyID]*proxy
	byKey   map[scope.Key]*keyed
}

// keyed is the streams of a key, of which there is one, and the snapshot that they were told of last.
type keyed struct {
	streams []*stream // in no order; each knows its place
	told    *cache.Snapshot
}

// pushWorkers send for all streams.
const pushWorkers = 2

// New starts the workers; Close ends them. The Server becomes the cache's watcher.
func New(cfg Config) *Server {
	s := &Server{
		cache: cfg.Cache, keyer: cfg.Keyer, demander: cfg.Demander, recorder: cfg.Recorder,
		limits: cfg.Limits.withDefaults(), grace: cfg.Grace, log: cfg.Log,
		bulk:    make(chan struct{}, bulkSlots),
		proxies: map[proxyID]*proxy{}, byKey: map[scope.Key]*keyed{},
	}
	if s.grace == 0 {
		s.grace = Grace
	}
	if s.log == nil {
		s.log = slog.Default()
	}
	s.ready.cond.L = &s.ready.mu
	cfg.Cache.Watch(s.published)
	for range pushWorkers {
		s.done.Go(s.work)
	}
	return s
}

// Close ends the workers. The streams must have been closed before.
func (s *Server) Close() {
	s.ready.close()
	s.done.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.proxies {
		p.grace.Stop()
	}
}

// published: a key has another snapshot.
func (s *Server) published(key scope.Key) {
	snap := s.cache.Snapshot(key)
	s.recorder.Record(acks.Event{Kind: acks.Published, At: time.Now(), Key: key, Sets: snap.Sets()})
	s.mu.Lock()
	var streams []*stream
	if of := s.byKey[key]; of != nil {
		changed := changedLanes(of.told, snap)
		of.told = snap
		for _, st := range of.streams {
			if st.concerned(changed) {
				streams = append(streams, st)
			}
		}
	}
	s.mu.Unlock()
	s.wake(streams...) // together: the workers would fight with each one for the queue
}

// Keys are those that live streams have.
func (s *Server) Keys() []scope.Key {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]scope.Key, 0, len(s.byKey))
	for k := range s.byKey {
		out = append(out, k)
	}
	return out
}

// Rekey is to be called after a new mesh: every live stream's key is found
// again. A pod that is no longer known keeps its key until its stream ends.
func (s *Server) Rekey() {
	s.mu.Lock()
	var streams []*stream
	for _, of := range s.byKey {
		streams = append(streams, of.streams...)
	}
	s.mu.Unlock()
	for _, st := range streams {
		key, err := s.keyer.KeyFor(st.node)
		if err != nil || key == st.who().Key {
			continue
		}
		s.rekey(st, key)
	}
}

func (s *Server) rekey(st *stream, key scope.Key) {
	s.mu.Lock()
	if st.left {
		s.mu.Unlock()
		return
	}
	s.unindex(st)
	if st.proxy.onDemand.Load() != nil {
		// What it uses must be in the new snapshot first; one that has asked for nothing uses nothing.
		st.proxy.settled.Store(false) // before anybody can see the snapshot
		st.proxy.grace.Reset(s.grace)
	}
	asked := st.setKey(key)
	s.index(st)
	s.mu.Unlock()
	s.record(st, acks.Event{Kind: acks.Rekeyed})
	s.demander.Demand(key, asked, true)
	s.wake(st)
}

// index and unindex want s.mu.
func (s *Server) index(st *stream) {
	key := st.who().Key
	of := s.byKey[key]
	if of == nil {
		of = &keyed{}
		s.byKey[key] = of
	}
	st.place, of.streams = len(of.streams), append(of.streams, st)
}

func (s *Server) unindex(st *stream) {
	key := st.who().Key
	of := s.byKey[key]
	last := len(of.streams) - 1
	moved := of.streams[last]
	of.streams[st.place], moved.place = moved, st.place
	of.streams[last] = nil
	if of.streams = of.streams[:last]; last == 0 {
		delete(s.byKey, key)
	}
}

// enter pairs a new stream; an older one of the same kind is replaced.
func (s *Server) enter(st *stream) {
	s.mu.Lock()
	id := proxyID{identity: st.node.Identity, node: st.node.ID}
	p := s.proxies[id]
	if p == nil {
		p = &proxy{id: id}
		p.settled.Store(st.who().Kind == gatewayKind)
		p.grace = time.AfterFunc(s.grace, func() { s.settle(p) })
		s.proxies[id] = p
	}
	st.proxy = p
	slot := p.slot(st)
	old := slot.Swap(st)
	if old != nil {
		old.left = true
		s.unindex(old)
	}
	s.index(st)
	s.mu.Unlock()
	if old != nil {
		old.replaced.Store(true)
		s.log.Info("stream replaced by a newer one of the same proxy", "proxy", st.who().Name)
	}
}

func (p *proxy) slot(st *stream) *atomic.Pointer[stream] {
	if st.onDemand {
		return &p.onDemand
	}
	return &p.ads
}

// leave reports whether the stream was its proxy's current one.
func (s *Server) leave(st *stream) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st.left {
		return false
	}
	st.left = true
	s.unindex(st)
	p := st.proxy
	p.slot(st).Store(nil)
	if p.ads.Load() == nil && p.onDemand.Load() == nil {
		p.grace.Stop()
		delete(s.proxies, p.id)
	}
	return true
}

// settle lets removals go out.
func (s *Server) settle(p *proxy) {
	s.mu.Lock()
	p.settled.Store(true)
	s.mu.Unlock()
	for _, st := range []*stream{p.ads.Load(), p.onDemand.Load()} {
		if st != nil {
			s.wake(st)
		}
	}
}

func (s *Server) record(st *stream, e acks.Event) {
	e.At, e.Proxy = time.Now(), *st.who()
	s.recorder.Record(e)
}
