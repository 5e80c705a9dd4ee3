package demand

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/meshd-io/meshd/pkg/xds/scope"
)

func address(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 80)
}

func addresses(from, to int) (out []netip.AddrPort) {
	for i := from; i < to; i++ {
		out = append(out, address(i))
	}
	return out
}

var workloads = []scope.Key{{Namespace: "shop", ServiceAccount: "a"}, {Namespace: "shop", ServiceAccount: "b"}}

// envoy is a proxy as far as a Book sees it: it never forgets a name that it has
// asked for, and loses what its key is not given any more.
type envoy struct {
	node, uid string
	workload  scope.Key
	replica   int // -1: not connected
	key       scope.Key
	holds     map[netip.AddrPort]bool
	asked     map[netip.AddrPort]bool
}

// world is two replicas of meshd, and proxies.
type world struct {
	now     time.Time
	cfg     Config
	books   [2]*Book
	heard   [2]uint64 // by the other one
	proxies []*envoy
	born    int
	names   int // of pods: they come again
	// refused: a Book has refused something, so that proxies may lose what they held.
	refused bool
}

func newWorld(cfg Config) *world {
	w := &world{now: time.Unix(1e9, 0), cfg: cfg, names: 7}
	w.cfg.Now = func() time.Time { return w.now }
	w.books = [2]*Book{New(w.cfg), New(w.cfg)}
	return w
}

func (w *world) start(of scope.Key) *envoy {
	w.born++
	p := &envoy{
		node: fmt.Sprint("sidecar~shop/", w.born%w.names), uid: fmt.Sprint(w.born), workload: of, replica: -1,
		holds: map[netip.AddrPort]bool{}, asked: map[netip.AddrPort]bool{},
	}
	w.proxies = slices.DeleteFunc(w.proxies, func(q *envoy) bool { return q.node == p.node }) // its pod is made anew
	w.proxies = append(w.proxies, p)
	return p
}

func (w *world) connect(p *envoy, replica int) {
	p.replica = replica
	p.key, _ = w.books[replica].Seat(p.node, p.uid, p.workload)
	w.ask(p, slices.Collect(maps.Keys(p.holds)), true)
	w.take(p)
	for a := range p.asked { // its on-demand stream
		w.ask(p, []netip.AddrPort{a}, p.holds[a])
	}
	w.take(p)
}

func (w *world) ask(p *envoy, as []netip.AddrPort, held bool) {
	if !held {
		for _, a := range as {
			p.asked[a] = true
		}
	}
	_, refused := w.books[p.replica].Ask(p.key, as, held)
	w.refused = w.refused || len(refused) > 0
	w.take(p)
}

// take has a proxy take what its key is given.
func (w *world) take(p *envoy) {
	for a := range w.books[p.replica].Of(p.key).All() {
		p.holds[a] = true
	}
}

func (w *world) relabel(p *envoy, to scope.Key) {
	p.workload = to
	if p.replica >= 0 { // as Server.Rekey
		p.key, _ = w.books[p.replica].Seat(p.node, p.uid, to)
		w.ask(p, slices.Collect(maps.Keys(p.asked)), true)
	}
}

func (w *world) sweep(replica int) Swept {
	live := Live{Exists: func(node string) bool {
		return slices.ContainsFunc(w.proxies, func(p *envoy) bool { return p.node == node })
	}}
	for _, p := range w.proxies {
		if p.replica == replica {
			live.Proxies = append(live.Proxies, Proxy{Node: p.node, Key: p.key, Destinations: slices.Collect(maps.Keys(p.asked))})
		}
	}
	return w.books[replica].Sweep(live)
}

func (w *world) exchange() {
	for range 2 { // what one has learnt goes back
		for i, b := range w.books {
			var news []Use
			news, w.heard[i] = b.News(w.heard[i])
			w.books[1-i].Learn(news)
		}
	}
}

// step advances the clock, and sweeps as often as a meshd does.
func (w *world) step(d time.Duration) {
	for until := w.now.Add(d); w.now.Before(until); {
		w.now = w.now.Add(min(until.Sub(w.now), w.cfg.Retention/steps))
		w.sweep(0)
		w.sweep(1)
	}
}

// epochs fails if there are more than proxies have, and the newest.
func (w *world) epochs(t *testing.T, when string) {
	t.Helper()
	for i, b := range w.books {
		for _, wl := range b.workloads {
			if len(wl.epochs) > 1+len(b.seats) {
				t.Fatalf("%s: replica %d has %d epochs for %d proxies", when, i, len(wl.epochs), len(b.seats))
			}
		}
	}
}

func (w *world) pick(r *rand.Rand) *envoy {
	if len(w.proxies) == 0 {
		return w.start(workloads[0])
	}
	return w.proxies[r.IntN(len(w.proxies))]
}

// connected is a new one.
func (w *world) connected() *envoy {
	p := w.start(workloads[0])
	w.connect(p, 0)
	return p
}

