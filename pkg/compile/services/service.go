package services

import (
	"cmp"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meshd-io/meshd/pkg/compile/object"
	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/report"
)

// Service is what compilation reads of a Service.
type Service struct {
	Name model.Name
	// Selector of its pods; none where others say what is behind it.
	Selector map[string]string
	age      object.Age
	origin   report.Origin
	origins  []report.Origin // that alone, for all that it declares
	ports    []port          // sorted by number
	headless bool
	// addresses are its ClusterIPs.
	addresses []netip.Addr
	// family is the first of its IP families; "" is any.
	family corev1.IPFamily
}

// port is a TCP port of a Service.
type port struct {
	name     string
	number   uint16
	target   intstr.IntOrString
	declared model.Protocol
}

// ServiceOf reads a Service; ok is false for kinds that have nothing behind them.
func ServiceOf(s *corev1.Service) (service *Service, ok bool) {
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		return nil, false
	}
	service = &Service{
		Name:     object.Name(s),
		Selector: s.Spec.Selector,
		age:      object.AgeOf(s),
		origin:   object.Origin("Service", s),
		headless: s.Spec.ClusterIP == corev1.ClusterIPNone,
		family:   familyOf(s),
	}
	service.origins = []report.Origin{service.origin}
	if !service.headless {
		service.addresses = addresses(append([]string{s.Spec.ClusterIP}, s.Spec.ClusterIPs...))
	}
	for _, p := range s.Spec.Ports {
		if (p.Protocol != corev1.ProtocolTCP && p.Protocol != "") || p.Port < 1 || p.Port > 65535 {
			continue
		}
		numbers := []uint16{uint16(p.Port)}
		if t := p.TargetPort.IntValue(); p.TargetPort.Type == intstr.Int && t > 0 && t <= 65535 {
			numbers = append(numbers, uint16(t))
		}
		service.ports = append(service.ports, port{
			name:     p.Name,
			number:   uint16(p.Port),
			target:   p.TargetPort,
			declared: protocolOf(p.AppProtocol, p.Name, numbers...),
		})
	}
	slices.SortFunc(service.ports, func(a, b port) int { return cmp.Compare(a.number, b.number) })
	return service, true
}

func familyOf(s *corev1.Service) corev1.IPFamily {
	if families := s.Spec.IPFamilies; len(families) > 0 {
		return families[0]
	}
	if first, err := netip.ParseAddr(s.Spec.ClusterIP); err == nil && first.Unmap().Is4() {
		return corev1.IPv4Protocol
	} else if err == nil {
		return corev1.IPv6Protocol
	}
	return ""
}

// ofFamily reports whether an address is of the Service's first IP family.
func (s *Service) ofFamily(a netip.Addr) bool {
	return s.family == "" || a.Is4() == (s.family == corev1.IPv4Protocol)
}

// resolve gives the port of a pod that a Service's port leads to.
func (p port) resolve(pod *Pod) (uint16, bool) {
	if p.target.Type == intstr.String && p.target.StrVal != "" {
		n, ok := pod.named[p.target.StrVal]
		return n, ok
	}
	if n := p.target.IntValue(); n > 0 && n <= 65535 {
		return uint16(n), true
	}
	return p.number, true
}

// Selects reports whether pods with these labels are the Service's.
func (s *Service) Selects(labels map[string]string) bool {
	for k, v := range s.Selector {
		if got, ok := labels[k]; !ok || got != v {
			return false
		}
	}
	return len(s.Selector) > 0
}

// Behind is which ports of which pods a Service leads to, ready or not.
type Behind struct {
	Pods  []model.Name // sorted
	ports [][]target   // of each of the Service's ports, sorted
}

// target is a port of a pod.
type target struct {
	pod  model.Name
	port uint16
}

// BehindOf finds what a Service leads to: by its selector, and by the addresses of its slices.
func BehindOf(s *Service, selected []*Pod, e *Endpoints) *Behind {
	out := &Behind{ports: make([][]target, len(s.ports))}
	for _, pod := range selected {
		out.Pods = append(out.Pods, pod.Name)
	}
	for i, p := range s.ports {
		ts := &out.ports[i]
		for _, pod := range selected {
			if n, ok := p.resolve(pod); ok {
				*ts = append(*ts, target{pod.Name, n})
			}
		}
		for _, e := range e.ports[i] {
			if e.isPod {
				out.Pods = append(out.Pods, e.pod)
				*ts = append(*ts, target{e.pod, e.address.Port()})
			}
		}
		slices.SortFunc(*ts, func(a, b target) int { return cmp.Or(a.pod.Compare(b.pod), cmp.Compare(a.port, b.port)) })
		*ts = slices.Clone(slices.Compact(*ts)) // it is kept: no more than there is
	}
	slices.SortFunc(out.Pods, model.Name.Compare)
	out.Pods = slices.Clone(slices.Compact(out.Pods))
	return out
}

// Lead is a Service's port that leads to a port of a pod.
type Lead struct {
	Service model.Name
	index   int // of the Service's port
	port    uint16
}

// Compare is by the Service's name, then its port, then the pod's.
func (l Lead) Compare(m Lead) int {
	return cmp.Or(l.Service.Compare(m.Service), cmp.Compare(l.index, m.index), cmp.Compare(l.port, m.port))
}

// Leads calls f with each port of a pod of its own namespace that a Service
// leads to. One that leads to pods of another namespace, by hand-written
// endpoints, has no say in what they speak.
func (b *Behind) Leads(service model.Name, f func(pod model.Name, l Lead)) {
	for i, ts := range b.ports {
		for _, t := range ts {
			if t.pod.Namespace == service.Namespace {
				f(t.pod, Lead{service, i, t.port})
			}
		}
	}
}
