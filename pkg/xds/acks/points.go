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
	once  sync.Once
	byKey []keyPoints
}

type keyPoints struct {
	key    scope.Key
	points []*point
}

// point is where some proxies stand.
type point struct {
	held    holdings
	proxies []*entry // in no order, but for the first: that with the lowest name
}

// keys are those of connected proxies, with their points.
func (l Ledger) keys() []keyPoints {
	if l.points == nil {
		return nil
	}
	l.points.once.Do(func() { l.points.byKey = l.gather() })
	return l.points.byKey
}

func (l Ledger) gather() []keyPoints {
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
	var out []keyPoints
	index := map[scope.Key]int{}
	for here, p := range at {
		key := here.workload.Value().key
		i, there := index[key]
		if !there {
			i = len(out)
			index[key] = i
			out = append(out, keyPoints{key: key})
		}
		out[i].points = append(out[i].points, p)
	}
	return out
}

// Keys are those of connected proxies, each once, in no order.
func (l Ledger) Keys() []scope.Key {
	all := l.keys()
	out := make([]scope.Key, len(all))
	for i, k := range all {
		out[i] = k.key
	}
	return out
}

// starting: listeners come last. Before them it is not known yet what else a
// proxy that has just connected wants, or holds from before.
func (p *point) starting() bool {
	return p.held[indexOf(envoy.ListenerType)] == unique.Handle[holding]{}
}

// holds is the version of a resource that the proxies have acknowledged, and
// whether they want it. Listeners and clusters are for everyone, asked for or not
// yet; so are secrets, which a proxy asks for only once it has what names them.
func (p *point) holds(r Resource) (version string, subscribes bool) {
	everyone := r.Type == envoy.ListenerType || r.Type == envoy.ClusterType || r.Type == envoy.SecretType || p.starting()
	if h := p.held[indexOf(r.Type)]; h != (unique.Handle[holding]{}) {
		if held := h.Value().held; held != nil {
			v, ok := held.Version(r.Name)
			return v, ok || everyone
		}
	}
	return "", everyone
}
