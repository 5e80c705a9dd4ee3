package crds

import (
	"net/netip"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"

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
}
