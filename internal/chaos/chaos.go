// Package chaos makes meshes for tests: ones that change at random, and big ones.
package chaos

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
	"github.com/meshd-io/meshd/pkg/crds"
)

// Mesh is a small mesh that changes at random: few names, so that objects collide, conflict and dangle.
type Mesh struct {
	// Snapshot is the newest state. Older ones stay as they are.
	Snapshot *crds.Snapshot
	// Last says what the last change was.
	Last string
	r    *rand.Rand
	born int64
}

// New is empty; the same seed gives the same changes.
func New(seed uint64) *Mesh {
	return &Mesh{r: rand.New(rand.NewPCG(seed, 7)), Snapshot: &crds.Snapshot{}}
}

func (c *Mesh) pick(of ...string) string { return of[c.r.IntN(len(of))] }

func (c *Mesh) chance(percent int) bool { return c.r.IntN(100) < percent }

func (c *Mesh) namespace() string { return c.pick("shop", "shop", "bank") }

func (c *Mesh) app() string { return c.pick("a", "b", "c", "d") }

func (c *Mesh) ip() string {
	return c.pick("10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6", "192.0.2.1", "fd00::1", "10.0.1.1", "10.0.1.2")
}

func (c *Mesh) port() int32 { return []int32{80, 80, 8080, 3306}[c.r.IntN(4)] }

// meta makes a new object, or the next version of the one that has the name.
func (c *Mesh) meta(ns, name string, old metav1.Object) metav1.ObjectMeta {
	c.born++
	m := metav1.ObjectMeta{
		Namespace: ns, Name: name, Generation: 1, UID: types.UID(fmt.Sprint(c.born)),
		CreationTimestamp: metav1.NewTime(time.Unix(int64(c.r.IntN(5)), 0)),
		Annotations:       map[string]string{"version": fmt.Sprint(c.born)},
	}
	if old != nil && !reflect.ValueOf(old).IsNil() {
		m.UID, m.CreationTimestamp, m.Generation = old.GetUID(), old.GetCreationTimestamp(), old.GetGeneration()
		if c.chance(70) {
			m.Generation++
		}
	}
	return m
}

func (c *Mesh) labels() map[string]string {
	out := map[string]string{"app": c.app()}
	if c.chance(50) {
		out["tier"] = c.pick("front", "back")
	}
	if c.chance(20) {
		out["extra"] = c.app()
	}
	return out
}

// put replaces an object, adds it, or takes one of its name away.
func put[O metav1.Object](c *Mesh, list []O, ns, name string, build func(m metav1.ObjectMeta) O) []O {
	i := slices.IndexFunc(list, func(o O) bool { return o.GetNamespace() == ns && o.GetName() == name })
	out := slices.Clone(list)
	var old metav1.Object
	if i >= 0 {
		old = out[i]
		out = slices.Delete(out, i, i+1)
		if c.chance(30) {
			c.Last = fmt.Sprintf("deleted %T %s/%s", old, ns, name)
			return out
		}
	}
	if old != nil && c.chance(15) {
		old = nil // deleted and made again
	}
	obj := build(c.meta(ns, name, old))
	c.Last = fmt.Sprintf("put %T %s/%s", obj, ns, name)
	out = append(out, obj)
	slices.SortFunc(out, func(a, b O) int { return byName(a, b) })
	return out
}

// Change adds, replaces or deletes one object of any kind.
func (c *Mesh) Change() {
	next := *c.Snapshot
	ns := c.namespace()
	switch c.r.IntN(15) {
	case 0, 1:
		next.Pods = put(c, next.Pods, ns, c.pick("p0", "p1", "p2", "p3", "p4", "w0"), c.newPod)
	case 2, 3:
		next.Services = put(c, next.Services, ns, c.app(), c.newService)
	case 4, 5, 6:
		next.EndpointSlices = put(c, next.EndpointSlices, ns, c.pick("s0", "s1", "s2", "s3"), c.newSlice)
	case 7:
		next.Workloads = put(c, next.Workloads, ns, c.pick("w0", "w1"), c.newWorkload)
	case 8:
		next.PeerAuthentications = put(c, next.PeerAuthentications, ns, c.pick("x", "y"), c.newPeerAuthentication)
	case 9:
		next.AuthorizationPolicies = put(c, next.AuthorizationPolicies, ns, c.pick("x", "y"), c.newAuthorizationPolicy)
	case 10:
		next.TrafficPolicies = put(c, next.TrafficPolicies, ns, c.pick("x", "y", "z"), c.newTrafficPolicy)
	case 11:
		c.changeIngress(&next, ns)
	case 12, 13:
		next.HTTPRoutes = put(c, next.HTTPRoutes, ns, c.pick("r0", "r1", "r2", "r3"), c.newHTTPRoute)
	case 14:
		if c.chance(20) {
			c.changeRare(&next)
		}
	}
	c.Snapshot = &next
}

