package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// PeerAuthenticationMode says what a workload accepts.
type PeerAuthenticationMode string

// The modes.
const (
	Strict     PeerAuthenticationMode = "Strict"     // mutual TLS of the mesh only
	Permissive PeerAuthenticationMode = "Permissive" // mutual TLS of the mesh, the application's own TLS, plaintext
	Disable    PeerAuthenticationMode = "Disable"    // no mutual TLS of the mesh
)

// PeerAuthentication says what pods accept from their peers.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:categories=meshd
// +kubebuilder:printcolumn:name="Mode",type=string,JSONPath=`.spec.mode`
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name="Programmed",type=string,JSONPath=`.status.conditions[?(@.type=="Programmed")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Programmed")].reason`
// +kubebuilder:printcolumn:name="Acknowledged",type=integer,JSONPath=`.status.proxies.acknowledged`
// +kubebuilder:printcolumn:name="Proxies",type=integer,JSONPath=`.status.proxies.total`
// +kubebuilder:printcolumn:name="Rejected",type=integer,JSONPath=`.status.proxies.rejected`,priority=1
// +kubebuilder:printcolumn:name="Resolved",type=string,JSONPath=`.status.conditions[?(@.type=="ResolvedRefs")].status`,priority=1
// +kubebuilder:printcolumn:name="Laggards",type=string,JSONPath=`.status.laggards`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type PeerAuthentication struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              PeerAuthenticationSpec `json:"spec"`
	Status            PolicyStatus           `json:"status,omitempty"`
}

// PeerAuthenticationSpec is the mode of workloads and ports.
type PeerAuthenticationSpec struct {
	// TargetRefs: Namespace or Pod; left out = the whole namespace.
	// +optional
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:XValidation:rule="self.kind in ['Namespace', 'Pod']",fieldPath=".kind",message="kind must be Namespace or Pod"
	TargetRefs []TargetRef `json:"targetRefs,omitempty"`
	// Mode: Strict takes mutual TLS of the mesh only, Permissive also the application's own TLS and plaintext, Disable none of the mesh.
	// +kubebuilder:validation:Enum=Strict;Permissive;Disable
	Mode PeerAuthenticationMode `json:"mode"`
	// Ports with a mode of their own.
	// +optional
	// +listType=map
	// +listMapKey=port
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	Ports []PeerAuthenticationPort `json:"ports,omitempty"`
	// Rollout: WhenReady comes later; until then it is refused.
	// +kubebuilder:validation:Enum=Immediate;WhenReady
	// +kubebuilder:validation:XValidation:rule="self != 'WhenReady'",message="WhenReady comes with a later version: use Immediate"
	// +kubebuilder:default=Immediate
	Rollout string `json:"rollout,omitempty"`
}

// PeerAuthenticationPort is the mode of one of the workload's own port numbers.
type PeerAuthenticationPort struct {
	// Port number of the workload itself.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port"`
	// Mode of this port.
	// +kubebuilder:validation:Enum=Strict;Permissive;Disable
	Mode PeerAuthenticationMode `json:"mode"`
}

// PeerAuthenticationList is a list of PeerAuthentications.
//
// +kubebuilder:object:root=true
type PeerAuthenticationList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []PeerAuthentication `json:"items"`
}
