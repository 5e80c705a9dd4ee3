package injector

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/meshd-io/meshd/pkg/report"
)

// refuse tells why a pod that is wanted in the mesh cannot be in it. What
// lies in the nature of the pod is its fault only if the pod itself asked;
// otherwise it is left outside, and nothing else is said about it.
func (s *subject) refuse(explicit bool) []report.Finding {
	reason := report.NotInjected
	if explicit {
		reason = report.Unsupported
	}
	nature := s.nature(reason)
	if len(nature) > 0 && !explicit {
		return nature
	}
	return slices.Concat(nature, s.takenUser(), s.takenNames(), s.takenPorts())
}

func (s *subject) nature(reason report.Reason) []report.Finding {
	var out []report.Finding
	if s.pod.Spec.HostNetwork {
		out = append(out, s.finding(reason, "spec.hostNetwork",
			"a pod on the host's network cannot be injected, since capture would redirect the whole node's traffic; leave hostNetwork out, or label the pod "+InjectLabel+": disabled"))
	}
	if field, windows := windowsField(s.pod); windows {
		out = append(out, s.finding(reason, field, "a Windows pod cannot be injected, since capture needs Linux; label the pod "+InjectLabel+": disabled"))
	}
	if _, mirror := s.pod.Annotations[corev1.MirrorPodAnnotationKey]; mirror {
		out = append(out, s.finding(reason, "metadata.annotations["+corev1.MirrorPodAnnotationKey+"]",
			"a static pod cannot be injected, since kubelet runs what its file says; label the pod "+InjectLabel+": disabled"))
	}
	return out
}

func windowsField(pod *corev1.Pod) (string, bool) {
	if pod.Spec.OS != nil && pod.Spec.OS.Name == corev1.Windows {
		return "spec.os.name", true
	}
	return "spec.nodeSelector", pod.Spec.NodeSelector[corev1.LabelOSStable] == string(corev1.Windows)
}

// takenUser: traffic of the proxy's UID is not captured, so that a container
// that runs under it would get past every policy, unencrypted. An image whose
// own USER is 1337 cannot be seen here.
func (s *subject) takenUser() []report.Finding {
	var out []report.Finding
	ofPod := s.pod.Spec.SecurityContext != nil && isProxyUID(s.pod.Spec.SecurityContext.RunAsUser)
	for at, c := range containers(s.pod) {
		switch own := c.SecurityContext; {
		case own != nil && own.RunAsUser != nil:
			if isProxyUID(own.RunAsUser) {
				out = append(out, s.finding(report.Invalid, at+".securityContext.runAsUser", uidMessage))
			}
		case ofPod:
			out = append(out, s.finding(report.Invalid, "spec.securityContext.runAsUser", uidMessage))
		}
	}
	return out
}

const uidMessage = "UID 1337 belongs to the proxy and its traffic is not captured; run the container as another user"

func isProxyUID(uid *int64) bool { return uid != nil && *uid == ProxyUID }

// takenNames: the API server refuses a name that is there twice, files do not.
func (s *subject) takenNames() []report.Finding {
	var out []report.Finding
	seen := map[string]bool{}
	for at, c := range containers(s.pod) {
		if seen[c.Name] {
			out = append(out, s.finding(report.Conflict, at+".name", fmt.Sprintf("the pod has two containers named %s; name one of them otherwise", c.Name)))
		}
		seen[c.Name] = true
		if slices.Contains([]string{CaptureContainer, AgentContainer, ProxyContainer}, c.Name) {
			out = append(out, s.finding(report.Conflict, at+".name", fmt.Sprintf("the name %s belongs to meshd; name the container otherwise", c.Name)))
		}
	}
	for i, v := range s.pod.Spec.Volumes {
		if slices.Contains([]string{RunVolume, TokenVolume, TrustVolume, IdentityVolume}, v.Name) {
			out = append(out, s.finding(report.Conflict, fmt.Sprintf("spec.volumes[%d].name", i), fmt.Sprintf("the name %s belongs to meshd; name the volume otherwise", v.Name)))
		}
	}
	return out
}

func (s *subject) takenPorts() []report.Finding {
	var out []report.Finding
	for at, c := range containers(s.pod) {
		for i, p := range c.Ports {
			if p.Protocol != corev1.ProtocolUDP && slices.Contains([]int32{OutboundPort, DetectPort, InboundPort, PlainPort}, p.ContainerPort) {
				out = append(out, s.finding(report.Conflict, fmt.Sprintf("%s.ports[%d].containerPort", at, i),
					fmt.Sprintf("the proxy listens on port %d; let the application use another", p.ContainerPort)))
			}
		}
	}
	return out
}

// containers yields each of the user's containers, init containers first, with its path.
func containers(pod *corev1.Pod) func(func(string, *corev1.Container) bool) {
	return func(yield func(string, *corev1.Container) bool) {
		for i := range pod.Spec.InitContainers {
			if !yield(fmt.Sprintf("spec.initContainers[%d]", i), &pod.Spec.InitContainers[i]) {
				return
			}
		}
		for i := range pod.Spec.Containers {
			if !yield(fmt.Sprintf("spec.containers[%d]", i), &pod.Spec.Containers[i]) {
				return
			}
		}
	}
}
