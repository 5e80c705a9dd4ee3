package injector

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// Namespaced are the namespaces, sorted, that have pods of the mesh or may get some.
func Namespaced(pods []*corev1.Pod, all []*corev1.Namespace, cfg Config) []string {
	cfg = cfg.withDefaults()
	found := map[string]bool{}
	for _, pod := range pods {
		if !found[pod.Namespace] && (pod.Labels[InjectLabel] == enabled || hasProxy(pod)) {
			found[pod.Namespace] = true
		}
	}
	var out []string
	for _, ns := range all {
		label := ns.Labels[InjectLabel]
		byDefault := cfg.Injection.Default == "OptOut" && label != disabled && !slices.Contains(neverInjected(cfg.SystemNamespace), ns.Name)
		if ns.DeletionTimestamp == nil && (found[ns.Name] || label == enabled || byDefault) {
			out = append(out, ns.Name)
		}
	}
	slices.Sort(out)
	return out
}
