package scope

import (
	"net/netip"
	"slices"

	"github.com/meshd-io/meshd/pkg/identity"
	"github.com/meshd-io/meshd/pkg/model"
)

// Of is what proxies of key may see of the mesh, given what they have asked
// for. It always answers: a workload without pods sees what one with pods would.
func Of(mesh *model.Mesh, key Key, demand Demand) *View {
	view := &View{Key: key, Settings: mesh.Settings, Trust: mesh.Trust, Identity: identityOf(mesh, key)}
	backends := backendSet{mesh: mesh, found: map[model.BackendRef]model.Backend{}}
	if key.Kind == model.GatewayProxy {
		gateway := key
		gateway.PodCertificate = false // however its pods have their certificates
		view.Gateway, _ = mesh.Gateways.Get(gateway)
		backends.addGateway(view.Gateway)
		view.Backends = backends.sorted()
		return view
	}
	view.Inbound, view.Rest = inbound(mesh, key)
	if mesh.Settings.ScopeAll {
		demand, _ = demand.With(All(mesh).addresses...).Promote()
	}
	for _, address := range demand.addresses {
		d, backend := resolve(mesh, address)
		d.Promoted = d.Kind == HTTPDestination && demand.hasPromoted(address)
		view.Destinations = append(view.Destinations, d)
		if backend != nil {
			backends.found[backend.Ref] = *backend
		}
		for _, r := range d.Routes {
			backends.addRoute(r)
		}
	}
	view.Backends = backends.sorted()
	return view
}

// Resolve says how connections to an address are carried, without asking for it.
func Resolve(mesh *model.Mesh, address netip.AddrPort) Destination {
	d, _ := resolve(mesh, plain(address))
	return d
}

func identityOf(mesh *model.Mesh, key Key) string {
	if w, found := mesh.Workloads.Get(key); found {
		return w.Identity
	}
	id, err := identity.New(mesh.Settings.TrustDomain, key.Namespace, key.ServiceAccount)
	if err != nil {
		return ""
	}
	return id.String()
}

func inbound(mesh *model.Mesh, key Key) ([]model.InboundPort, model.InboundPort) {
	if w, found := mesh.Workloads.Get(key); found {
		return w.Ports, w.Rest
	}
	return nil, model.InboundPort{Protocol: model.TCP, Authz: model.Authz{DefaultDeny: true}}
}

// backendSet collects what routes refer to.
type backendSet struct {
	mesh  *model.Mesh
	found map[model.BackendRef]model.Backend
}

func (b backendSet) addGateway(g *model.Gateway) {
	if g == nil {
		return
	}
	for _, l := range g.Listeners {
		for _, h := range l.Hosts {
			for _, r := range h.Routes {
				b.addRoute(r)
			}
		}
	}
}

func (b backendSet) addRoute(r model.Route) {
	for _, w := range r.Backends {
		s, found := b.mesh.Services.Get(w.Ref.Service)
		if !found {
			continue
		}
		for _, p := range s.Ports {
			if p.Backend.Ref == w.Ref {
				b.found[w.Ref] = p.Backend
			}
		}
	}
}

func (b backendSet) sorted() []model.Backend {
	var out []model.Backend
	for _, backend := range b.found {
		out = append(out, backend)
	}
	slices.SortFunc(out, func(x, y model.Backend) int { return compareRefs(x.Ref, y.Ref) })
	return out
}
