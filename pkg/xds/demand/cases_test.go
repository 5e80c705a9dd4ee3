package demand

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/xds/scope"
)

// TestComesBack: a proxy that was away keeps its seat, and what it comes back
// with is not in use because of that.
func TestComesBack(t *testing.T) {
	w := newWorld(Config{Retention: 24 * time.Hour, Limit: 100})
	w.names = 1000
	asker, p := w.start(workloads[0]), w.start(workloads[0])
	w.connect(asker, 0)
	w.ask(asker, addresses(0, 1), false)
	w.connect(p, 0)
	w.proxies = w.proxies[1:] // the one that had asked
	w.step(30 * time.Hour)
	p.replica = -1
	w.step(time.Hour)
	before := p.key
	w.connect(p, 0)
	fresh := w.start(workloads[0])
	w.connect(fresh, 0)
	if p.key != before || fresh.key == before || len(fresh.holds) != 0 {
		t.Errorf("it sat at %v and sits at %v; a new one at %v starts with %v", before, p.key, fresh.key, fresh.holds)
	}
}

// TestStillConnected: a proxy whose pod is gone already loses nothing while its stream lasts.
func TestStillConnected(t *testing.T) {
	b := New(Config{})
	key, _ := b.Seat("sidecar~shop/a", "", workloads[0])
	b.Ask(key, addresses(0, 1), false)
	gone := func(string) bool { return false }
	b.Sweep(Live{Exists: gone, Proxies: []Proxy{{Node: "sidecar~shop/a", Key: key}}})
	if len(b.seats) != 1 {
		t.Error("it has no seat")
	}
	b.Sweep(Live{Exists: gone})
	if len(b.seats) != 0 {
		t.Error("its seat is kept")
	}
}

// TestFewEpochs: however often something ages, an epoch lasts for a quarter of the retention.
func TestFewEpochs(t *testing.T) {
	w := newWorld(Config{Retention: 24 * time.Hour, Limit: 100})
	w.names = 1000
	keys := map[scope.Key]bool{}
	for h := range 96 {
		stays, goes := w.start(workloads[0]), w.start(workloads[0])
		w.connect(stays, 0)
		keys[stays.key] = true
		w.connect(goes, 0)
		w.ask(goes, addresses(h, h+1), false)
		w.proxies = w.proxies[:len(w.proxies)-1]
		w.step(time.Hour)
		w.check(t, "hourly")
	}
	if n := len(keys); n < 8 || n > 13 {
		t.Errorf("%d epochs in four days", n)
	}
}

// TestRelabelled: what its workload had just asked for is promoted under its new key too.
func TestRelabelled(t *testing.T) {
	b := New(Config{Limit: 2})
	b.Seat("sidecar~shop/a", "", workloads[0])
	b.Ask(workloads[0], addresses(0, 2), false)
	b.Ask(workloads[1], addresses(2, 4), false) // no room for more
	key, _ := b.Seat("sidecar~shop/a", "", workloads[1])
	b.Promote()
	if d := b.Of(key); key == workloads[1] || !d.HasPromoted(address(0)) || !d.HasPromoted(address(1)) {
		t.Errorf("%v has %v", key, d)
	}
}

// TestKeep: what the scope All has given stays with who was given it, promoted,
// and takes no room from what is asked for.
func TestKeep(t *testing.T) {
	w := newWorld(Config{Retention: 24 * time.Hour, Limit: 2})
	p := w.start(workloads[0])
	w.connect(p, 0)
	w.ask(p, addresses(0, 1), false)
	if changed := w.books[0].Keep(addresses(0, 50)); len(changed) != 1 || changed[0] != p.key {
		t.Errorf("%v", changed)
	}
	fresh := w.start(workloads[0])
	w.connect(fresh, 0)
	if len(fresh.holds) != 1 || !fresh.holds[address(0)] {
		t.Errorf("a new one starts with %v", fresh.holds)
	}
	w.ask(p, addresses(60, 61), false)
	if d := w.books[0].Of(p.key); w.refused || d.Len() != 51 || !d.HasPromoted(address(49)) {
		t.Errorf("refused: %t; %d destinations", w.refused, d.Len())
	}
	if w.books[0].Keep(addresses(0, 50)); w.books[0].workloads[workloads[0]].newest.key == fresh.key {
		t.Error("the next one would be given it all")
	}
}

// TestRebuilt: what proxies come back with after a restart is in use at that
// moment, and promoted; beyond the limit too, as far as two replicas can have given it.
func TestRebuilt(t *testing.T) {
	w := newWorld(Config{Retention: 24 * time.Hour, Limit: 10})
	b, key := w.books[0], workloads[0]
	for _, tt := range []struct {
		from, to, refused int
		held              bool
	}{{0, 15, 0, true}, {15, 16, 1, false}, {14, 22, 2, true}} {
		if _, refused := b.Ask(key, addresses(tt.from, tt.to), tt.held); len(refused) != tt.refused {
			t.Errorf("%+v: refused %v", tt, refused)
		}
	}
	news, _ := b.News(0)
	if len(news) != 20 || slices.ContainsFunc(news, func(u Use) bool { return u.Last != w.now.UnixMilli() || u.Workload != key }) {
		t.Errorf("%+v", news)
	}
	if _, moved := b.Of(key).Promote(); moved {
		t.Error("not promoted")
	}
}

