package lab

import (
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/meshd-io/meshd/pkg/lab/store"
)

// A pod with these annotations plays a host outside of the mesh's ranges, "on
// the internet": it has these addresses, and everyone resolves these names to
// them. meshd does not hear of it.
const (
	externalAddressesAnnotation = store.ExternalAddresses
	externalNamesAnnotation     = "lab.meshd.io/external-names"
)

func isExternal(p *corev1.Pod) bool { return p.Annotations[externalAddressesAnnotation] != "" }

func externalNames(view store.View) map[string][]netip.Addr {
	out := map[string][]netip.Addr{}
	for _, p := range store.List[*corev1.Pod](view) {
		if !isExternal(p) || p.DeletionTimestamp != nil {
			continue
		}
		for _, name := range strings.Split(p.Annotations[externalNamesAnnotation], ",") {
			for _, ip := range p.Status.PodIPs {
				if a, err := netip.ParseAddr(ip.IP); err == nil && name != "" {
					name := strings.TrimSpace(name)
					out[name] = append(out[name], a)
				}
			}
		}
	}
	return out
}
