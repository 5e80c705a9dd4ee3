package scope

import (
	"cmp"
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

// resolve says what is behind an address, and the backend where there is one.
func resolve(mesh *model.Mesh, address netip.AddrPort) (Destination, *model.Backend) {
	ip := address.Addr()
	if !ip.IsValid() || ip.IsUnspecified() || ip.IsLoopback() || ip.IsMulticast() || address.Port() == 0 {
		return Destination{Address: address, Kind: Refused}, nil
	}
	if s, found := mesh.ServicesByAddress.Get(ip); found {
		for _, p := range s.Ports {
			if p.Port == address.Port() {
				return carried(address, p.Backend), &p.Backend
			}
		}
		return Destination{Address: address, Kind: Refused}, nil
	}
	if pod, found := mesh.PodsByAddress.Get(ip); found {
		return resolvePod(mesh, address, pod)
	}
	if inside(mesh.Settings.CIDRs, ip) {
		return Destination{Address: address, Kind: PassDestination}, nil
	}
	return Destination{Address: address, Kind: Refused}, nil
}

func resolvePod(mesh *model.Mesh, address netip.AddrPort, pod *model.Pod) (Destination, *model.Backend) {
	if pod.InMesh {
		switch address.Port() {
		case outboundPort, virtualPort, detectPort, inboundPort:
			return Destination{Address: address, Kind: Refused}, nil
		case plainPort:
			// Not captured at the receiver: a meshed Prometheus reads metrics there.
			return Destination{Address: address, Kind: PassDestination}, nil
		}
	}
	b := podBackend(mesh, address, pod)
	return carried(address, b), &b
}

// podBackend is one pod, reached by its own address. What it speaks there and
// how it is to be treated has been compiled into its ports.
func podBackend(mesh *model.Mesh, address netip.AddrPort, pod *model.Pod) model.Backend {
	b := model.Backend{
		Ref: model.BackendRef{Address: address},
		Endpoints: []model.Endpoint{{
			Address: address, Zone: pod.Zone, Pod: pod.Name, MTLS: takesMTLS(mesh, pod, address.Port()),
		}},
		Traffic: pod.Traffic,
		Origins: []report.Origin{pod.Origin},
	}
	if pod.InMesh {
		b.Identities = identities(mesh.Settings, pod)
	}
	for _, p := range pod.Ports {
		if p.Port == address.Port() {
			b.Protocol, b.Traffic = p.Protocol, p.Traffic
		}
	}
	return b
}

// takesMTLS reports whether a pod's port takes mesh mutual TLS.
func takesMTLS(mesh *model.Mesh, pod *model.Pod, port uint16) bool {
	if !pod.InMesh || slices.Contains(pod.Uncaptured, port) {
		return false
	}
	w, found := mesh.Workloads.Get(pod.Key)
	if !found {
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
func carried(address netip.AddrPort, b model.Backend) Destination {
	d := Destination{Address: address, Backend: b.Ref, Kind: DetectDestination}
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

func inside(cidrs []netip.Prefix, ip netip.Addr) bool {
	return slices.ContainsFunc(cidrs, func(p netip.Prefix) bool { return p.Contains(ip) })
}

func compareRefs(a, b model.BackendRef) int {
	return cmp.Or(a.Service.Compare(b.Service), cmp.Compare(a.Port, b.Port), a.Address.Compare(b.Address))
}
