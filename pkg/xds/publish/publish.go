package publish

import (
	"net/netip"
	"slices"

	"github.com/meshd-io/meshd/pkg/memo"
	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/report"
	"github.com/meshd-io/meshd/pkg/xds/cache"
	"github.com/meshd-io/meshd/pkg/xds/envoy"
	"github.com/meshd-io/meshd/pkg/xds/scope"
)

// Publisher publishes for the keys that it has been told of. It belongs to one goroutine.
type Publisher struct {
	cache *cache.Cache
	mesh  *model.Mesh
	graph *memo.Graph

	settings memo.Input[struct{}, model.Settings]
	trust    memo.Input[struct{}, model.Trust]
	demand   memo.Input[scope.Key, scope.Demand]
	// everything is what Services lead to; it is kept only while the scope is All.
	everything memo.Input[struct{}, scope.Demand]

	workloads  *memo.Table[scope.Key, *model.Workload]
	gateways   *memo.Table[scope.Key, *model.Gateway]
	services   *memo.Table[model.Name, *model.Service]
	servicesAt *memo.Table[netip.Addr, *model.Service]
	podsAt     *memo.Table[netip.Addr, *model.Pod]
	routings   *memo.Table[model.RoutingKey, *model.Routing]
	consumed   *memo.Table[string, *model.Consumed]

	published int
	findings  []report.Finding
}

// part names the part of a translation that is a sidecar's destination; keys share it.
type part struct {
	address        netip.AddrPort
	podCertificate bool
	// client is the namespace that has routes of its own to the destination; "" is any other.
	client string
}

// behind names the part that is a gateway's backend.
type behind struct {
	backend        model.BackendRef
	podCertificate bool
}

// place is an address as the clients of a namespace see it; "" are those without routes of their own.
type place struct {
	address netip.AddrPort
	client  string
}

// New publishes nothing yet.
func New(c *cache.Cache) *Publisher {
	g := memo.NewGraph()
	p := &Publisher{
		cache: c, mesh: &model.Mesh{}, graph: g,
		settings:   memo.NewInput[struct{}, model.Settings](g),
		trust:      memo.NewInput[struct{}, model.Trust](g),
		demand:     memo.NewInput[scope.Key, scope.Demand](g),
		everything: memo.NewInput[struct{}, scope.Demand](g),
	}
	p.workloads = lookUp(g, func() model.Map[scope.Key, *model.Workload] { return p.mesh.Workloads })
	p.gateways = lookUp(g, func() model.Map[scope.Key, *model.Gateway] { return p.mesh.Gateways })
	p.services = lookUp(g, func() model.Map[model.Name, *model.Service] { return p.mesh.Services })
	p.servicesAt = lookUp(g, func() model.Map[netip.Addr, *model.Service] { return p.mesh.ServicesByAddress })
	p.podsAt = lookUp(g, func() model.Map[netip.Addr, *model.Pod] { return p.mesh.PodsByAddress })
	p.routings = lookUp(g, func() model.Map[model.RoutingKey, *model.Routing] { return p.mesh.Routings })
	p.consumed = lookUp(g, func() model.Map[string, *model.Consumed] { return p.mesh.Consumed })
	p.translations()
	return p
}

// lookUp are the values of the mesh that anyone has read; they are told apart by their pointers.
func lookUp[K, V comparable](g *memo.Graph, current func() model.Map[K, V]) *memo.Table[K, V] {
	t := memo.NewTable(g, func(_ *memo.Run, key K) (V, bool) { return current().Get(key) })
	t.Compare(func(a, b V) bool { return a == b })
	return t
}

