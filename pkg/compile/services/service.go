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

// Service is a Service with everything behind it.
type Service struct {
	Name   model.Name
	object *corev1.Service
	origin report.Origin
	ports  []*port // sorted by number
	pods   []*Pod  // behind any port, ready or not, sorted
}

// lead is a port of a workload that a Service leads to.
type lead struct {
	key  model.WorkloadKey
	port uint16
}

// port is a TCP port of a Service.
type port struct {
	name      string
	number    uint16
	target    intstr.IntOrString
	declared  model.Protocol
	endpoints []endpoint
	targets   []target
}

// target is a port of a pod that a Service's port leads to, ready or not.
type target struct {
	pod  *Pod
	port uint16
}

// serviceOf reads a Service; ok is false for kinds that have nothing behind them.
func serviceOf(s *corev1.Service) (service *Service, ok bool) {
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		return nil, false
	}
	service = &Service{
		Name:   object.Name(s),
		object: s,
		origin: object.Origin("Service", s),
	}
	for _, p := range s.Spec.Ports {
		if (p.Protocol != corev1.ProtocolTCP && p.Protocol != "") || p.Port < 1 || p.Port > 65535 {
			continue
		}
		numbers := []uint16{uint16(p.Port)}
		if t := p.TargetPort.IntValue(); p.TargetPort.Type == intstr.Int && t > 0 && t <= 65535 {
			numbers = append(numbers, uint16(t))
		}
		service.ports = append(service.ports, &port{
			name:     p.Name,
			number:   uint16(p.Port),
			target:   p.TargetPort,
			declared: protocolOf(p.AppProtocol, p.Name, numbers...),
		})
	}
	slices.SortFunc(service.ports, func(a, b *port) int { return cmp.Compare(a.number, b.number) })
	return service, true
}

func (s *Service) headless() bool { return s.object.Spec.ClusterIP == corev1.ClusterIPNone }

func (s *Service) addresses() []netip.Addr {
	if s.headless() {
		return nil
	}
	return addresses(append([]string{s.object.Spec.ClusterIP}, s.object.Spec.ClusterIPs...))
}

// resolve gives the port of a pod that a Service's port leads to.
func (p *port) resolve(pod *Pod) (uint16, bool) {
	if p.target.Type == intstr.String && p.target.StrVal != "" {
		n, ok := pod.named[p.target.StrVal]
		return n, ok
	}
	if n := p.target.IntValue(); n > 0 && n <= 65535 {
		return uint16(n), true
	}
	return p.number, true
}

// lead finds the pods and ports that each Service leads to: by its selector,
// and by the addresses of its slices.
func (inv *Inventory) lead() {
	byLabel := inv.labelIndex()
	for _, s := range inv.services {
		behind := map[*Pod]bool{}
		for _, pod := range inv.selected(s, byLabel) {
			behind[pod] = true
			for _, p := range s.ports {
				if n, ok := p.resolve(pod); ok {
					p.targets = append(p.targets, target{pod, n})
					if pod.workload {
						p.endpoints = append(p.endpoints, workloadEndpoints(pod, n)...)
					}
				}
			}
		}
		for _, p := range s.ports {
			for _, e := range p.endpoints {
				if e.pod != nil {
					behind[e.pod] = true
					p.targets = append(p.targets, target{e.pod, e.address.Port()})
				}
			}
			slices.SortFunc(p.targets, func(a, b target) int {
				return cmp.Or(a.pod.Name.Compare(b.pod.Name), cmp.Compare(a.port, b.port))
			})
			p.targets = slices.Compact(p.targets)
			inv.noteLeads(s, p)
		}
		for pod := range behind {
			s.pods = append(s.pods, pod)
		}
		slices.SortFunc(s.pods, func(a, b *Pod) int { return a.Name.Compare(b.Name) })
	}
}

// noteLeads remembers where a port leads to. Services are taken in order of
// their names, so that each list is sorted.
func (inv *Inventory) noteLeads(s *Service, p *port) {
	for _, t := range p.targets {
		if !t.pod.InMesh || t.pod.Key.Namespace != s.Name.Namespace {
			continue
		}
		l := lead{t.pod.Key, t.port}
		if names := inv.leading[l]; len(names) == 0 || names[len(names)-1] != s.Name {
			inv.leading[l] = append(names, s.Name)
		}
	}
}

// label is a label of a pod in a namespace.
type label struct{ namespace, key, value string }

// labelIndex keeps the matching of selectors linear in a namespace with many Services.
func (inv *Inventory) labelIndex() map[label][]*Pod {
	index := map[label][]*Pod{}
	for ns, pods := range inv.namespaces {
		for _, p := range pods {
			for k, v := range p.Labels {
				index[label{ns, k, v}] = append(index[label{ns, k, v}], p)
			}
		}
	}
	return index
}

// selected are the pods that a Service's selector matches; a Service without a selector has none.
func (inv *Inventory) selected(s *Service, byLabel map[label][]*Pod) []*Pod {
	var fewest []*Pod
	first := true
	for k, v := range s.object.Spec.Selector {
		if pods := byLabel[label{s.Name.Namespace, k, v}]; first || len(pods) < len(fewest) {
			fewest, first = pods, false
		}
	}
	var out []*Pod
	for _, p := range fewest {
		if matches(s.object.Spec.Selector, p.Labels) {
			out = append(out, p)
		}
	}
	return out
}

func matches(selector, labels map[string]string) bool {
	for k, v := range selector {
		if got, ok := labels[k]; !ok || got != v {
			return false
		}
	}
	return true
}
