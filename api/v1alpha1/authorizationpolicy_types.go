package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// AuthorizationAction is Allow or Deny.
type AuthorizationAction string

// The actions.
const (
	Allow AuthorizationAction = "Allow"
	Deny  AuthorizationAction = "Deny"
)

// AuthorizationPolicy says who may do what.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
type AuthorizationPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              AuthorizationPolicySpec `json:"spec"`
	Status            PolicyStatus            `json:"status,omitempty"`
}

// AuthorizationPolicySpec is an action and the rules under which it is taken.
type AuthorizationPolicySpec struct {
	// TargetRefs: Namespace, Pod, Service, HTTPRoute, GRPCRoute or Gateway; left out = the whole namespace.
	// +optional
	TargetRefs []TargetRef `json:"targetRefs,omitempty"`
	// Action: Deny is looked at first; where any Allow policy applies, one of its rules must match.
	// +kubebuilder:validation:Enum=Allow;Deny
	Action AuthorizationAction `json:"action"`
	// Mode: Audit never changes a verdict.
	// +kubebuilder:validation:Enum=Enforce;Audit
	// +kubebuilder:default=Enforce
	Mode string `json:"mode,omitempty"`
	// Rules: any of them. Allow with no rules allows nothing.
	// +optional
	Rules []AuthorizationRule `json:"rules,omitempty"`
}

// AuthorizationRule matches when one of its sources and one of its `to` match.
type AuthorizationRule struct {
	// Sources: any of them; left out = anyone.
	// +optional
	Sources []AuthorizationSource `json:"sources,omitempty"`
	// To: any of them; left out = anything.
	// +optional
	To []AuthorizationTo `json:"to,omitempty"`
}

// AuthorizationSource matches when all its fields match.
type AuthorizationSource struct {
	// +optional
	ServiceAccount *ServiceAccountSource `json:"serviceAccount,omitempty"`
	// SPIFFE is an exact ID, or a prefix that ends in /*.
	// +optional
	SPIFFE string `json:"spiffe,omitempty"`
	// +optional
	JWT *JWTSource `json:"jwt,omitempty"`
	// CIDR of the direct peer.
	// +optional
	CIDR string `json:"cidr,omitempty"`
	// ForwardedCIDR of the client as told by trusted hops.
	// +optional
	ForwardedCIDR string `json:"forwardedCIDR,omitempty"`
}

// ServiceAccountSource is a service account, or all of a namespace's.
type ServiceAccountSource struct {
	// Namespace: the policy's own when left out.
	// +optional
	Namespace string `json:"namespace,omitempty"`
	// Name: all of that namespace when left out.
	// +optional
	Name string `json:"name,omitempty"`
}

// JWTSource is a token's issuer and claims.
type JWTSource struct {
	Issuer string `json:"issuer"`
	// Claims: all of them.
	// +optional
	Claims []ClaimMatch `json:"claims,omitempty"`
}

// ClaimMatch matches when the claim has any of the values.
type ClaimMatch struct {
	// Name is one top-level claim, taken literally.
	// +optional
	Name string `json:"name,omitempty"`
	// Path is a nested claim.
	// +optional
	Path   []string `json:"path,omitempty"`
	Values []string `json:"values"`
}

// AuthorizationTo matches when all its fields match; of each list, any value.
type AuthorizationTo struct {
	// Ports are the workload's own numbers (for a Gateway: its listeners').
	// +optional
	Ports []int32 `json:"ports,omitempty"`
	// +optional
	Methods []string `json:"methods,omitempty"`
	// Paths: exact, prefix by /*, one segment by {name}.
	// +optional
	Paths []string `json:"paths,omitempty"`
	// Headers: all of them.
	// +optional
	Headers []HeaderValues `json:"headers,omitempty"`
	// +optional
	GRPC []GRPCMatch `json:"grpc,omitempty"`
}

// HeaderValues matches when the header has any of the values.
type HeaderValues struct {
	Name   string   `json:"name"`
	Values []string `json:"values"`
}

// GRPCMatch matches a gRPC service, or some of its methods.
type GRPCMatch struct {
	Service string `json:"service"`
	// +optional
	Methods []string `json:"methods,omitempty"`
}

// AuthorizationPolicyList is a list of AuthorizationPolicies.
//
// +kubebuilder:object:root=true
type AuthorizationPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []AuthorizationPolicy `json:"items"`
}