// translations are the tables from the mesh to the cache.
func (p *Publisher) translations() {
	destinations := memo.NewTable(p.graph, func(r *memo.Run, at place) (*scope.Destination, bool) {
		return p.sight(r).Resolve(at.address, at.client), true
	})
	backends := memo.NewTable(p.graph, func(r *memo.Run, ref model.BackendRef) (*model.Backend, bool) {
		b := p.sight(r).Backend(ref)
		return b, b != nil
	})
	destination := func(r *memo.Run, of part) *scope.Destination {
		return read(r, destinations, place{of.address, of.client})
	}
	frames := p.frames(destination)
	parts := memo.NewTable(p.graph, func(r *memo.Run, of part) (*cache.Translation, bool) {
		return p.filled(read(r, frames, of), destination(r, of)), true
	})
	parts.Compare(never)
	behinds := memo.NewTable(p.graph, func(r *memo.Run, of behind) (*cache.Translation, bool) {
		b, ok := backends.Get(r, of.backend)
		if !ok {
			return nil, false
		}
		return p.check(envoy.Backend(b, of.podCertificate)), true
	})
	behinds.Compare(never)
	addresses := memo.NewTable(p.graph, func(r *memo.Run, key scope.Key) (scope.Demand, bool) {
		d, ok := p.demand.Get(r, key)
		if s, _ := p.settings.Get(r, struct{}{}); s.ScopeAll {
			all, _ := p.everything.Get(r, struct{}{})
			d = d.And(all)
		}
		return d, ok && key.Kind != model.GatewayProxy
	})
	views := p.views(destinations, backends, addresses)
	bases := memo.NewTable(p.graph, func(r *memo.Run, key scope.Key) (*cache.Translation, bool) {
		v, _ := views.Get(r, key)
		resources, findings := envoy.Base(v)
		r.Tell(findings...)
		return p.check(resources), true
	})
	bases.Compare(never)
	destined := p.shares(addresses, parts)
	whole := memo.NewTable(p.graph, func(r *memo.Run, key scope.Key) ([]*cache.Translation, bool) {
		if _, ok := p.demand.Get(r, key); !ok {
			return nil, false
		}
		backends := read(r, views, key).Backends
		all := make([]*cache.Translation, 0, 1+read(r, addresses, key).Len()+len(backends))
		all = destined(r, key, append(all, read(r, bases, key)))
		for _, b := range backends {
			all = append(all, read(r, behinds, behind{b.Ref, key.PodCertificate}))
		}
		return all, true
	})
	whole.Compare(slices.Equal)
	memo.Follow(whole, p.demand.Table)
	whole.Watch(func(key scope.Key, _ []*cache.Translation, _ bool, parts []*cache.Translation, is bool) {
		if is {
			p.published++
			p.cache.PublishParts(key, parts)
		} else {
			p.cache.Remove(key)
		}
	})
}

// views are Views without destinations, and with no more than the references
// of backends: endpoints that change do not change them.
func (p *Publisher) views(
	destinations *memo.Table[place, *scope.Destination], backends *memo.Table[model.BackendRef, *model.Backend],
	addresses *memo.Table[scope.Key, scope.Demand],
) *memo.Table[scope.Key, *scope.View] {
	http := memo.NewTable(p.graph, func(r *memo.Run, a netip.AddrPort) (struct{}, bool) {
		return struct{}{}, read(r, destinations, place{address: a}).Kind == scope.HTTPDestination
	})
	exists := memo.NewTable(p.graph, func(r *memo.Run, ref model.BackendRef) (struct{}, bool) {
		_, ok := backends.Get(r, ref)
		return struct{}{}, ok
	})
	return memo.NewTable(p.graph, func(r *memo.Run, key scope.Key) (*scope.View, bool) {
		v := p.sight(r).Own(key)
		v.Trust, _ = p.trust.Get(r, struct{}{})
		for a := range read(r, addresses, key).Promoted() {
			if _, ok := http.Get(r, a); ok {
				v.Promoted = append(v.Promoted, a)
			}
		}
		for _, ref := range scope.Refs(v.Gateway) {
			if _, ok := exists.Get(r, ref); ok {
				v.Backends = append(v.Backends, &model.Backend{Ref: ref})
			}
		}
		return v, true
	})
}