func (c *Mesh) newPod(m metav1.ObjectMeta) *corev1.Pod {
	m.Labels = c.labels()
	p := &corev1.Pod{ObjectMeta: m}
	p.Spec.ServiceAccountName = c.pick("", "one", "two", "two", "not a name")
	p.Spec.Containers = []corev1.Container{{Name: "app", Ports: []corev1.ContainerPort{{Name: c.pick("http", "grpc", "x"), ContainerPort: c.port()}}}}
	if c.chance(75) {
		p.Spec.InitContainers = []corev1.Container{{Name: "meshd-proxy"}}
		if c.chance(20) {
			p.Spec.InitContainers = append(p.Spec.InitContainers, corev1.Container{Name: "meshd-capture", Args: []string{"--exclude-inbound-ports=80"}})
		}
	}
	p.Spec.HostNetwork = c.chance(10)
	p.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: c.ip()}
	if c.chance(10) {
		p.Status.Phase = corev1.PodSucceeded
	}
	if c.chance(50) {
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	}
	return p
}

func (c *Mesh) newService(m metav1.ObjectMeta) *corev1.Service {
	s := &corev1.Service{ObjectMeta: m}
	s.Spec.ClusterIP = c.pick("10.1.0.1", "10.1.0.2", "10.1.0.3", "None", "198.51.100.1")
	switch c.r.IntN(4) {
	case 0, 1:
		s.Spec.Selector = map[string]string{"app": c.app()}
	case 2:
		s.Spec.Selector = map[string]string{"app": c.app(), "tier": c.pick("front", "back")}
	}
	for i := range 1 + c.r.IntN(2) {
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: []string{c.pick("http", "grpc", "tcp"), "other"}[i], Port: c.port() + int32(i)})
		if c.chance(40) {
			s.Spec.Ports[i].TargetPort = intstr.FromString("http")
		}
	}
	if c.chance(8) {
		s.Spec.Type = corev1.ServiceTypeExternalName
	}
	return s
}

func (c *Mesh) newSlice(m metav1.ObjectMeta) *discoveryv1.EndpointSlice {
	m.Labels = map[string]string{discoveryv1.LabelServiceName: c.app()}
	s := &discoveryv1.EndpointSlice{ObjectMeta: m, AddressType: discoveryv1.AddressTypeIPv4}
	s.Ports = []discoveryv1.EndpointPort{{Name: new(c.pick("http", "grpc", "tcp")), Port: new(c.port())}}
	for range c.r.IntN(4) {
		e := discoveryv1.Endpoint{Addresses: []string{c.ip()}, Conditions: discoveryv1.EndpointConditions{Ready: new(c.chance(70))}}
		if c.chance(50) {
			e.TargetRef = &corev1.ObjectReference{Kind: "Pod", Name: c.pick("p0", "p1", "p2", "p3", "p9")}
		}
		if c.chance(30) {
			e.Zone = new(c.app())
		}
		if c.chance(5) {
			e.Addresses = append(e.Addresses, "nowhere")
		}
		s.Endpoints = append(s.Endpoints, e)
	}
	return s
}

func (c *Mesh) newWorkload(m metav1.ObjectMeta) *meshv1a1.Workload {
	m.Labels = c.labels()
	w := &meshv1a1.Workload{ObjectMeta: m}
	w.Spec.ServiceAccount = c.pick("one", "two")
	w.Spec.Addresses = []string{c.ip()}
	if c.chance(10) {
		w.Spec.Addresses = []string{"nowhere"}
	}
	return w
}

func (c *Mesh) targets() []meshv1a1.TargetRef {
	switch c.r.IntN(6) {
	case 0:
		return nil
	case 1:
		return []meshv1a1.TargetRef{{Kind: "Namespace"}}
	case 2:
		return []meshv1a1.TargetRef{{Kind: "Service", Name: c.app()}, {Kind: "Service", Name: c.app()}}
	case 3:
		return []meshv1a1.TargetRef{{Kind: "Pod", Selector: &metav1.LabelSelector{MatchLabels: c.labels()}}}
	case 4:
		return []meshv1a1.TargetRef{{Kind: "Pod", Selector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
			{Key: c.pick("app", "tier", "other"), Operator: metav1.LabelSelectorOperator(c.pick("Exists", "DoesNotExist"))}}}}}
	}
	return []meshv1a1.TargetRef{{Kind: c.pick("Nonsense", "Pod")}}
}

func (c *Mesh) newPeerAuthentication(m metav1.ObjectMeta) *meshv1a1.PeerAuthentication {
	p := &meshv1a1.PeerAuthentication{ObjectMeta: m}
	p.Spec.TargetRefs = c.targets()
	p.Spec.Mode = meshv1a1.PeerAuthenticationMode(c.pick("Strict", "Permissive", "Disable", "Sometimes"))
	if c.chance(30) {
		p.Spec.Ports = []meshv1a1.PeerAuthenticationPort{{Port: c.port(), Mode: meshv1a1.Disable}}
	}
	return p
}

