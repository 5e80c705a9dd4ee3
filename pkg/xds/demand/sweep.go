package demand

import (
	"net/netip"

	"github.com/meshd-io/meshd/pkg/xds/scope"
)

// Proxy is a live one.
type Proxy struct {
	Node string
	Key  scope.Key
	// Destinations that it subscribes to. Proxies may share the list.
	Destinations []netip.AddrPort
}

// Live is what the server and the mesh know.
type Live struct {
	Proxies []Proxy
	// Exists reports whether a node's pod is in the mesh, though its proxy may not be connected.
	Exists func(node string) bool
	// Stays reports whether no new epoch may follow the key's now; nil is never.
	Stays func(scope.Key) bool
}

// Swept is what a Sweep has done.
type Swept struct {
	// Changed are keys whose demand has changed.
	Changed []scope.Key
	// Ended are keys that nobody has any more.
	Ended []scope.Key
}

// Sweep notes what is in use now, and forgets what has not been for the
// retention. It is to be called much more often than that.
func (b *Book) Sweep(live Live) Swept {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.tell()
	var out Swept
	b.unseat(live)
	out.Changed = b.refresh(live.Proxies)
	for of, w := range b.workloads {
		if aged := b.aged(w); len(aged) > 0 {
			out.Changed = append(out.Changed, b.forget(w, aged, live.Stays)...)
		}
		out.Ended = append(out.Ended, b.end(of, w)...)
	}
	return out
}

// Keep has the proxies that are there keep destinations that they were given
// without anybody's demand, by the scope All, and that those to come are not. It
// gives the keys whose demand has changed.
func (b *Book) Keep(given []netip.AddrPort) (changed []scope.Key) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, w := range b.workloads {
		used := w.newest.demand
		for _, e := range w.epochs {
			before := e.demand.Len()
			if e.seats == 0 || !b.give(e, given...) {
				continue
			}
			b.promote(e)
			e.kept += e.demand.Len() - before
			changed = append(changed, e.key)
		}
		if w.newest.kept > 0 {
			w.newest = b.open(w, used)
		}
	}
	return changed
}

// unseat frees the seats of pods that are gone.
func (b *Book) unseat(live Live) {
	alive := make(map[string]bool, len(live.Proxies))
	for _, p := range live.Proxies {
		alive[p.Node] = true
	}
	for node, s := range b.seats {
		if !alive[node] && !live.Exists(node) {
			b.find(s.key).seats--
			delete(b.seats, node)
		}
	}
}

// refresh notes what live proxies subscribe to; what was refused for want of room is tried again.
func (b *Book) refresh(proxies []Proxy) (changed []scope.Key) {
	type subscription struct {
		key   scope.Key
		first *netip.AddrPort
		n     int
	}
	seen := map[subscription]bool{}
	for _, p := range proxies {
		e := b.find(p.Key)
		if e == nil || len(p.Destinations) == 0 {
			continue
		}
		this := subscription{p.Key, &p.Destinations[0], len(p.Destinations)}
		if !seen[this] {
			seen[this] = true
			keys, _ := b.ask(b.workloads[p.Key.Workload()], e, p.Destinations, false)
			changed = append(changed, keys...)
		}
	}
	return changed
}

// aged are the destinations of a workload that have not been in use for the retention.
func (b *Book) aged(w *workload) (out []netip.AddrPort) {
	until := b.now() - b.cfg.Retention.Milliseconds()
	for a, u := range w.used {
		if u.last <= until {
			out = append(out, a)
		}
	}
	return out
}

// forget takes destinations out of what a new proxy starts with.
func (b *Book) forget(w *workload, aged []netip.AddrPort, stays func(scope.Key) bool) (changed []scope.Key) {
	e := w.newest
	if e.seats > 0 && (b.cfg.Now().Sub(e.since) < b.cfg.Retention*stepsPerEpoch/steps || stays != nil && stays(e.key)) {
		return nil
	}
	for _, a := range aged {
		delete(w.used, a)
	}
	left := e.demand.Without(aged...)
	if e.seats > 0 {
		w.newest = b.open(w, left)
		return nil // nobody has it yet
	}
	e.demand = left
	return []scope.Key{e.key}
}

// end ends the epochs without proxies, and the workload with the last of them when nothing of it is known.
func (b *Book) end(of scope.Key, w *workload) (ended []scope.Key) {
	for number, e := range w.epochs {
		if e.seats == 0 && e != w.newest {
			ended = append(ended, e.key)
			delete(b.unmoved, e)
			delete(w.epochs, number)
		}
	}
	if len(w.epochs) == 1 && w.newest.seats == 0 && len(w.used) == 0 {
		ended = append(ended, w.newest.key)
		delete(b.unmoved, w.newest)
		delete(b.workloads, of)
	}
	return ended
}
