package acks

import (
	"sync"
	"unique"

	"github.com/meshd-io/meshd/pkg/xds/envoy"
	"github.com/meshd-io/meshd/pkg/xds/scope"
)

// points are where the connected proxies of a Ledger stand: those of one key
// that hold the same are as far as each other with every object.
type points struct {
	once sync.Once
	keys []scope.Key
	of   [][]*point // of each of the keys
}

// point is where some proxies stand.
type point struct {
	held    holdings
	proxies []*entry // in no order, but for the first: that with the lowest name
}

// stand gives the points of a Ledger.
func (l Ledger) stand() *points {
	if l.points == nil {
		return &points{}
	}
	l.points.once.Do(l.gather)
	return l.points
}

func (l Ledger) gather() {
	type place struct {
		workload unique.Handle[workload]
		held     holdings
	}
	at := map[place]*point{}
	for _, n := range l.proxies.All() {
		if !n.live() {
			continue
		}
		here := place{n.workload, n.held}
		p := at[here]
		if p == nil {
			p = &point{held: n.held}
			at[here] = p
		}
		p.proxies = append(p.proxies, n)
		if last := len(p.proxies) - 1; n.name < p.proxies[0].name {
			p.proxies[0], p.proxies[last] = p.proxies[last], p.proxies[0]
		}
	}
	index := map[scope.Key]int{}
	for here, p := range at {
		key := here.workload.Value().key
		i, there := index[key]
		if !there {
			i = len(index)
			index[key] = i
			l.points.keys, l.points.of = append(l.points.keys, key), append(l.points.of, nil)
		}
		l.points.of[i] = append(l.points.of[i], p)
	}
}

// Keys are those of connected proxies, each once, in an order of this Ledger's. Read only.
func (l Ledger) Keys() []scope.Key { return l.stand().keys }

// starting: listeners come last. Before them it is not known yet what else a
// proxy that has just connected wants, or holds from before.
func (p *point) starting() bool {
	return p.held[indexOf(envoy.ListenerType)] == unique.Handle[holding]{}
}

// holds is the version of a resource that the proxies have acknowledged, and
// whether they want it. Listeners and clusters are for everyone, asked for or not
// yet; so are secrets, which a proxy asks for only once it has what names them.
func (p *point) holds(r Resource) (version string, subscribes bool) {
	if h := p.held[indexOf(r.Type)]; h != (unique.Handle[holding]{}) {
		if held := h.Value().held; held != nil {
			version, subscribes = held.Version(r.Name)
		}
	}
	everyone := r.Type == envoy.ListenerType || r.Type == envoy.ClusterType || r.Type == envoy.SecretType
	return version, subscribes || everyone || p.starting()
}
