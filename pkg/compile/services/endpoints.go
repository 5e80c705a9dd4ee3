package services

import (
	"cmp"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/meshd-io/meshd/pkg/compile/object"
	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/report"
)

// Slice is what compilation reads of an EndpointSlice.
type Slice struct {
	// Service that it is of.
	Service model.Name
	origin  report.Origin
	ports   []slicePort
	hosts   []host
}

type slicePort struct {
	name   string
	number uint16
}

// host is an endpoint of a slice, at all its addresses.
type host struct {
	addresses []netip.Addr
	// bad is what is no address; what follows it is not read.
	bad             *string
	ready, draining bool
	zone            *string
	pod             *string // that is said to be behind it
}

// SliceOf reads an EndpointSlice; ok is false for one that has no addresses.
func SliceOf(s *discoveryv1.EndpointSlice) (slice *Slice, ok bool) {
	if s.AddressType == discoveryv1.AddressTypeFQDN {
		return nil, false
	}
	slice = &Slice{
		Service: model.Name{Namespace: s.Namespace, Name: s.Labels[discoveryv1.LabelServiceName]},
		origin:  object.Origin("EndpointSlice", s),
	}
	for _, p := range s.Ports {
		if p.Port == nil || *p.Port < 1 || *p.Port > 65535 || (p.Protocol != nil && *p.Protocol != corev1.ProtocolTCP) {
			continue
		}
		name := ""
		if p.Name != nil {
			name = *p.Name
		}
		slice.ports = append(slice.ports, slicePort{name, uint16(*p.Port)})
	}
	slice.hosts = make([]host, 0, len(s.Endpoints))
	for i := range s.Endpoints {
		slice.hosts = append(slice.hosts, hostOf(&s.Endpoints[i]))
	}
	return slice, true
}

// hostOf reads conditions as kube-proxy does: ready unless said otherwise,
// serving as ready unless said otherwise.
func hostOf(e *discoveryv1.Endpoint) host {
	is := func(b *bool, otherwise bool) bool {
		if b == nil {
			return otherwise
		}
		return *b
	}
	ready := is(e.Conditions.Ready, true)
	out := host{ready: ready, draining: is(e.Conditions.Serving, ready) && is(e.Conditions.Terminating, false), zone: e.Zone}
	if e.TargetRef != nil && e.TargetRef.Kind == "Pod" {
		out.pod = &e.TargetRef.Name
	}
	for _, text := range e.Addresses {
		a, err := netip.ParseAddr(text)
		if err != nil {
			out.bad = &text
			break
		}
		out.addresses = append(out.addresses, a.Unmap())
	}
	return out
}

// Endpoints are what is behind each of a Service's ports, in any condition.
type Endpoints struct{ ports [][]endpoint }

// endpoint is an address behind a Service's port.
type endpoint struct {
	address netip.AddrPort
	zone    string
	pod     model.Name // where isPod
	isPod   bool
	ready   bool
	// draining: it is ending and still serves.
	draining bool
}

// Pods finds the pods behind endpoints.
type Pods interface {
	// At is the pod that an address is of; nil is none.
	At(netip.Addr) *Pod
	// Named is a pod by its name; nil is none.
	Named(model.Name) *Pod
}

// EndpointsOf gathers a Service's endpoints: those of its slices, and selected
// Workload objects, for which no controller makes slices.
func EndpointsOf(s *Service, slices []*Slice, selected []*Pod, pods Pods) (*Endpoints, []report.Finding) {
	out := &Endpoints{ports: make([][]endpoint, len(s.ports))}
	var fs []report.Finding
	for _, slice := range slices {
		for i := range slice.hosts {
			if f := out.take(s, slice, &slice.hosts[i], pods); f != nil {
				fs = append(fs, *f)
			}
		}
	}
	for _, pod := range selected {
		if !pod.workload {
			continue
		}
		for i, p := range s.ports {
			n, ok := p.resolve(pod)
			if !ok {
				continue
			}
			for _, a := range pod.Addresses {
				out.ports[i] = append(out.ports[i], endpoint{address: netip.AddrPortFrom(a, n), ready: true, zone: pod.Zone, pod: pod.Name, isPod: true})
			}
		}
	}
	return out, fs
}

func (e *Endpoints) take(s *Service, slice *Slice, h *host, pods Pods) *report.Finding {
	for _, a := range h.addresses {
		pod, ok := h.behind(a, slice, pods)
		if !ok {
			f := object.Unresolved(slice.origin, report.NotFound, "endpoints",
				"%s is said to be of pod %s, which is not there or has another address: it is left out", a, *h.pod)
			return &f
		}
		for _, sp := range slice.ports {
			i := slices.IndexFunc(s.ports, func(p port) bool { return p.name == sp.name })
			if i < 0 {
				continue
			}
			out := endpoint{address: netip.AddrPortFrom(a, sp.number), ready: h.ready, draining: h.draining}
			if pod != nil {
				out.pod, out.isPod, out.zone = pod.Name, true, pod.Zone
			}
			if h.zone != nil {
				out.zone = *h.zone
			}
			e.ports[i] = append(e.ports[i], out)
		}
	}
	if h.bad != nil {
		f := object.Refused(slice.origin, report.Invalid, "endpoints", "%q is not an IP address", *h.bad)
		return &f
	}
	return nil
}

// behind is the pod behind an endpoint. The address tells more than targetRef,
// which anyone who may write slices can set. ok is false where a pod is named
// that is not there: whether it takes mutual TLS is unknown, and a guess could
// send plaintext.
func (h *host) behind(a netip.Addr, slice *Slice, pods Pods) (pod *Pod, ok bool) {
	if pod := pods.At(a); pod != nil {
		return pod, true
	}
	if h.pod == nil {
		return nil, true
	}
	named := pods.Named(model.Name{Namespace: slice.Service.Namespace, Name: *h.pod})
	if named == nil || (len(named.Addresses) > 0 && !slices.Contains(named.Addresses, a)) {
		return nil, false
	}
	return named, true
}

// usable are the endpoints that get requests, sorted and distinct: the ready
// ones; where there are none, those that are ending and still serve. Of a
// Service with two IP families those of its first family, where it has any: an
// application need not listen on both, and one pod is one endpoint.
func (e *Endpoints) usable(s *Service, port int) []endpoint {
	pick := func(keep func(endpoint) bool) []endpoint {
		var out []endpoint
		for _, e := range e.ports[port] {
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
	family := func(e endpoint) bool { return s.ofFamily(e.address.Addr()) }
	if slices.ContainsFunc(out, family) {
		out = slices.DeleteFunc(out, func(e endpoint) bool { return !family(e) })
	}
	slices.SortFunc(out, func(a, b endpoint) int {
		return cmp.Or(a.address.Compare(b.address), cmp.Compare(a.zone, b.zone), a.pod.Compare(b.pod))
	})
	return slices.CompactFunc(out, func(a, b endpoint) bool { return a.address == b.address })
}
