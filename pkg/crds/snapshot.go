package crds

import (
	"net/netip"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
)

// Snapshot is a consistent state of all sources. It is immutable, and so is
// every object in it. Every slice is sorted by namespace, then name.
// Every object has a UID-independent name, a creationTimestamp and a generation.
type Snapshot struct {
	Namespaces      []*corev1.Namespace
	ServiceAccounts []*corev1.ServiceAccount
	Services        []*corev1.Service
	EndpointSlices  []*discoveryv1.EndpointSlice
	Pods            []*corev1.Pod
	Secrets         []*corev1.Secret
	Ingresses       []*networkingv1.Ingress
	IngressClasses  []*networkingv1.IngressClass
	HTTPRoutes      []*gwv1.HTTPRoute

	MeshConfigs            []*meshv1a1.MeshConfig
	CertificateAuthorities []*meshv1a1.CertificateAuthority
	PeerAuthentications    []*meshv1a1.PeerAuthentication
	RequestAuthentications []*meshv1a1.RequestAuthentication
	AuthorizationPolicies  []*meshv1a1.AuthorizationPolicy
	TrafficPolicies        []*meshv1a1.TrafficPolicy
	Workloads              []*meshv1a1.Workload

	// CIDRs are the networks of Services and pods, as ServiceCIDR objects and
	// Node.spec.podCIDRs tell: sorted, each once. Files tell of none.
	CIDRs []netip.Prefix

	// Controllers of pods. meshd serves nothing from them; `meshd translate`
	// and `plan` read their pod templates where no pods exist, and the lab runs them.
	Deployments  []*appsv1.Deployment
	StatefulSets []*appsv1.StatefulSet
	DaemonSets   []*appsv1.DaemonSet
	ReplicaSets  []*appsv1.ReplicaSet
	Jobs         []*batchv1.Job
	ConfigMaps   []*corev1.ConfigMap

	// content counts the changes of anything but statuses, in a cluster; 0 in files.
	content uint64
}

// Same reports whether two slices of Snapshots are one and the same, as those
// of a kind are that has not changed in between: nothing is compared but where
// they are.
func Same[T any](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// SameButStatus reports whether two Snapshots of one ClusterSource differ in
// the status of objects at most, so that the same is compiled from them. Of
// Snapshots of files it is false.
func (s *Snapshot) SameButStatus(t *Snapshot) bool {
	return s.content != 0 && s.content == t.content
}
