package gateway

import (
	"reflect"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/meshd-io/meshd/pkg/compile/ingress"
	"github.com/meshd-io/meshd/pkg/crds"
)

// IngressStatus gives the status that an Ingress should have: where the shared
// gateway is reached, for those of meshd's classes. It is nil for an Ingress
// that is none of meshd's business, and empty for one that was until its class changed.
func IngressStatus(snapshot *crds.Snapshot, namespace string) func(*networkingv1.Ingress) *networkingv1.IngressStatus {
	var at []networkingv1.IngressLoadBalancerIngress
	for _, s := range snapshot.Services {
		if s.Namespace == namespace && s.Name == IngressName {
			at = addresses(s)
		}
	}
	return func(in *networkingv1.Ingress) *networkingv1.IngressStatus {
		has := in.Status.LoadBalancer.Ingress
		switch {
		case ingress.Claims(in, snapshot.IngressClasses):
			return &networkingv1.IngressStatus{LoadBalancer: networkingv1.IngressLoadBalancerStatus{Ingress: at}}
		case len(at) > 0 && reflect.DeepEqual(has, at):
			return &networkingv1.IngressStatus{}
		}
		return nil
	}
}

// addresses of a Service as the world has them: those of its load balancer,
// otherwise its external IPs.
func addresses(s *corev1.Service) []networkingv1.IngressLoadBalancerIngress {
	var out []networkingv1.IngressLoadBalancerIngress
	for _, b := range s.Status.LoadBalancer.Ingress {
		out = append(out, networkingv1.IngressLoadBalancerIngress{IP: b.IP, Hostname: b.Hostname})
	}
	if len(out) > 0 {
		return out
	}
	for _, ip := range s.Spec.ExternalIPs {
		out = append(out, networkingv1.IngressLoadBalancerIngress{IP: ip})
	}
	return out
}
