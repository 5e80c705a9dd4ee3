package crds

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
)

// clusterFeeds are the kinds that are watched, and what is kept of each: what
// compile, the injector's audit, the gateways and statuses read, and no more,
// since whatever is kept costs memory for each object and wakes every stage
// when it changes. Of metadata that is in keptMeta. (Watches of metadata alone
// are no saving for the two kinds that have little else, and leave a goroutine
// behind when they are stopped: watch.Filter.)
//
//	Namespace, ServiceAccount  metadata
//	Service                    spec, status.loadBalancer
//	EndpointSlice              addressType, ports; of endpoints: addresses, conditions, zone, the target's kind and name
//	Pod                        keptPod
//	Secret                     of type kubernetes.io/tls: tls.crt, tls.key, ca.crt (others are not watched)
//	Ingress, IngressClass      spec, status
//	ServiceCIDR, Node          spec.cidrs, spec.podCIDRs
//	HTTPRoute                  spec, status (where the Gateway API is installed)
//	meshd's kinds              spec, status
func clusterFeeds() []*feed {
	core, discovery, networking := corev1.SchemeGroupVersion, discoveryv1.SchemeGroupVersion, networkingv1.SchemeGroupVersion
	secrets := typed(core.WithKind("Secret"), "secrets", &corev1.Secret{}, keptSecret, func(s *Snapshot) *[]*corev1.Secret { return &s.Secrets })
	secrets.selector = fields.OneTermEqualSelector("type", string(corev1.SecretTypeTLS))
	ingresses := typed(networking.WithKind("Ingress"), "ingresses", &networkingv1.Ingress{}, keptIngress, func(s *Snapshot) *[]*networkingv1.Ingress { return &s.Ingresses })
	ingresses.ownStatus = true
	serviceCIDRs := typed(networking.WithKind("ServiceCIDR"), "servicecidrs", &networkingv1.ServiceCIDR{}, keptServiceCIDR, nil)
	nodes := typed(core.WithKind("Node"), "nodes", &corev1.Node{}, keptNode, nil)
	serviceCIDRs.put = func(s *Snapshot) bool { return putCIDRs(s, serviceCIDRs.rows, nodes.rows) }
	nodes.put = serviceCIDRs.put
	httpRoutes := judged(schema.GroupVersion(gwv1.GroupVersion).WithKind("HTTPRoute"), "httproutes", &gwv1.HTTPRoute{}, func(s *Snapshot) *[]*gwv1.HTTPRoute { return &s.HTTPRoutes })
	httpRoutes.optional = true
	return []*feed{
		typed(core.WithKind("Namespace"), "namespaces", &corev1.Namespace{}, keptNamespace, func(s *Snapshot) *[]*corev1.Namespace { return &s.Namespaces }),
		typed(core.WithKind("ServiceAccount"), "serviceaccounts", &corev1.ServiceAccount{}, keptServiceAccount,
			func(s *Snapshot) *[]*corev1.ServiceAccount { return &s.ServiceAccounts }),
		typed(core.WithKind("Service"), "services", &corev1.Service{}, keptService, func(s *Snapshot) *[]*corev1.Service { return &s.Services }),
		typed(discovery.WithKind("EndpointSlice"), "endpointslices", &discoveryv1.EndpointSlice{}, keptEndpointSlice,
			func(s *Snapshot) *[]*discoveryv1.EndpointSlice { return &s.EndpointSlices }),
		typed(core.WithKind("Pod"), "pods", &corev1.Pod{}, keptPod, func(s *Snapshot) *[]*corev1.Pod { return &s.Pods }),
		secrets, ingresses,
		typed(networking.WithKind("IngressClass"), "ingressclasses", &networkingv1.IngressClass{}, keptIngressClass,
			func(s *Snapshot) *[]*networkingv1.IngressClass { return &s.IngressClasses }),
		serviceCIDRs, nodes, httpRoutes,
		custom("MeshConfig", "meshconfigs", &meshv1a1.MeshConfig{}, func(s *Snapshot) *[]*meshv1a1.MeshConfig { return &s.MeshConfigs }),
		custom("CertificateAuthority", "certificateauthorities", &meshv1a1.CertificateAuthority{},
			func(s *Snapshot) *[]*meshv1a1.CertificateAuthority { return &s.CertificateAuthorities }),
		custom("PeerAuthentication", "peerauthentications", &meshv1a1.PeerAuthentication{},
			func(s *Snapshot) *[]*meshv1a1.PeerAuthentication { return &s.PeerAuthentications }),
		custom("RequestAuthentication", "requestauthentications", &meshv1a1.RequestAuthentication{},
			func(s *Snapshot) *[]*meshv1a1.RequestAuthentication { return &s.RequestAuthentications }),
		custom("AuthorizationPolicy", "authorizationpolicies", &meshv1a1.AuthorizationPolicy{},
			func(s *Snapshot) *[]*meshv1a1.AuthorizationPolicy { return &s.AuthorizationPolicies }),
		custom("TrafficPolicy", "trafficpolicies", &meshv1a1.TrafficPolicy{}, func(s *Snapshot) *[]*meshv1a1.TrafficPolicy { return &s.TrafficPolicies }),
		custom("Workload", "workloads", &meshv1a1.Workload{}, func(s *Snapshot) *[]*meshv1a1.Workload { return &s.Workloads }),
	}
}

