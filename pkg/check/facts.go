package check

import (
	"net/netip"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
	"github.com/meshd-io/meshd/pkg/console"
	"github.com/meshd-io/meshd/pkg/report"
)

// Facts are what is known of a mesh.
type Facts struct {
	Now time.Time
	// Version of the program that asks.
	Version string
	// Leaf is how long the certificates of workloads live.
	Leaf time.Duration
	// Replicas are the meshd processes that were asked.
	Replicas []Replica
	// Objects are those that carry conditions.
	Objects []Object
	// Cluster is nil for a meshd that serves from files.
	Cluster *Cluster
}

// Replica is one meshd.
type Replica struct {
	// Name of its pod; "" is the only one, outside of a cluster.
	Name  string
	State console.State
	// Silent says why it does not answer; "" when it does.
	Silent string
}

// Object is an object with its conditions.
type Object struct {
	report.Object
	// Generation that it has, and Observed, which its status speaks of (0: none).
	Generation, Observed int64
	Conditions           []metav1.Condition
}

// Reading is something of the cluster that may be refused to who asks.
type Reading string

// The readings.
const (
	Definitions Reading = "CustomResourceDefinitions"
	Deployments Reading = "Deployments of meshd's namespace"
	Pods        Reading = "Pods"
	Namespaces  Reading = "Namespaces"
	Webhooks    Reading = "MutatingWebhookConfigurations"
	Endpoints   Reading = "EndpointSlices of meshd's namespace"
	Anchor      Reading = "ConfigMap meshd-trust of meshd's namespace"
	Policies    Reading = "meshd's own kinds"
	Networks    Reading = "Nodes and ServiceCIDRs"
	States      Reading = "port-forward to meshd's pods"
)

// Cluster is what is known of meshd's installation in a cluster.
type Cluster struct {
	// Namespace of meshd.
	Namespace string
	// Unread says why something could not be read.
	Unread map[Reading]string

	// Installed are the definitions of group meshd.io that the cluster has, Wanted those of this version.
	Installed, Wanted []*apiextensionsv1.CustomResourceDefinition
	// Deployment of meshd; nil where there is none.
	Deployment *appsv1.Deployment
	// Webhook by which pods are injected; nil where there is none.
	Webhook *admissionregistrationv1.MutatingWebhookConfiguration
	// Slices of meshd's Service.
	Slices []*discoveryv1.EndpointSlice
	// Anchor is what pods trust meshd by: certificates in PEM; empty where there are none.
	Anchor []byte

	Namespaces []*corev1.Namespace
	Pods       []*corev1.Pod
	// MeshConfig "default"; nil where there is none.
	MeshConfig *meshv1a1.MeshConfig
	// CIDRs are the networks of services and pods, as the cluster tells.
	CIDRs []netip.Prefix
}