func (w *world) random(r *rand.Rand) string {
	p := w.pick(r)
	switch n := r.IntN(20); {
	case n < 3:
		w.connect(w.start(workloads[r.IntN(2)]), r.IntN(2))
		return "start"
	case n < 10:
		if p.replica < 0 {
			w.connect(p, r.IntN(2))
			return "connect"
		}
		w.ask(p, []netip.AddrPort{address(r.IntN(30))}, false)
		return "ask"
	case n < 12:
		p.replica = -1
		return "disconnect"
	case n < 14:
		w.connect(p, r.IntN(2))
		return "move"
	case n < 15:
		w.proxies = slices.DeleteFunc(w.proxies, func(q *envoy) bool { return q == p })
		return "gone"
	case n < 16:
		w.relabel(p, workloads[r.IntN(2)])
		return "relabel"
	case n < 17:
		w.books[0].Promote()
		w.books[1].Promote()
		return "promote"
	case n < 18 && r.IntN(4) == 0:
		i := r.IntN(2)
		w.books[i], w.heard[i], w.heard[1-i] = New(w.cfg), 0, 0
		for _, p := range w.proxies {
			if p.replica == i {
				p.replica = -1
			}
		}
		return "restart"
	case n < 19:
		w.exchange()
		return "exchange"
	}
	w.step(w.cfg.Retention * time.Duration(r.IntN(20)) / 40)
	return "step"
}

// check holds every live proxy to what it must have.
func (w *world) check(t *testing.T, when string) {
	t.Helper()
	for _, p := range w.proxies {
		if p.replica < 0 {
			continue
		}
		given := w.books[p.replica].Of(p.key)
		for a := range p.holds {
			if !given.Has(a) && !w.refused {
				t.Fatalf("%s: %s of %v has lost %s", when, p.node, p.key, a)
			}
		}
		for a := range p.asked {
			if !given.Has(a) && !w.refused {
				t.Fatalf("%s: %s of %v waits for %s", when, p.node, p.key, a)
			}
		}
		w.take(p)
	}
	for i, b := range w.books {
		for _, wl := range b.workloads {
			if len(wl.used) > heldFactor*w.cfg.Limit {
				t.Fatalf("%s: replica %d remembers %d", when, i, len(wl.used))
			}
			if got := wl.newest.demand.Len(); got != len(wl.used) {
				t.Fatalf("%s: a new proxy starts with %d, %d are used", when, got, len(wl.used))
			}
			for _, e := range wl.epochs {
				if n := e.demand.Len(); n > heldFactor*w.cfg.Limit {
					t.Fatalf("%s: replica %d gives %d", when, i, n)
				}
			}
		}
	}
}

// remembered is what a replica has that is younger than the retention.
func (w *world) remembered(i int) map[Use]bool {
	out := map[Use]bool{}
	news, _ := w.books[i].News(0)
	for _, u := range news {
		if w.now.UnixMilli()-u.Last < w.cfg.Retention.Milliseconds() {
			out[u] = true
		}
	}
	return out
}

// TestRandomWalk: whatever comes, no live proxy loses what it holds or asks
// for, both replicas come to the same, bounds hold, and nothing stays for ever.
func TestRandomWalk(t *testing.T) {
	for _, limit := range []int{100, 6} {
		for seed := range uint64(20) {
			t.Run(fmt.Sprint(limit, "/", seed), func(t *testing.T) {
				r := rand.New(rand.NewPCG(seed, 7))
				w := newWorld(Config{Retention: time.Hour, Limit: limit})
				for i := range 400 {
					w.check(t, fmt.Sprint(i, " ", w.random(r)))
				}
				w.sweep(0)
				w.sweep(1)
				w.epochs(t, "at the end")
				w.ask(w.connected(), addresses(0, 1), false)
				if limit == 100 {
					if w.refused {
						t.Fatal("refused, though there was room")
					}
					w.exchange()
					if a, b := w.remembered(0), w.remembered(1); !maps.Equal(a, b) || len(a) == 0 {
						t.Errorf("one remembers %v, the other %v", a, b)
					}
				}
				w.proxies = nil
				w.step(2 * w.cfg.Retention)
				for _, b := range w.books {
					if len(b.workloads)+len(b.seats)+len(b.unmoved) > 0 {
						t.Errorf("left: %v, %v, %v", b.workloads, b.seats, b.unmoved)
					}
				}
			})
		}
	}
}

// TestRollingWorkload: a workload that always has a live proxy forgets what
// nobody asks for any more; who was given it keeps it.
func TestRollingWorkload(t *testing.T) {
	w := newWorld(Config{Retention: 24 * time.Hour, Limit: 100})
	w.names = 1000
	of := workloads[0]
	first := w.start(of)
	w.connect(first, 0)
	w.ask(first, addresses(0, 2), false)
	second := w.start(of)
	w.connect(second, 0) // starts with both, and asks for one
	w.ask(second, addresses(1, 2), false)
	w.proxies = slices.DeleteFunc(w.proxies, func(p *envoy) bool { return p == first })
	for h := range 60 {
		w.step(time.Hour)
		w.exchange()
		w.check(t, fmt.Sprint("hour ", h))
		fresh := w.start(of)
		w.connect(fresh, h%2)
		if forgotten := !fresh.holds[address(0)]; forgotten != (h >= 24) && h != 23 {
			t.Errorf("hour %d: forgotten is %t", h, forgotten)
		}
		if !fresh.holds[address(1)] {
			t.Errorf("hour %d: what is in use is forgotten", h)
		}
		w.proxies = w.proxies[:len(w.proxies)-1]
	}
	if !w.books[0].Of(second.key).Has(address(0)) {
		t.Error("a live proxy has lost what it was given")
	}
}
