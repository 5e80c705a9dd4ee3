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
	TargetRefs []TargetRef `json:"targetRefs,omitempty"`
	// +kubebuilder:validation:Enum=Strict;Permissive;Disable
	Mode PeerAuthenticationMode `json:"mode"`
	// Ports with a mode of their own.
	// +optional
	Ports []PeerAuthenticationPort `json:"ports,omitempty"`
	// +kubebuilder:validation:Enum=Immediate;WhenReady
	// +kubebuilder:default=Immediate
	Rollout string `json:"rollout,omitempty"`
}

// PeerAuthenticationPort is the mode of one of the workload's own port numbers.
type PeerAuthenticationPort struct {
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port"`
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
