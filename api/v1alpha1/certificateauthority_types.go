package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// CertificateAuthority is the mesh's CA; the one named "default" counts.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster
type CertificateAuthority struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              CertificateAuthoritySpec   `json:"spec,omitempty"`
	Status            CertificateAuthorityStatus `json:"status,omitempty"`
}

// CertificateAuthoritySpec says where the root comes from and how long things live.
type CertificateAuthoritySpec struct {
	// +kubebuilder:validation:Enum=SelfSigned;Secret
	// +kubebuilder:default=SelfSigned
	Source string `json:"source,omitempty"`
	// SecretRef with source Secret: tls.crt, tls.key, ca.crt.
	// +optional
	SecretRef *SecretRef `json:"secretRef,omitempty"`
	// +optional
	Lifetimes Lifetimes `json:"lifetimes,omitempty"`
	// Rotate: any new value starts a rotation of the root.
	// +optional
	Rotate string `json:"rotate,omitempty"`
	// Paused stops a rotation where it is.
	// +optional
	Paused bool `json:"paused,omitempty"`
}

// SecretRef names a Secret.
type SecretRef struct {
	// +kubebuilder:default=meshd-system
	Namespace string `json:"namespace,omitempty"`
	// +kubebuilder:default=meshd-ca
	Name string `json:"name,omitempty"`
}

// Lifetimes of what the CA signs.
type Lifetimes struct {
	// +kubebuilder:default="87600h"
	Root Duration `json:"root,omitempty"`
	// +kubebuilder:default="168h"
	Issuer Duration `json:"issuer,omitempty"`
	// +kubebuilder:default="1h"
	Leaf Duration `json:"leaf,omitempty"`
}

// CertificateAuthorityStatus is the state of the CA and of a rotation.
type CertificateAuthorityStatus struct {
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Phase: Stable, or a step of the rotation.
	// +optional
	Phase string `json:"phase,omitempty"`
	// +optional
	Roots []CertificateStatus `json:"roots,omitempty"`
	// +optional
	Issuers []CertificateStatus `json:"issuers,omitempty"`
	// +optional
	Proxies ProxyCount `json:"proxies,omitempty"`
	// +optional
	Laggards []string `json:"laggards,omitempty"`
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// CertificateStatus describes a CA certificate.
type CertificateStatus struct {
	// Fingerprint is the SHA-256 of the certificate's DER, in hex.
	Fingerprint string      `json:"fingerprint"`
	NotAfter    metav1.Time `json:"notAfter"`
}

// CertificateAuthorityList is a list of CertificateAuthorities.
//
// +kubebuilder:object:root=true
type CertificateAuthorityList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []CertificateAuthority `json:"items"`
}