func (c *Mesh) newAuthorizationPolicy(m metav1.ObjectMeta) *meshv1a1.AuthorizationPolicy {
	p := &meshv1a1.AuthorizationPolicy{ObjectMeta: m}
	p.Spec.TargetRefs = c.targets()
	p.Spec.Action = meshv1a1.AuthorizationAction(c.pick("Allow", "Deny", "Maybe"))
	if c.chance(80) {
		p.Spec.Rules = []meshv1a1.AuthorizationRule{{Sources: []meshv1a1.AuthorizationSource{{ServiceAccount: &meshv1a1.ServiceAccountSource{Name: c.pick("one", "two")}}}}}
	}
	return p
}

func (c *Mesh) newTrafficPolicy(m metav1.ObjectMeta) *meshv1a1.TrafficPolicy {
	p := &meshv1a1.TrafficPolicy{ObjectMeta: m}
	p.Spec.TargetRefs = []meshv1a1.TargetRef{{Kind: "Service", Name: c.app()}}
	if c.chance(40) {
		p.Spec.TargetRefs = []meshv1a1.TargetRef{{Kind: "Namespace"}}
	}
	if c.chance(30) {
		p.Spec.TargetRefs = []meshv1a1.TargetRef{{Group: "gateway.networking.k8s.io", Kind: "HTTPRoute", Name: c.pick("r0", "r1"), SectionName: c.pick("", "first")}}
	}
	if c.chance(60) {
		p.Spec.Timeout = &meshv1a1.Timeout{Request: meshv1a1.Duration(c.pick("1s", "2s", "soon"))}
	}
	if c.chance(40) {
		p.Spec.Retry = &meshv1a1.Retry{}
	}
	if c.chance(30) {
		p.Spec.Protocol = c.pick("HTTP", "TCP")
	}
	return p
}

func (c *Mesh) changeIngress(next *crds.Snapshot, ns string) {
	switch c.r.IntN(6) {
	case 0:
		next.Secrets = put(c, next.Secrets, ns, "cert", func(m metav1.ObjectMeta) *corev1.Secret { return &corev1.Secret{ObjectMeta: m} })
	case 1:
		next.IngressClasses = put(c, next.IngressClasses, "", c.pick("meshd", "other"), func(m metav1.ObjectMeta) *networkingv1.IngressClass {
			m.Annotations[networkingv1.AnnotationIsDefaultIngressClass] = c.pick("true", "false")
			return &networkingv1.IngressClass{ObjectMeta: m, Spec: networkingv1.IngressClassSpec{Controller: c.pick("meshd.io/ingress", "x")}}
		})
	default:
		next.Ingresses = put(c, next.Ingresses, ns, c.pick("i", "j"), func(m metav1.ObjectMeta) *networkingv1.Ingress {
			in := &networkingv1.Ingress{ObjectMeta: m}
			if c.chance(80) {
				in.Spec.IngressClassName = new("meshd")
			}
			if c.chance(30) {
				in.Spec.TLS = []networkingv1.IngressTLS{{SecretName: "cert"}}
			}
			in.Spec.Rules = []networkingv1.IngressRule{{Host: c.pick("", "x.example", "*.example"), IngressRuleValue: networkingv1.IngressRuleValue{
				HTTP: &networkingv1.HTTPIngressRuleValue{Paths: []networkingv1.HTTPIngressPath{{Path: c.pick("/", "/x"), Backend: networkingv1.IngressBackend{
					Service: &networkingv1.IngressServiceBackend{Name: c.app(), Port: networkingv1.ServiceBackendPort{Number: c.port()}}}}}}}}}
			return in
		})
	}
}

// changeRare changes what everything depends on.
func (c *Mesh) changeRare(next *crds.Snapshot) {
	switch c.r.IntN(4) {
	case 0:
		next.CIDRs = []netip.Prefix{netip.MustParsePrefix(c.pick("192.0.2.0/24", "198.51.100.0/24"))}
	case 1:
		next.RequestAuthentications = put(c, next.RequestAuthentications, "shop", "r", func(m metav1.ObjectMeta) *meshv1a1.RequestAuthentication {
			return &meshv1a1.RequestAuthentication{ObjectMeta: m}
		})
	case 2:
		next.CertificateAuthorities = put(c, next.CertificateAuthorities, "", c.pick("default", "x"), func(m metav1.ObjectMeta) *meshv1a1.CertificateAuthority {
			return &meshv1a1.CertificateAuthority{ObjectMeta: m}
		})
	default:
		next.MeshConfigs = put(c, next.MeshConfigs, "", c.pick("default", "default", "x"), func(m metav1.ObjectMeta) *meshv1a1.MeshConfig {
			config := &meshv1a1.MeshConfig{ObjectMeta: m}
			config.Spec.TrustDomain = c.pick("", "", "example.org", "no domain")
			config.Spec.Defaults.PeerAuthentication = meshv1a1.PeerAuthenticationMode(c.pick("", "Permissive"))
			config.Spec.Defaults.Authorization = meshv1a1.AuthorizationAction(c.pick("", "Deny"))
			return config
		})
	}
}

func byName(a, b metav1.Object) int {
	return cmp.Or(cmp.Compare(a.GetNamespace(), b.GetNamespace()), cmp.Compare(a.GetName(), b.GetName()))
}
