package scope

import (
	"net/netip"
	"slices"

	"github.com/meshd-io/meshd/pkg/identity"
	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/report"
)

// The ports of a meshed pod that are the proxy's own.
const (
	outboundPort = 15001
	virtualPort  = 15002
	detectPort   = 15003
	inboundPort  = 15006
	plainPort    = 15021
)

// defaultRoute is the name of the route that a destination has without any route object.
const defaultRoute = "default"

// Resolve says what is behind an address for the clients of a namespace.
func (s Sight) Resolve(address netip.AddrPort, client string) *Destination {
	address = Plain(address)
	ip := address.Addr()
	refused := &Destination{Address: address, Kind: Refused}
	if !ip.IsValid() || ip.IsUnspecified() || ip.IsLoopback() || ip.IsMulticast() || address.Port() == 0 {
		return refused
	}
	if service := s.ServiceAt(ip); service != nil {
		for i := range service.Ports {
			if p := &service.Ports[i]; p.Port == address.Port() {
				return s.routed(carried(address, &p.Backend), service.Name, client)
			}
		}
		return refused
	}
	if pod := s.PodAt(ip); pod != nil {
		return s.resolvePod(address, pod)
	}
	if inside(s.Settings().CIDRs, ip) {
		return &Destination{Address: address, Kind: PassDestination}
	}
	return refused
}

// Known is false for an address that is one of the mesh's, and nobody's: a
// Service or a pod may be there of which the mesh has not heard yet.
func Known(mesh *model.Mesh, address netip.AddrPort) bool {
	ip := Plain(address).Addr()
	_, service := mesh.ServicesByAddress.Get(ip)
	_, pod := mesh.PodsByAddress.Get(ip)
	return service || pod || !inside(mesh.Settings.CIDRs, ip)
}

func (s Sight) resolvePod(address netip.AddrPort, pod *model.Pod) *Destination {
	if pod.InMesh {
		switch address.Port() {
		case outboundPort, virtualPort, detectPort, inboundPort:
			return &Destination{Address: address, Kind: Refused}
		case plainPort:
			// Not captured at the receiver: a meshed Prometheus reads metrics there.
			return &Destination{Address: address, Kind: PassDestination}
		}
	}
	return carried(address, s.podBackend(address, pod))
}

// podBackend is one pod, reached by its own address. What it speaks there and
// how it is to be treated has been compiled into its ports.
func (s Sight) podBackend(address netip.AddrPort, pod *model.Pod) *model.Backend {
	b := &model.Backend{
		Ref: model.BackendRef{Address: address},
		Endpoints: []model.Endpoint{{
			Address: address, Zone: pod.Zone, Pod: pod.Name, MTLS: s.takesMTLS(pod, address.Port()),
		}},
		Traffic: *pod.Traffic,
		Origins: []report.Origin{pod.Origin},
	}
	if pod.InMesh {
		b.Identities = identities(s.Settings(), pod)
	}
	for _, p := range pod.Ports {
		if p.Port == address.Port() {
			b.Protocol, b.Traffic = p.Protocol, *p.Traffic
		}
	}
	return b
}

// takesMTLS reports whether a pod's port takes mesh mutual TLS.
func (s Sight) takesMTLS(pod *model.Pod, port uint16) bool {
	if !pod.InMesh || slices.Contains(pod.Uncaptured, port) {
		return false
	}
	w := s.Workload(pod.Key)
	if w == nil {
		return true
	}
	for _, p := range w.Ports {
		if p.Port == port {
			return p.Mode != model.Disable
		}
	}
	return w.Rest.Mode != model.Disable
}

// identities are the pod's, in the trust domain and its aliases, sorted.
func identities(s model.Settings, pod *model.Pod) []string {
	var out []string
	for _, td := range append([]string{s.TrustDomain}, s.TrustDomainAliases...) {
		if id, err := identity.New(td, pod.Name.Namespace, pod.ServiceAccount); err == nil {
			out = append(out, id.String())
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// carried is a destination with a backend behind it.
func carried(address netip.AddrPort, b *model.Backend) *Destination {
	d := &Destination{Address: address, Backend: b.Ref, Kind: DetectDestination, Backends: []*model.Backend{b}}
	switch {
	case b.Protocol == model.TCP:
		d.Kind = TCPDestination
		return d
	case b.Protocol.IsHTTP():
		d.Kind = HTTPDestination
	}
	d.Routes = []model.Route{{
		Name:     defaultRoute,
		Match:    model.RouteMatch{PathMatch: model.PathPrefix, Path: "/"},
		Backends: []model.WeightedBackend{{Ref: b.Ref, Weight: 1}},
		Traffic:  b.Traffic,
		Origins:  b.Origins,
	}}
	return d
}

// routed is a destination of a Service, with the routes that are attached to it:
// the client's own, and otherwise the Service's.
func (s Sight) routed(d *Destination, service model.Name, client string) *Destination {
	if d.Kind == TCPDestination {
		return d
	}
	var routing *model.PortRouting
	if client != "" {
		routing = s.Routing(model.RoutingKey{Service: service, Client: client}).At(d.Address.Port())
	}
	if routing == nil {
		routing = s.Routing(model.RoutingKey{Service: service}).At(d.Address.Port())
	}
	if routing == nil {
		return d
	}
	d.Routes, d.Attached = routing.Routes, routing.Origins
	refs := refsOf(routing.Routes)
	slices.SortFunc(refs, compareRefs)
	for _, ref := range slices.Compact(refs) {
		if b := s.Backend(ref); b != nil && ref != d.Backend {
			d.Backends = append(d.Backends, b)
		}
	}
	slices.SortFunc(d.Backends, func(a, b *model.Backend) int { return compareRefs(a.Ref, b.Ref) })
	return d
}

func inside(cidrs []netip.Prefix, ip netip.Addr) bool {
	return slices.ContainsFunc(cidrs, func(p netip.Prefix) bool { return p.Contains(ip) })
}