func TestPromote(t *testing.T) {
	b, key := New(Config{}), workloads[0]
	b.Ask(key, addresses(0, 2), false)
	b.Learn([]Use{{Workload: workloads[1], Destination: address(0), Last: time.Now().UnixMilli()}})
	if got := b.Promote(); len(got) != 2 || !b.Of(key).HasPromoted(address(1)) || !b.Of(workloads[1]).HasPromoted(address(0)) {
		t.Errorf("%v", got)
	}
	if got := b.Promote(); len(got) != 0 {
		t.Errorf("again: %v", got)
	}
}

// TestRoomLater: what a scanner leaves behind is forgotten. A proxy that was
// given all of it holds it, and there is room for those that start later.
func TestRoomLater(t *testing.T) {
	w := newWorld(Config{Retention: 24 * time.Hour, Limit: 10})
	w.names = 1000
	scanner, p := w.start(workloads[0]), w.start(workloads[0])
	w.connect(p, 0)
	w.connect(scanner, 0)
	w.ask(scanner, addresses(0, 10), false)
	w.proxies = w.proxies[1:]
	w.ask(p, addresses(50, 51), false)
	if !w.refused {
		t.Error("let in")
	}
	w.step(26 * time.Hour)
	w.refused = false
	fresh := w.start(workloads[0])
	w.connect(fresh, 0)
	w.ask(fresh, addresses(50, 51), false)
	if w.refused || len(fresh.holds) != 1 {
		t.Errorf("refused: %t, it holds %v", w.refused, fresh.holds)
	}
}

// TestRefusedForNow: who waits for what was refused gets it when there is room, without asking again.
func TestRefusedForNow(t *testing.T) {
	w := newWorld(Config{Retention: 24 * time.Hour, Limit: 10})
	w.names = 1000
	asker, p := w.start(workloads[0]), w.start(workloads[0])
	w.connect(asker, 0)
	w.ask(asker, addresses(0, 1), false)
	w.connect(p, 0)
	w.proxies = w.proxies[1:]
	w.step(30 * time.Hour) // p sits in an epoch of its own now
	scanner := w.start(workloads[0])
	w.connect(scanner, 0)
	w.ask(scanner, addresses(20, 30), false)
	w.ask(p, addresses(50, 51), false)
	if !w.refused || p.holds[address(50)] {
		t.Error("let in")
	}
	w.proxies = w.proxies[:1]
	w.step(30 * time.Hour)
	if w.take(p); !p.holds[address(50)] {
		t.Errorf("%v", p.holds)
	}
}

func TestLearn(t *testing.T) {
	now := time.Unix(1e9, 0)
	clock := func() time.Time { return now }
	other := scope.Key{Kind: model.GatewayProxy, Namespace: "shop", ServiceAccount: "g"}
	for name, tt := range map[string]struct {
		use  Use
		want int64 // 0: not taken
	}{
		"new":               {Use{workloads[0], address(1), now.UnixMilli() - 5}, now.UnixMilli() - 5},
		"newer":             {Use{workloads[0], address(0), now.UnixMilli()}, now.UnixMilli()},
		"older":             {Use{workloads[0], address(0), now.UnixMilli() - 3600_000}, now.UnixMilli() - 60_000},
		"too old":           {Use{workloads[0], address(1), now.Add(-Retention).UnixMilli()}, 0},
		"its clock is fast": {Use{workloads[0], address(1), now.UnixMilli() + 1e6}, now.UnixMilli()},
		"of a gateway":      {Use{other, address(1), now.UnixMilli()}, 0},
		"as IPv6":           {Use{workloads[0], netip.MustParseAddrPort("[::ffff:10.0.0.0]:80"), now.UnixMilli()}, now.UnixMilli()},
	} {
		t.Run(name, func(t *testing.T) {
			b := New(Config{Now: clock})
			now = now.Add(-time.Minute)
			b.Ask(workloads[0], addresses(0, 1), false)
			now = now.Add(time.Minute)
			_, revision := b.News(0)
			b.Learn([]Use{tt.use})
			got := int64(0)
			all, _ := b.News(0)
			for _, u := range all {
				if u.Workload == tt.use.Workload && u.Destination == scope.Plain(tt.use.Destination) {
					got = u.Last
				}
			}
			if got != tt.want {
				t.Errorf("last used %d, want %d", got, tt.want)
			}
			news, _ := b.News(revision)
			if changed := tt.want != 0 && name != "older"; (len(news) == 1) != changed {
				t.Errorf("news: %+v", news)
			}
		})
	}
}

func TestChanged(t *testing.T) {
	b := New(Config{})
	changed := b.Changed()
	b.Ask(workloads[0], addresses(0, 1), false)
	<-changed
	changed = b.Changed()
	b.Ask(workloads[0], addresses(0, 1), false)
	select {
	case <-changed:
		t.Error("nothing has changed")
	default:
	}
}
