package services

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
	"github.com/meshd-io/meshd/pkg/compile/object"
	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/report"
)

// Containers that the injector adds; what they listen on is not the application's.
const (
	proxyContainer   = "meshd-proxy"
	agentContainer   = "meshd-agent"
	captureContainer = "meshd-capture"

	// identityVolume is where kubelet keeps a pod's certificate, where an agent does not.
	identityVolume = "meshd-identity"
)

// The ingress gateway's pods, in the system namespace.
const (
	gatewayLabel          = "meshd.io/gateway"
	ingressGateway        = "ingress"
	IngressServiceAccount = "meshd-ingress"
)

// zoneLabel is on a pod from Kubernetes 1.35 on, copied from its node.
const zoneLabel = corev1.LabelTopologyZone

// Pod is a pod or a Workload object, and what only compilation needs of it.
type Pod struct {
	model.Pod
	age   object.Age
	named map[string]uint16 // TCP ports by name
	// profile is what selectors can tell pods of a namespace apart by.
	profile Profile
	// hostNetwork pods share their node's address, so that it tells nothing.
	hostNetwork    bool
	gateway        bool
	workload       bool // a Workload object
	podCertificate bool // kubelet keeps its certificate
}

// PodOf reads a pod; nil is one that has ended, whose address may be another's.
func PodOf(p *corev1.Pod, systemNamespace string) *Pod {
	if p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
		return nil
	}
	pod := &Pod{
		Pod: model.Pod{
			Name:           object.Name(p),
			Addresses:      podAddresses(p),
			ServiceAccount: cmp.Or(p.Spec.ServiceAccountName, "default"),
			Labels:         p.Labels,
			InMesh:         !p.Spec.HostNetwork && hasProxy(p),
			Uncaptured:     uncaptured(p),
			Ready:          isReady(p),
			UID:            string(p.UID),
			Zone:           p.Labels[zoneLabel],
			Origin:         object.Origin("Pod", p),
		},
		age:            object.AgeOf(p),
		hostNetwork:    p.Spec.HostNetwork,
		podCertificate: slices.ContainsFunc(p.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == identityVolume }),
	}
	pod.gateway = pod.InMesh && p.Namespace == systemNamespace &&
		pod.ServiceAccount == IngressServiceAccount && p.Labels[gatewayLabel] == ingressGateway
	for _, c := range listening(p, pod.gateway) {
		for _, port := range c.Ports {
			if port.Protocol == corev1.ProtocolTCP || port.Protocol == "" {
				pod.declare(port.Name, port.ContainerPort)
			}
		}
	}
	pod.sortPorts()
	return pod
}

// WorkloadOf reads a Workload object: always in the mesh, always ready.
func WorkloadOf(w *meshv1a1.Workload) (*Pod, []report.Finding) {
	o := object.Origin("Workload", w)
	pod := &Pod{
		Pod: model.Pod{
			Name:           object.Name(w),
			ServiceAccount: w.Spec.ServiceAccount,
			Labels:         w.Labels,
			InMesh:         true,
			Ready:          true,
			UID:            string(w.UID),
			Zone:           w.Spec.Zone,
			Origin:         o,
		},
		age:      object.AgeOf(w),
		workload: true,
	}
	for _, s := range w.Spec.Addresses {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return nil, []report.Finding{object.Refused(o, report.Invalid, "spec.addresses", "%q is not an IP address", s)}
		}
		pod.Addresses = append(pod.Addresses, a.Unmap())
	}
	slices.SortFunc(pod.Addresses, netip.Addr.Compare)
	pod.Addresses = slices.Compact(pod.Addresses)
	for _, p := range w.Spec.Ports {
		pod.declare(p.Name, p.Port)
	}
	pod.sortPorts()
	return pod, nil
}

// declare adds a port; the first name of a number counts.
func (p *Pod) declare(name string, number int32) {
	if number < 1 || number > 65535 {
		return
	}
	port := uint16(number)
	if p.named == nil && name != "" {
		p.named = map[string]uint16{}
	}
	if _, taken := p.named[name]; name != "" && !taken {
		p.named[name] = port
	}
	if !slices.ContainsFunc(p.Ports, func(q model.PodPort) bool { return q.Port == port }) {
		p.Ports = append(p.Ports, model.PodPort{Name: name, Port: port, Protocol: protocolOf(nil, name, port)})
	}
}

func (p *Pod) sortPorts() {
	slices.SortFunc(p.Ports, func(a, b model.PodPort) int { return cmp.Compare(a.Port, b.Port) })
}

// listening are the containers whose ports are the application's: the ordinary
// ones and native sidecars. A gateway's proxy is its application.
func listening(p *corev1.Pod, gateway bool) []corev1.Container {
	var out []corev1.Container
	for _, c := range p.Spec.InitContainers {
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways && !meshdOwn(c.Name) {
			out = append(out, c)
		}
	}
	for _, c := range p.Spec.Containers {
		if gateway || !meshdOwn(c.Name) {
			out = append(out, c)
		}
	}
	return out
}

// excludeInbound is the flag of the capture step with the ports that it leaves alone.
const excludeInbound = "--exclude-inbound-ports="

// uncaptured reads what the pod was made with: neither its annotation nor
// MeshConfig, which may have changed since.
func uncaptured(p *corev1.Pod) []uint16 {
	var out []uint16
	for _, c := range p.Spec.InitContainers {
		if c.Name != captureContainer {
			continue
		}
		for _, arg := range c.Args {
			list, is := strings.CutPrefix(arg, excludeInbound)
			if !is {
				continue
			}
			for _, text := range strings.Split(list, ",") {
				if n, err := strconv.ParseUint(text, 10, 16); err == nil {
					out = append(out, uint16(n))
				}
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func meshdOwn(container string) bool {
	return container == proxyContainer || container == agentContainer || container == captureContainer
}

func hasProxy(p *corev1.Pod) bool {
	isProxy := func(c corev1.Container) bool { return c.Name == proxyContainer }
	return slices.ContainsFunc(p.Spec.InitContainers, isProxy) || slices.ContainsFunc(p.Spec.Containers, isProxy)
}

func isReady(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// podAddresses are sorted, IPv4 first; what is no address is left out.
func podAddresses(p *corev1.Pod) []netip.Addr {
	texts := []string{p.Status.PodIP}
	for _, ip := range p.Status.PodIPs {
		texts = append(texts, ip.IP)
	}
	return addresses(texts)
}

func addresses(texts []string) []netip.Addr {
	var out []netip.Addr
	for _, s := range texts {
		if a, err := netip.ParseAddr(s); err == nil {
			out = append(out, a.Unmap())
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}
