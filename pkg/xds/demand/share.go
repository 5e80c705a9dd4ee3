package demand

import (
	"net/netip"

	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/xds/scope"
)

// Use is when a proxy of a workload last subscribed to a destination, in
// milliseconds since 1970. Replicas of meshd tell each other: each keeps the
// newest of what it has seen and heard, so that they come to the same.
type Use struct {
	Workload    scope.Key
	Destination netip.AddrPort
	Last        int64
}

// News gives what has been used since a revision, 0 for all of it, and the
// revision to ask from the next time.
func (b *Book) News(since uint64) (news []Use, revision uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for of, w := range b.workloads {
		if w.revision <= since {
			continue
		}
		for a, u := range w.used {
			if u.revision > since {
				news = append(news, Use{Workload: of, Destination: a, Last: u.last})
			}
		}
	}
	return news, b.revision
}

// Changed gives a channel that is closed when there is news.
func (b *Book) Changed() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.changed
}

// Learn takes what another replica tells, as far as there is room for it, and
// gives the keys whose demand has changed.
func (b *Book) Learn(news []Use) (changed []scope.Key) {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.tell()
	now := b.now()
	fresh := map[*workload][]netip.AddrPort{}
	for _, n := range news {
		last := min(n.Last, now) // its clock may be ahead
		if n.Workload.Kind != model.Sidecar || now-last >= b.cfg.Retention.Milliseconds() {
			continue
		}
		w, a := b.at(n.Workload.Workload()), scope.Plain(n.Destination)
		u, known := w.used[a]
		switch {
		case known && u.last < last:
			b.use(w, a, last)
		case !known && len(w.used) < b.cfg.Limit:
			b.use(w, a, last)
			fresh[w] = append(fresh[w], a)
		}
	}
	for w, addresses := range fresh {
		if b.give(w.newest, addresses...) {
			changed = append(changed, w.newest.key)
		}
	}
	return changed
}
