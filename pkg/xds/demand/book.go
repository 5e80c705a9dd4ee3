package demand

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/xds/scope"
)

const (
	// Retention is how long a destination that no live proxy subscribes to is remembered.
	Retention = 24 * time.Hour
	// Limit of one workload's destinations: twice a proxy's.
	Limit = 4000
	// heldFactor times the limit is what proxies may come back with.
	heldFactor = 2
	// steps of a retention: last uses are known to within one of them.
	steps = 24
	// stepsPerEpoch: epochs of a workload begin at least so far apart.
	stepsPerEpoch = 6
)

// Config of a Book. A zero field takes its default.
type Config struct {
	// Retention; default Retention.
	Retention time.Duration
	// Limit of one workload's destinations; default Limit.
	Limit int
	// Now is the clock; default time.Now.
	Now func() time.Time
}

// Book is the demand of every workload. It may be used by many goroutines.
type Book struct {
	cfg Config

	mu        sync.Mutex
	workloads map[scope.Key]*workload // by the key of epoch 0
	seats     map[string]seat         // by node ID
	unmoved   map[*epoch]bool         // have destinations that are not promoted
	revision  uint64
	told      uint64        // the revision at which changed was last closed
	changed   chan struct{} // closed and replaced when there is news
}

type workload struct {
	// used is what a new proxy starts with: the newest epoch's demand.
	used     map[netip.AddrPort]use
	revision uint64 // of the newest use
	epochs   map[uint32]*epoch
	newest   *epoch
	numbers  uint32 // of epochs, so far
}

// use is when a live proxy last subscribed to a destination, in milliseconds since 1970.
type use struct {
	last     int64
	revision uint64
}

// epoch is what some of a workload's proxies are given.
type epoch struct {
	key    scope.Key
	since  time.Time
	demand scope.Demand
	seats  int
	// kept of the demand are beside the limit.
	kept int
}

// seat is where a proxy sits; another pod of the same name is another one.
type seat struct {
	uid string
	key scope.Key
}

// New is empty.
func New(cfg Config) *Book {
	if cfg.Retention == 0 {
		cfg.Retention = Retention
	}
	if cfg.Limit == 0 {
		cfg.Limit = Limit
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Book{
		cfg: cfg, workloads: map[scope.Key]*workload{}, seats: map[string]seat{}, unmoved: map[*epoch]bool{}, changed: make(chan struct{}),
	}
}

// Of is what the proxies of a key are to be given.
func (b *Book) Of(key scope.Key) scope.Demand {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e := b.find(key); e != nil {
		return e.demand
	}
	return scope.Demand{}
}

// Has reports whether a key may be given to proxies.
func (b *Book) Has(key scope.Key) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.find(key) != nil
}

