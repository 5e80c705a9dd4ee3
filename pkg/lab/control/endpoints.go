package control

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meshd-io/meshd/pkg/lab/store"
)

const managedBy = "endpointslice-controller.meshd-lab"

// endpointSlices keeps the slices of every Service with a selector.
func endpointSlices(v store.View) Actions {
	var a Actions
	want := map[string]bool{}
	pods := store.List[*corev1.Pod](v)
	for _, svc := range store.List[*corev1.Service](v) {
		for _, s := range SlicesOf(svc, pods) {
			want[s.Namespace+"/"+s.Name] = true
			old, ok := store.Get[*discoveryv1.EndpointSlice](v, "EndpointSlice", s.Namespace, s.Name)
			if ok && equality.Semantic.DeepEqual(old.Endpoints, s.Endpoints) && equality.Semantic.DeepEqual(old.Ports, s.Ports) &&
				equality.Semantic.DeepEqual(old.Labels, s.Labels) && equality.Semantic.DeepEqual(old.OwnerReferences, s.OwnerReferences) {
				continue
			}
			if ok {
				s.Generation = old.Generation + 1
			}
			a.Put = append(a.Put, s)
		}
	}
	for _, s := range store.List[*discoveryv1.EndpointSlice](v) {
		if s.Labels[discoveryv1.LabelManagedBy] == managedBy && !want[s.Namespace+"/"+s.Name] {
			a.Remove = append(a.Remove, store.KeyOf(s))
		}
	}
	return a
}

// SlicesOf are a Service's EndpointSlices: one for each family and each set of
// port numbers (a named target port may differ between pods).
func SlicesOf(svc *corev1.Service, pods []*corev1.Pod) []*discoveryv1.EndpointSlice {
	if len(svc.Spec.Selector) == 0 || svc.Spec.Type == corev1.ServiceTypeExternalName {
		return nil
	}
	selector := labels.SelectorFromSet(svc.Spec.Selector)
	var out []*discoveryv1.EndpointSlice
	for _, family := range svc.Spec.IPFamilies {
		groups := map[string]*discoveryv1.EndpointSlice{}
		for _, p := range pods {
			if p.Namespace != svc.Namespace || Ended(p) || !selector.Matches(labels.Set(p.Labels)) {
				continue
			}
			ip := podIP(p, family)
			if ip == "" {
				continue
			}
			ports := portsFor(svc, p)
			key := portKey(ports)
			if groups[key] == nil {
				groups[key] = newSlice(svc, family, ports)
			}
			groups[key].Endpoints = append(groups[key].Endpoints, endpoint(svc, p, ip))
		}
		if len(groups) == 0 {
			groups[""] = newSlice(svc, family, nil)
		}
		for i, key := range slices.Sorted(maps.Keys(groups)) {
			s := groups[key]
			s.Name = fmt.Sprintf("%s-%s-%d", svc.Name, strings.ToLower(string(family)), i)
			slices.SortFunc(s.Endpoints, func(a, b discoveryv1.Endpoint) int { return cmp.Compare(a.Addresses[0], b.Addresses[0]) })
			out = append(out, s)
		}
	}
	return out
}

func newSlice(svc *corev1.Service, family corev1.IPFamily, ports []discoveryv1.EndpointPort) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		TypeMeta: metav1.TypeMeta{APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSlice"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: svc.Namespace,
			Labels:    map[string]string{discoveryv1.LabelServiceName: svc.Name, discoveryv1.LabelManagedBy: managedBy},
			OwnerReferences: []metav1.OwnerReference{
				*metav1.NewControllerRef(svc, corev1.SchemeGroupVersion.WithKind("Service")),
			},
		},
		AddressType: discoveryv1.AddressType(family),
		Ports:       ports,
	}
	if svc.Spec.ClusterIP == corev1.ClusterIPNone {
		s.Labels[corev1.IsHeadlessService] = ""
	}
	return s
}

func endpoint(svc *corev1.Service, p *corev1.Pod, ip string) discoveryv1.Endpoint {
	serving := conditionTrue(p, corev1.PodReady)
	terminating := p.DeletionTimestamp != nil
	ready := svc.Spec.PublishNotReadyAddresses || (serving && !terminating)
	e := discoveryv1.Endpoint{
		Addresses:  []string{ip},
		Conditions: discoveryv1.EndpointConditions{Ready: &ready, Serving: &serving, Terminating: &terminating},
		TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: p.Namespace, Name: p.Name, UID: p.UID},
	}
	if p.Spec.NodeName != "" {
		node := p.Spec.NodeName
		e.NodeName = &node
	}
	if p.Spec.Hostname != "" && p.Spec.Subdomain == svc.Name {
		host := p.Spec.Hostname
		e.Hostname = &host
	}
	return e
}

// portsFor are the Service's ports on one pod; a named target port that the pod lacks is left out.
func portsFor(svc *corev1.Service, p *corev1.Pod) []discoveryv1.EndpointPort {
	var out []discoveryv1.EndpointPort
	for _, sp := range svc.Spec.Ports {
		number, ok := targetPort(sp, p)
		if !ok {
			continue
		}
		name, protocol := sp.Name, sp.Protocol
		out = append(out, discoveryv1.EndpointPort{Name: &name, Protocol: &protocol, Port: &number, AppProtocol: sp.AppProtocol})
	}
	return out
}

func targetPort(sp corev1.ServicePort, p *corev1.Pod) (int32, bool) {
	if sp.TargetPort.Type == intstr.Int {
		return sp.TargetPort.IntVal, true
	}
	// Native sidecars may declare ports too.
	for _, c := range append(slices.Clone(p.Spec.Containers), p.Spec.InitContainers...) {
		for _, cp := range c.Ports {
			if cp.Name == sp.TargetPort.StrVal && cmp.Or(cp.Protocol, corev1.ProtocolTCP) == sp.Protocol {
				return cp.ContainerPort, true
			}
		}
	}
	return 0, false
}

func portKey(ports []discoveryv1.EndpointPort) string {
	var b strings.Builder
	for _, p := range ports {
		fmt.Fprintf(&b, "%s=%05d;", *p.Name, *p.Port)
	}
	return b.String()
}

func podIP(p *corev1.Pod, family corev1.IPFamily) string {
	for _, ip := range p.Status.PodIPs {
		addr, err := netip.ParseAddr(ip.IP)
		if err == nil && addr.Is4() == (family == corev1.IPv4Protocol) {
			return ip.IP
		}
	}
	return ""
}
