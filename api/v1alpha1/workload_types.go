package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Workload is a process outside the cluster's pods: a VM, a bare machine.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
type Workload struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              WorkloadSpec `json:"spec"`
	Status            PolicyStatus `json:"status,omitempty"`
}

// WorkloadSpec is what a pod's spec and status would say.
type WorkloadSpec struct {
	ServiceAccount string `json:"serviceAccount"`
	// +kubebuilder:validation:MinItems=1
	Addresses []string `json:"addresses"`
	// +optional
	Ports []WorkloadPort `json:"ports,omitempty"`
	// +optional
	Zone string `json:"zone,omitempty"`
}

// WorkloadPort is a port that the process listens on.
type WorkloadPort struct {
	// +optional
	Name string `json:"name,omitempty"`
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port"`
}

// WorkloadList is a list of Workloads.
//
// +kubebuilder:object:root=true
type WorkloadList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Workload `json:"items"`
}
