package main

import (
	"fmt"
	"net/netip"

	"github.com/meshd-io/meshd/pkg/xds/demand"
	"github.com/meshd-io/meshd/pkg/xds/scope"
	"github.com/meshd-io/meshd/pkg/xds/server"
)

// liveProxies are those of this replica (server.Server).
type liveProxies interface {
	// Rekey has every live proxy's key found again.
	Rekey()
	InUse() []server.InUse
	Deny(key scope.Key, destinations []netip.AddrPort, why string)
}

type nobody struct{}

func (nobody) Rekey()                                   {}
func (nobody) InUse() []server.InUse                    { return nil }
func (nobody) Deny(scope.Key, []netip.AddrPort, string) {}

// denial is an answer that proxies of a key wait for.
type denial struct {
	key          scope.Key
	destinations []netip.AddrPort
}

// KeyFor gives a proxy its key, and sees to it that something is published for it.
func (p *pipeline) KeyFor(node scope.Node) (scope.Key, error) {
	mesh := p.mesh.Load()
	if mesh == nil {
		return scope.Key{}, scope.ErrUnknownPod
	}
	workload, err := scope.KeyFor(mesh, node)
	if err != nil {
		return scope.Key{}, err
	}
	uid := ""
	if pod := scope.PodOf(mesh, node.ID); pod != nil {
		uid = pod.UID
	}
	key, changed := p.demand.Seat(node.ID, uid, workload)
	p.mu.Lock()
	_, known := p.active[key]
	if !known {
		p.active[key] = &activeKey{dirty: true}
	}
	p.mu.Unlock()
	p.mark(changed)
	if !known {
		p.poke()
	}
	return key, nil
}

// Demand implements server.Demander.
func (p *pipeline) Demand(key scope.Key, addresses []netip.AddrPort, held bool) {
	if held {
		addresses = p.demanded(addresses)
	}
	changed, refused := p.demand.Ask(key, addresses, held)
	p.mark(changed)
	if len(refused) > 0 {
		p.mu.Lock()
		p.denied = append(p.denied, denial{key, refused})
		p.mu.Unlock()
		p.poke()
	}
}

// demanded are the destinations that are not there without being demanded: the
// scope All gives every proxy what Services lead to, and each comes back with all of it.
func (p *pipeline) demanded(addresses []netip.AddrPort) []netip.AddrPort {
	mesh := p.mesh.Load()
	if mesh == nil || !mesh.Settings.ScopeAll {
		return addresses
	}
	var out []netip.AddrPort
	for _, a := range addresses {
		if _, service := mesh.ServicesByAddress.Get(a.Addr()); !service {
			out = append(out, a)
		}
	}
	return out
}

// Learn takes what another replica knows to be in use.
func (p *pipeline) Learn(news []demand.Use) { p.mark(p.demand.Learn(news)) }

// mark has the demand of keys published.
func (p *pipeline) mark(keys []scope.Key) {
	any := false
	p.mu.Lock()
	for _, key := range keys {
		if a := p.active[key]; a != nil {
			a.dirty, any = true, true
		}
	}
	p.mu.Unlock()
	if any {
		p.poke()
	}
}

// deny answers what there was no room for.
func (p *pipeline) deny() {
	p.mu.Lock()
	denied := p.denied
	p.denied = nil
	p.mu.Unlock()
	for _, d := range denied {
		p.proxies.Deny(d.key, d.destinations, fmt.Sprintf(
			"more than %d destinations in use by the workload; refused: %s", demand.Limit, d.destinations[0]))
	}
}

// sweep notes what is in use, and forgets what has not been for long. turning is held.
func (p *pipeline) sweep() {
	mesh := p.mesh.Load()
	if mesh == nil {
		return
	}
	live := demand.Live{
		Exists: func(node string) bool { return scope.PodOf(mesh, node) != nil },
		Stays:  func(key scope.Key) bool { return p.cache.Snapshot(key).HasAside() },
	}
	for _, u := range p.proxies.InUse() {
		live.Proxies = append(live.Proxies, demand.Proxy(u))
	}
	swept := p.demand.Sweep(live)
	p.mark(swept.Changed)
	if len(swept.Ended) == 0 {
		return
	}
	p.mu.Lock()
	for _, key := range swept.Ended {
		if p.demand.Has(key) { // a proxy has come in this moment
			continue
		}
		delete(p.active, key)
		p.publisher.Drop(key)
	}
	p.mu.Unlock()
	p.mark(swept.Ended)
	p.poke()
}