// typed is a kind of which the whole object is watched, and stripped.
func typed[S any, T structOf[S]](gvk schema.GroupVersionKind, resource string, watch T, kept func(T) T, slice func(*Snapshot) *[]T) *feed {
	f := &feed{gvk: gvk, resource: resource, watch: watch, same: sameBut[S, T]}
	f.strip = func(in any) (client.Object, error) {
		object, ok := in.(T)
		if !ok {
			return nil, fmt.Errorf("%s: %w: %T", gvk.Kind, errUnexpected, in)
		}
		out := kept(object)
		out.GetObjectKind().SetGroupVersionKind(gvk)
		return out, nil
	}
	f.put = putInto(f, slice)
	return f
}

func putInto[T client.Object](f *feed, slice func(*Snapshot) *[]T) func(*Snapshot) bool {
	return func(s *Snapshot) bool {
		*slice(s) = objectsOf[T](f.rows)
		return true
	}
}

// keptMeta is what any stage reads of metadata. Annotations are meshd's own and
// the few of Kubernetes that say something here.
func keptMeta(m *metav1.ObjectMeta) metav1.ObjectMeta {
	out := metav1.ObjectMeta{
		Name: m.Name, Namespace: m.Namespace, UID: m.UID, ResourceVersion: m.ResourceVersion,
		Generation: m.Generation, CreationTimestamp: m.CreationTimestamp, Labels: m.Labels,
	}
	for k, v := range m.Annotations {
		if keptAnnotation(k) {
			if out.Annotations == nil {
				out.Annotations = map[string]string{}
			}
			out.Annotations[k] = v
		}
	}
	return out
}

func keptAnnotation(key string) bool {
	switch key {
	case corev1.MirrorPodAnnotationKey, networkingv1.AnnotationIsDefaultIngressClass, "kubernetes.io/ingress.class":
		return true
	}
	domain, _, _ := strings.Cut(key, "/")
	return domain == meshv1a1.GroupVersion.Group || strings.HasSuffix(domain, "."+meshv1a1.GroupVersion.Group)
}

func keptNamespace(n *corev1.Namespace) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: keptMeta(&n.ObjectMeta)}
}

func keptServiceAccount(a *corev1.ServiceAccount) *corev1.ServiceAccount {
	return &corev1.ServiceAccount{ObjectMeta: keptMeta(&a.ObjectMeta)}
}

func keptService(s *corev1.Service) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: keptMeta(&s.ObjectMeta), Spec: s.Spec,
		Status: corev1.ServiceStatus{LoadBalancer: s.Status.LoadBalancer},
	}
}

func keptEndpointSlice(e *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
	out := &discoveryv1.EndpointSlice{
		ObjectMeta: keptMeta(&e.ObjectMeta), AddressType: e.AddressType, Ports: e.Ports,
		Endpoints: make([]discoveryv1.Endpoint, len(e.Endpoints)),
	}
	for i, endpoint := range e.Endpoints {
		kept := discoveryv1.Endpoint{Addresses: endpoint.Addresses, Conditions: endpoint.Conditions, Zone: endpoint.Zone}
		if ref := endpoint.TargetRef; ref != nil {
			kept.TargetRef = &corev1.ObjectReference{Kind: ref.Kind, Name: ref.Name}
		}
		out.Endpoints[i] = kept
	}
	return out
}

func keptSecret(s *corev1.Secret) *corev1.Secret {
	out := &corev1.Secret{ObjectMeta: keptMeta(&s.ObjectMeta), Type: s.Type, Data: map[string][]byte{}}
	for _, key := range []string{corev1.TLSCertKey, corev1.TLSPrivateKeyKey, corev1.ServiceAccountRootCAKey} {
		if value, ok := s.Data[key]; ok {
			out.Data[key] = value
		}
	}
	return out
}

func keptIngress(in *networkingv1.Ingress) *networkingv1.Ingress {
	return &networkingv1.Ingress{ObjectMeta: keptMeta(&in.ObjectMeta), Spec: in.Spec, Status: in.Status}
}

func keptIngressClass(c *networkingv1.IngressClass) *networkingv1.IngressClass {
	return &networkingv1.IngressClass{ObjectMeta: keptMeta(&c.ObjectMeta), Spec: c.Spec}
}

func keptServiceCIDR(c *networkingv1.ServiceCIDR) *networkingv1.ServiceCIDR {
	return &networkingv1.ServiceCIDR{
		ObjectMeta: metav1.ObjectMeta{Name: c.Name, UID: c.UID, ResourceVersion: c.ResourceVersion},
		Spec:       networkingv1.ServiceCIDRSpec{CIDRs: c.Spec.CIDRs},
	}
}

func keptNode(n *corev1.Node) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: n.Name, UID: n.UID, ResourceVersion: n.ResourceVersion},
		Spec:       corev1.NodeSpec{PodCIDR: n.Spec.PodCIDR, PodCIDRs: n.Spec.PodCIDRs},
	}
}

// putCIDRs sets the networks of Services and pods, in their canonical form. What is none is left out.
func putCIDRs(s *Snapshot, serviceCIDRs, nodes []row) bool {
	var texts []string
	for _, c := range objectsOf[*networkingv1.ServiceCIDR](serviceCIDRs) {
		texts = append(texts, c.Spec.CIDRs...)
	}
	for _, n := range objectsOf[*corev1.Node](nodes) {
		texts = append(append(texts, n.Spec.PodCIDR), n.Spec.PodCIDRs...)
	}
	set := map[netip.Prefix]bool{}
	for _, text := range texts {
		if p, err := netip.ParsePrefix(text); err == nil {
			set[p.Masked()] = true
		}
	}
	cidrs := slices.SortedFunc(maps.Keys(set), func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	if slices.Equal(cidrs, s.CIDRs) {
		return false
	}
	s.CIDRs = cidrs
	return true
}
