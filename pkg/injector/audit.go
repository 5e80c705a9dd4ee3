package injector

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/meshd-io/meshd/pkg/report"
)

// Audit gives, for each living pod that should carry a sidecar and does not,
// why: NoSidecar where a pod made anew would have it, NotInjected where it is
// left outside by its nature, and otherwise the reasons by which the webhook
// would refuse it now. A pod whose namespace is not given is not looked at.
func Audit(pods []*corev1.Pod, namespaces []*corev1.Namespace, cfg Config) []report.Finding {
	cfg = cfg.withDefaults()
	byName := make(map[string]*corev1.Namespace, len(namespaces))
	for _, ns := range namespaces {
		byName[ns.Name] = ns
	}
	var out []report.Finding
	for _, pod := range pods {
		ns, known := byName[pod.Namespace]
		if !known || ended(pod) || hasProxy(pod) {
			continue
		}
		s := subject{pod: pod, namespace: pod.Namespace}
		chosen := s.choose(ns, cfg)
		if !chosen.inject {
			continue
		}
		if found := s.refuse(chosen.explicit); len(found) > 0 {
			out = append(out, found...)
			continue
		}
		out = append(out, s.finding(report.NoSidecar, "spec.initContainers",
			"the pod should be in the mesh and has no sidecar, since it is older than the label or meshd was not asked; make it anew (kubectl rollout restart, or delete the pod)"))
	}
	return report.Sort(out)
}

// ended pods, and those that are about to, take no traffic any more.
func ended(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp != nil || pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// hasProxy: by its name alone, as every part of meshd knows a pod of the mesh;
// a gateway's proxy is an ordinary container.
func hasProxy(pod *corev1.Pod) bool {
	is := func(c corev1.Container) bool { return c.Name == ProxyContainer }
	return slices.ContainsFunc(pod.Spec.InitContainers, is) || slices.ContainsFunc(pod.Spec.Containers, is)
}
