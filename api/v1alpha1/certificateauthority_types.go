package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// CertificateAuthority is the mesh's CA; the one named "default" counts.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Source",type=string,JSONPath=`.spec.source`
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name="Programmed",type=string,JSONPath=`.status.conditions[?(@.type=="Programmed")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Programmed")].reason`
// +kubebuilder:printcolumn:name="Acknowledged",type=integer,JSONPath=`.status.proxies.acknowledged`
// +kubebuilder:printcolumn:name="Proxies",type=integer,JSONPath=`.status.proxies.total`
// +kubebuilder:printcolumn:name="Rejected",type=integer,JSONPath=`.status.proxies.rejected`,priority=1
// +kubebuilder:printcolumn:name="Resolved",type=string,JSONPath=`.status.conditions[?(@.type=="ResolvedRefs")].status`,priority=1
// +kubebuilder:printcolumn:name="Laggards",type=string,JSONPath=`.status.laggards`,priority=1
// +kubebuilder:printcolumn:name="Root Ends",type=string,JSONPath=`.status.roots[0].notAfter`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name == 'default'",message="metadata.name must be default: only that one counts"
// +kubebuilder:resource:scope=Cluster,categories=meshd
type CertificateAuthority struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	// +kubebuilder:default={}
	Spec   CertificateAuthoritySpec   `json:"spec,omitempty"`
	Status CertificateAuthorityStatus `json:"status,omitempty"`
}

// CertificateAuthoritySpec says where the root comes from and how long things live.
type CertificateAuthoritySpec struct {
	// Source of the root: made by meshd, or given in a Secret.
	// +kubebuilder:validation:Enum=SelfSigned;Secret
	// +kubebuilder:default=SelfSigned
	Source string `json:"source,omitempty"`
	// SecretRef with source Secret: tls.crt, tls.key, ca.crt.
	// +optional
	// +kubebuilder:default={}
	SecretRef *SecretRef `json:"secretRef,omitempty"`
	// Lifetimes of what is signed.
	// +optional
	// +kubebuilder:default={}
	Lifetimes Lifetimes `json:"lifetimes,omitempty"`
	// Rotate: any new value starts a rotation of the root.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	Rotate string `json:"rotate,omitempty"`
	// Paused stops a rotation where it is.
	// +optional
	Paused bool `json:"paused,omitempty"`
}

// SecretRef names a Secret.
type SecretRef struct {
	// Namespace of the Secret.
	// +kubebuilder:default=meshd-system
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Namespace string `json:"namespace,omitempty"`
	// Name of the Secret.
	// +kubebuilder:default=meshd-ca
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
	Name string `json:"name,omitempty"`
}

// Lifetimes of what the CA signs. Nothing outlives what signed it.
//
// +kubebuilder:validation:XValidation:rule="!has(self.leaf) || duration(self.leaf) >= duration('1s')",fieldPath=".leaf",message="leaf must be at least 1s"
// +kubebuilder:validation:XValidation:rule="!has(self.issuer) || !has(self.leaf) || duration(self.issuer) >= duration(self.leaf)",fieldPath=".issuer",message="issuer must not be less than leaf: nothing outlives what signed it"
// +kubebuilder:validation:XValidation:rule="!has(self.root) || !has(self.issuer) || duration(self.root) >= duration(self.issuer)",fieldPath=".root",message="root must not be less than issuer: nothing outlives what signed it"
type Lifetimes struct {
	// Root that meshd makes; one that is there stays.
	// +kubebuilder:default="87600h"
	Root Duration `json:"root,omitempty"`
	// Issuer: each replica's own certificate, which signs the leaves.
	// +kubebuilder:default="168h"
	Issuer Duration `json:"issuer,omitempty"`
	// Leaf: a workload's certificate, renewed at half of it.
	// +kubebuilder:default="1h"
	Leaf Duration `json:"leaf,omitempty"`
}

// CertificateAuthorityStatus is the state of the CA and of a rotation.
type CertificateAuthorityStatus struct {
	// ObservedGeneration is the generation that the rest of the status speaks of.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Phase: Stable, or a step of the rotation.
	// +optional
	Phase string `json:"phase,omitempty"`
	// Roots that are trusted.
	// +optional
	Roots []CertificateStatus `json:"roots,omitempty"`
	// Issuers: one for each replica.
	// +optional
	Issuers []CertificateStatus `json:"issuers,omitempty"`
	// Proxies counts the live proxies by whether they have acknowledged the roots.
	// +optional
	Proxies ProxyCount `json:"proxies,omitempty"`
	// Laggards are the first proxies (at most 5) that have not acknowledged.
	// +optional
	Laggards []string `json:"laggards,omitempty"`
	// Conditions: Accepted, ResolvedRefs, Programmed.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// CertificateStatus describes a CA certificate.
type CertificateStatus struct {
	// Fingerprint is the SHA-256 of the certificate's DER, in hex.
	Fingerprint string `json:"fingerprint"`
	// NotAfter is when it ends.
	NotAfter metav1.Time `json:"notAfter"`
}

// CertificateAuthorityList is a list of CertificateAuthorities.
//
// +kubebuilder:object:root=true
type CertificateAuthorityList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []CertificateAuthority `json:"items"`
}
