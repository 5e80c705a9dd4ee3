package services

import (
	"cmp"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/meshd-io/meshd/pkg/compile/object"
	"github.com/meshd-io/meshd/pkg/crds"
	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/report"
)

// endpoint is an address behind a Service's port, in any condition.
type endpoint struct {
	address netip.AddrPort
	ready   bool
	// draining: it is ending and still serves.
	draining bool
	zone     string
	pod      *Pod // nil where the address is no pod's
}

// workloadEndpoints are a Workload object's: no controller makes slices for it.
func workloadEndpoints(pod *Pod, port uint16) []endpoint {
	var out []endpoint
	for _, a := range pod.Addresses {
		out = append(out, endpoint{address: netip.AddrPortFrom(a, port), ready: true, zone: pod.Zone, pod: pod})
	}
	return out
}

// takeSlices adds the endpoints of EndpointSlices to their Services.
func (inv *Inventory) takeSlices(snap *crds.Snapshot) []report.Finding {
	var fs []report.Finding
	for _, slice := range snap.EndpointSlices {
		s := inv.byName[model.Name{Namespace: slice.Namespace, Name: slice.Labels[discoveryv1.LabelServiceName]}]
		if s == nil || slice.AddressType == discoveryv1.AddressTypeFQDN {
			continue
		}
		for i := range slice.Endpoints {
			f := inv.takeEndpoint(s, slice, &slice.Endpoints[i])
			fs = append(fs, f...)
		}
	}
	return fs
}

func (inv *Inventory) takeEndpoint(s *Service, slice *discoveryv1.EndpointSlice, e *discoveryv1.Endpoint) []report.Finding {
	for _, text := range e.Addresses {
		address, err := netip.ParseAddr(text)
		if err != nil {
			return []report.Finding{object.Refused(object.Origin("EndpointSlice", slice), report.Invalid, "endpoints", "%q is not an IP address", text)}
		}
		address = address.Unmap()
		pod, ok := inv.podAt(address, slice, e.TargetRef)
		if !ok {
			return []report.Finding{object.Unresolved(object.Origin("EndpointSlice", slice), report.NotFound, "endpoints",
				"%s is said to be of pod %s, which is not there or has another address: it is left out", address, e.TargetRef.Name)}
		}
		for _, sp := range slice.Ports {
			p := s.portNamed(sp)
			if p == nil {
				continue
			}
			p.endpoints = append(p.endpoints, endpointAt(netip.AddrPortFrom(address, uint16(*sp.Port)), pod, e))
		}
	}
	return nil
}

// podAt is the pod behind an endpoint. The address tells more than targetRef,
// which anyone who may write slices can set. ok is false where a pod is named
// that is not there: whether it takes mutual TLS is unknown, and a guess could
// send plaintext.
func (inv *Inventory) podAt(a netip.Addr, slice *discoveryv1.EndpointSlice, ref *corev1.ObjectReference) (pod *Pod, ok bool) {
	if pod := inv.byAddress[a]; pod != nil {
		return pod, true
	}
	if ref == nil || ref.Kind != "Pod" {
		return nil, true
	}
	named := inv.pods[model.Name{Namespace: slice.Namespace, Name: ref.Name}]
	if named == nil || (len(named.Addresses) > 0 && !slices.Contains(named.Addresses, a)) {
		return nil, false
	}
	return named, true
}

// portNamed finds the Service's port that a slice's port is of.
func (s *Service) portNamed(sp discoveryv1.EndpointPort) *port {
	if sp.Port == nil || *sp.Port < 1 || *sp.Port > 65535 || (sp.Protocol != nil && *sp.Protocol != corev1.ProtocolTCP) {
		return nil
	}
	name := ""
	if sp.Name != nil {
		name = *sp.Name
	}
	for _, p := range s.ports {
		if p.name == name {
			return p
		}
	}
	return nil
}

// endpointAt reads conditions as kube-proxy does: ready unless said otherwise,
// serving as ready unless said otherwise.
func endpointAt(address netip.AddrPort, pod *Pod, e *discoveryv1.Endpoint) endpoint {
	is := func(b *bool, otherwise bool) bool {
		if b == nil {
			return otherwise
		}
		return *b
	}
	ready := is(e.Conditions.Ready, true)
	out := endpoint{
		address:  address,
		ready:    ready,
		draining: is(e.Conditions.Serving, ready) && is(e.Conditions.Terminating, false),
		pod:      pod,
	}
	if e.Zone != nil {
		out.zone = *e.Zone
	} else if pod != nil {
		out.zone = pod.Zone
	}
	return out
}

// usable are the endpoints that get requests, sorted and distinct: the ready
// ones; where there are none, those that are ending and still serve. Of a
// Service with two IP families those of its first family, where it has any: an
// application need not listen on both, and one pod is one endpoint.
func (p *port) usable(family func(netip.Addr) bool) []endpoint {
	pick := func(keep func(endpoint) bool) []endpoint {
		var out []endpoint
		for _, e := range p.endpoints {
			if keep(e) {
				out = append(out, e)
			}
		}
		return out
	}
	out := pick(func(e endpoint) bool { return e.ready })
	if len(out) == 0 {
		out = pick(func(e endpoint) bool { return e.draining })
	}
	if slices.ContainsFunc(out, func(e endpoint) bool { return family(e.address.Addr()) }) {
		out = slices.DeleteFunc(out, func(e endpoint) bool { return !family(e.address.Addr()) })
	}
	slices.SortFunc(out, func(a, b endpoint) int { return cmp.Or(a.address.Compare(b.address), cmp.Compare(a.zone, b.zone)) })
	return slices.CompactFunc(out, func(a, b endpoint) bool { return a.address == b.address })
}

// family tells the addresses of a Service's first IP family.
func (s *Service) family() func(netip.Addr) bool {
	if families := s.object.Spec.IPFamilies; len(families) > 0 {
		v4 := families[0] == corev1.IPv4Protocol
		return func(a netip.Addr) bool { return a.Is4() == v4 }
	}
	if first, err := netip.ParseAddr(s.object.Spec.ClusterIP); err == nil {
		return func(a netip.Addr) bool { return a.Is4() == first.Unmap().Is4() }
	}
	return func(netip.Addr) bool { return true }
}
