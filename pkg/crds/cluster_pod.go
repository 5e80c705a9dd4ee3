package crds

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Names that the injector gives; a pod's parts with them are read.
const (
	proxyContainer   = "meshd-proxy"
	captureContainer = "meshd-capture"
	identityVolume   = "meshd-identity"
	ownPrefix        = "meshd-"
)

// keptPod keeps of a pod
//   - metadata as keptMeta, and that it is being deleted;
//   - its account, its node, whether it is on the node's network or of Windows;
//   - of containers their names, ports, users and restart policy, and the
//     arguments of meshd's capture container;
//   - the names of volumes where one could clash with meshd's;
//   - its phase, its addresses, and whether it is ready.
//
// Environments, images, commands, probes, volumes, and the states of containers
// are most of a pod; nobody here reads them.
func keptPod(p *corev1.Pod) *corev1.Pod {
	out := &corev1.Pod{
		ObjectMeta: keptMeta(&p.ObjectMeta),
		Spec: corev1.PodSpec{
			ServiceAccountName: p.Spec.ServiceAccountName, NodeName: p.Spec.NodeName, HostNetwork: p.Spec.HostNetwork, OS: p.Spec.OS,
			InitContainers: keptContainers(p.Spec.InitContainers), Containers: keptContainers(p.Spec.Containers),
			Volumes: keptVolumes(p),
		},
		Status: corev1.PodStatus{Phase: p.Status.Phase, PodIP: p.Status.PodIP, PodIPs: p.Status.PodIPs},
	}
	out.DeletionTimestamp = p.DeletionTimestamp
	if os, ok := p.Spec.NodeSelector[corev1.LabelOSStable]; ok {
		out.Spec.NodeSelector = map[string]string{corev1.LabelOSStable: os}
	}
	if c := p.Spec.SecurityContext; c != nil && c.RunAsUser != nil {
		out.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: c.RunAsUser}
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			out.Status.Conditions = []corev1.PodCondition{{Type: c.Type, Status: c.Status}}
		}
	}
	return out
}

func keptContainers(containers []corev1.Container) []corev1.Container {
	if len(containers) == 0 {
		return nil
	}
	out := make([]corev1.Container, len(containers))
	for i, c := range containers {
		out[i] = corev1.Container{Name: c.Name, RestartPolicy: c.RestartPolicy}
		if c.Name == captureContainer {
			out[i].Args = c.Args
		}
		for _, p := range c.Ports {
			out[i].Ports = append(out[i].Ports, corev1.ContainerPort{Name: p.Name, ContainerPort: p.ContainerPort, Protocol: p.Protocol})
		}
		if s := c.SecurityContext; s != nil && s.RunAsUser != nil {
			out[i].SecurityContext = &corev1.SecurityContext{RunAsUser: s.RunAsUser}
		}
	}
	return out
}

// keptVolumes are the names of a pod's volumes, where a pod outside of the mesh
// has one of meshd's. Of a pod of the mesh it is the one that tells how its
// identity is carried.
func keptVolumes(p *corev1.Pod) []corev1.Volume {
	proxy := func(c corev1.Container) bool { return c.Name == proxyContainer }
	own := func(v corev1.Volume) bool { return strings.HasPrefix(v.Name, ownPrefix) }
	if slices.ContainsFunc(p.Spec.InitContainers, proxy) || slices.ContainsFunc(p.Spec.Containers, proxy) {
		if slices.ContainsFunc(p.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == identityVolume }) {
			return []corev1.Volume{{Name: identityVolume}}
		}
		return nil
	}
	if !slices.ContainsFunc(p.Spec.Volumes, own) {
		return nil
	}
	out := make([]corev1.Volume, len(p.Spec.Volumes))
	for i, v := range p.Spec.Volumes {
		out[i].Name = v.Name
	}
	return out
}