// clients tells at which addresses a namespace's clients have routes of their own.
func (p *Publisher) clients(r *memo.Run, namespace string) func(netip.AddrPort) string {
	consumed := read(r, p.consumed, namespace)
	return func(a netip.AddrPort) string {
		if consumed == nil {
			return ""
		}
		if s := read(r, p.servicesAt, a.Addr()); s == nil || !consumed.Has(s.Name) {
			return ""
		}
		return namespace
	}
}

func (p *Publisher) check(rs envoy.Resources) *cache.Translation {
	t := p.cache.Check(rs)
	return &t
}

// never has a value replaced each time, and leaves it to the cache to compare.
func never(_, _ *cache.Translation) bool { return false }

// sight notes what is looked at.
func (p *Publisher) sight(r *memo.Run) scope.Sight {
	return scope.Sight{
		Settings:  func() model.Settings { return read(r, p.settings.Table, struct{}{}) },
		Workload:  func(k scope.Key) *model.Workload { return read(r, p.workloads, k) },
		Gateway:   func(k scope.Key) *model.Gateway { return read(r, p.gateways, k) },
		Service:   func(n model.Name) *model.Service { return read(r, p.services, n) },
		ServiceAt: func(a netip.Addr) *model.Service { return read(r, p.servicesAt, a) },
		PodAt:     func(a netip.Addr) *model.Pod { return read(r, p.podsAt, a) },
		Routing:   func(k model.RoutingKey) *model.Routing { return read(r, p.routings, k) },
	}
}

func read[K comparable, V any](r *memo.Run, t *memo.Table[K, V], key K) V {
	v, _ := t.Get(r, key)
	return v
}

// Mesh makes a mesh the newest. It costs as much as differs from the one before.
func (p *Publisher) Mesh(mesh *model.Mesh) {
	old := p.mesh
	p.mesh = mesh
	p.settings.Set(struct{}{}, mesh.Settings)
	p.trust.Set(struct{}{}, mesh.Trust)
	invalidate(p.workloads, mesh.Workloads, old.Workloads)
	invalidate(p.gateways, mesh.Gateways, old.Gateways)
	invalidate(p.services, mesh.Services, old.Services)
	invalidate(p.servicesAt, mesh.ServicesByAddress, old.ServicesByAddress)
	invalidate(p.podsAt, mesh.PodsByAddress, old.PodsByAddress)
	invalidate(p.routings, mesh.Routings, old.Routings)
	invalidate(p.consumed, mesh.Consumed, old.Consumed)
	switch {
	case !mesh.Settings.ScopeAll:
		p.everything.Delete(struct{}{})
	case !old.Settings.ScopeAll || leadElsewhere(mesh, old):
		p.everything.Set(struct{}{}, scope.All(mesh))
	}
}

func invalidate[K, V comparable](t *memo.Table[K, V], now, before model.Map[K, V]) {
	for k := range now.Changes(before) {
		t.Invalidate(k)
	}
}

// leadElsewhere reports whether any Service leads to other addresses than before.
func leadElsewhere(mesh, old *model.Mesh) bool {
	for name := range mesh.Services.Changes(old.Services) {
		s, now := mesh.Services.Get(name)
		t, before := old.Services.Get(name)
		if now != before || !slices.Equal(scope.Leads(s), scope.Leads(t)) {
			return true
		}
	}
	return false
}

// Want has a key published, with the destinations that it demands.
func (p *Publisher) Want(key scope.Key, d scope.Demand) { p.demand.Set(key, d) }

// Drop forgets a key.
func (p *Publisher) Drop(key scope.Key) { p.demand.Delete(key) }

// Publish brings the cache up to date, and reports how many keys have been published.
func (p *Publisher) Publish() int {
	p.published = 0
	p.graph.Update()
	if p.graph.Retold() {
		p.findings = report.Sort(p.graph.Findings())
	}
	return p.published
}

// Findings are those of the translations that are published, sorted.
func (p *Publisher) Findings() []report.Finding { return p.findings }