// Seat is the key of a proxy of a workload: the newest epoch's for one that is
// new, and for one that was here before the one that it had. One whose workload
// has got another key, as when a selector looks at another label, takes along
// what its former one has used: changed are the keys whose demand has got more.
func (b *Book) Seat(node, uid string, of scope.Key) (key scope.Key, changed []scope.Key) {
	if of.Kind != model.Sidecar {
		return of, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	old, seated := b.seats[node]
	if seated && old.uid == uid && old.key.Workload() == of {
		return old.key, nil
	}
	w := b.at(of)
	e := w.newest
	if seated {
		former := b.find(old.key)
		if old.uid == uid {
			e, changed = b.follow(w, former)
		}
		former.seats--
	}
	e.seats++
	b.seats[node] = seat{uid, e.key}
	b.tell()
	return e.key, changed
}

// follow gives an epoch that has all of another workload's: a proxy of it has moved here.
func (b *Book) follow(w *workload, former *epoch) (e *epoch, changed []scope.Key) {
	var more []netip.AddrPort
	for a, u := range b.workloads[former.key.Workload()].used {
		if _, known := w.used[a]; !known && len(w.used) < b.cfg.Limit {
			b.use(w, a, u.last)
			more = append(more, a)
		}
	}
	if b.give(w.newest, more...) {
		changed = []scope.Key{w.newest.key}
	}
	if w.newest.demand.Covers(former.demand) {
		return w.newest, changed
	}
	for _, e := range w.epochs {
		if e.demand.Covers(former.demand) {
			return e, changed
		}
	}
	e = b.open(w, former.demand)
	e.kept = former.kept
	return e, changed
}

// open begins an epoch. It is the newest only if the caller makes it so.
func (b *Book) open(w *workload, d scope.Demand) *epoch {
	key := w.newest.key
	key.Epoch = w.numbers
	w.numbers++
	e := &epoch{key: key, since: b.cfg.Now(), demand: d}
	w.epochs[key.Epoch] = e
	b.unmoved[e] = true
	return e
}

// at finds a workload, or makes it.
func (b *Book) at(of scope.Key) *workload {
	w := b.workloads[of]
	if w == nil {
		first := &epoch{key: of, since: b.cfg.Now()}
		w = &workload{used: map[netip.AddrPort]use{}, epochs: map[uint32]*epoch{0: first}, newest: first, numbers: 1}
		b.workloads[of] = w
	}
	return w
}

// find gives the epoch of a key; nil is none.
func (b *Book) find(key scope.Key) *epoch {
	if w := b.workloads[key.Workload()]; w != nil {
		return w.epochs[key.Epoch]
	}
	return nil
}

// give adds destinations to what the proxies of an epoch have, and reports whether any was new.
func (b *Book) give(e *epoch, addresses ...netip.AddrPort) bool {
	next := e.demand.With(addresses...)
	if next.Len() == e.demand.Len() {
		return false
	}
	e.demand, b.unmoved[e] = next, true
	return true
}

// use notes a use.
func (b *Book) use(w *workload, a netip.AddrPort, at int64) {
	b.revision++
	w.used[a] = use{last: at, revision: b.revision}
	w.revision = b.revision
}

func (b *Book) now() int64 { return b.cfg.Now().UnixMilli() }

// Ask adds destinations that a proxy of a key asks for, or has come back with:
// those that it holds are promoted, as its listener has them. It gives the keys
// whose demand has changed, and what is refused.
func (b *Book) Ask(key scope.Key, addresses []netip.AddrPort, held bool) (changed []scope.Key, refused []netip.AddrPort) {
	if len(addresses) == 0 || key.Kind != model.Sidecar {
		return nil, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	w := b.at(key.Workload())
	e := w.epochs[key.Epoch]
	if e == nil { // its epoch has ended: its pod is gone, and its stream is about to be
		e = w.newest
	}
	changed, refused = b.ask(w, e, addresses, held)
	b.tell()
	return changed, refused
}

func (b *Book) ask(w *workload, e *epoch, addresses []netip.AddrPort, held bool) (changed []scope.Key, refused []netip.AddrPort) {
	now, limit := b.now(), b.cfg.Limit
	if held {
		limit *= heldFactor
	}
	var here, newest []netip.AddrPort
	hereRoom, room := limit+e.kept-e.demand.Len(), limit-len(w.used)
	for _, a := range addresses {
		a = scope.Plain(a)
		_, used := w.used[a]
		given := used && e == w.newest || e.demand.Has(a)
		if !used && given && held {
			continue // it holds what it was given: nobody has asked for it
		}
		if !given && hereRoom <= 0 || !used && room <= 0 {
			refused = append(refused, a)
			continue
		}
		if !given {
			here = append(here, a)
			hereRoom--
		}
		if !used {
			newest = append(newest, a)
			room--
		}
		if !used || !held && now-w.used[a].last >= b.step() {
			b.use(w, a, now)
		}
	}
	if b.give(w.newest, newest...) {
		changed = append(changed, w.newest.key)
	}
	moved := b.give(e, here...)
	if held {
		moved = b.promote(e) || moved
	}
	if moved && !slices.Contains(changed, e.key) {
		changed = append(changed, e.key)
	}
	return changed, refused
}

// step is to within what last uses are known.
func (b *Book) step() int64 { return max(1, b.cfg.Retention.Milliseconds()/steps) }

func (b *Book) promote(e *epoch) (moved bool) {
	delete(b.unmoved, e)
	e.demand, moved = e.demand.Promote()
	return moved
}

// Promote moves what has come since the last time into the listeners, and gives the keys whose demand has changed.
func (b *Book) Promote() (changed []scope.Key) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for e := range b.unmoved {
		if b.promote(e) {
			changed = append(changed, e.key)
		}
	}
	return changed
}

// tell wakes those who wait for news.
func (b *Book) tell() {
	if b.told == b.revision {
		return
	}
	b.told = b.revision
	close(b.changed)
	b.changed = make(chan struct{})
}
