package scope

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/meshd-io/meshd/pkg/identity"
	"github.com/meshd-io/meshd/pkg/model"
)

// Sight is what a View is made from: look-ups in a mesh, nil where there is
// nothing. Whoever gives them can note which of them a View rests on.
type Sight struct {
	Settings  func() model.Settings
	Workload  func(Key) *model.Workload
	Gateway   func(Key) *model.Gateway
	Service   func(model.Name) *model.Service
	ServiceAt func(netip.Addr) *model.Service
	PodAt     func(netip.Addr) *model.Pod
	// Routing of a Service that routes are attached to.
	Routing func(model.RoutingKey) *model.Routing
}

// SightOf a whole mesh.
func SightOf(mesh *model.Mesh) Sight {
	return Sight{
		Settings:  func() model.Settings { return mesh.Settings },
		Workload:  look(mesh.Workloads),
		Gateway:   look(mesh.Gateways),
		Service:   look(mesh.Services),
		ServiceAt: look(mesh.ServicesByAddress),
		PodAt:     look(mesh.PodsByAddress),
		Routing:   look(mesh.Routings),
	}
}

func look[K, V comparable](m model.Map[K, V]) func(K) V {
	return func(k K) V {
		v, _ := m.Get(k)
		return v
	}
}

// Of is what proxies of key may see of the mesh, given what they have asked
// for. It always answers: a workload without pods sees what one with pods would.
func Of(mesh *model.Mesh, key Key, demand Demand) *View {
	s := SightOf(mesh)
	view := s.Own(key)
	view.Trust = mesh.Trust
	if key.Kind == model.GatewayProxy {
		for _, ref := range Refs(view.Gateway) {
			if b := s.Backend(ref); b != nil {
				view.Backends = append(view.Backends, b)
			}
		}
		return view
	}
	if mesh.Settings.ScopeAll {
		demand = demand.And(All(mesh))
	}
	for _, address := range demand.addresses {
		d := s.Resolve(address, key.Namespace)
		view.Destinations = append(view.Destinations, d)
		if d.Kind == HTTPDestination && demand.HasPromoted(address) {
			view.Promoted = append(view.Promoted, address)
		}
	}
	return view
}

// Resolve says how connections of a namespace's clients to an address are
// carried, without asking for it.
func Resolve(mesh *model.Mesh, address netip.AddrPort, client string) *Destination {
	return SightOf(mesh).Resolve(address, client)
}

// Own is what a proxy sees of its own: a View without destinations, backends and trust.
func (s Sight) Own(key Key) *View {
	key = key.Workload()
	settings := s.Settings()
	view := &View{Key: key, Settings: settings}
	if id, err := identity.New(settings.TrustDomain, key.Namespace, key.ServiceAccount); err == nil {
		view.Identity = id.String()
	}
	if key.Kind == model.GatewayProxy {
		key.PodCertificate = false // however its pods have their certificates
		view.Gateway = s.Gateway(key)
		return view
	}
	view.Rest = model.InboundPort{Protocol: model.TCP, Authz: model.Authz{DefaultDeny: true}}
	if w := s.Workload(key); w != nil {
		view.Identity, view.Inbound, view.Rest = w.Identity, w.Ports, w.Rest
	}
	return view
}

// Backend finds a Service's; nil is none.
func (s Sight) Backend(ref model.BackendRef) *model.Backend {
	service := s.Service(ref.Service)
	if service == nil {
		return nil
	}
	for i := range service.Ports {
		if service.Ports[i].Backend.Ref == ref {
			return &service.Ports[i].Backend
		}
	}
	return nil
}

// Refs are the backends that a gateway names, whether they exist or not, sorted.
func Refs(g *model.Gateway) []model.BackendRef {
	if g == nil {
		return nil
	}
	var out []model.BackendRef
	for _, l := range g.Listeners {
		for _, h := range l.Hosts {
			out = append(out, refsOf(h.Routes)...)
		}
	}
	slices.SortFunc(out, compareRefs)
	return slices.Compact(out)
}

// refsOf are the backends that routes name, in no order.
func refsOf(routes []model.Route) []model.BackendRef {
	var out []model.BackendRef
	for _, r := range routes {
		for _, b := range r.Backends {
			out = append(out, b.Ref)
		}
		for _, m := range r.Mirrors {
			out = append(out, m.Ref)
		}
	}
	return out
}

func compareRefs(a, b model.BackendRef) int {
	return cmp.Or(a.Service.Compare(b.Service), cmp.Compare(a.Port, b.Port), a.Address.Compare(b.Address))
}
