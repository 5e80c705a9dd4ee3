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
// +kubebuilder:resource:categories=meshd
// +kubebuilder:printcolumn:name="Action",type=string,JSONPath=`.spec.action`
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
type AuthorizationPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              AuthorizationPolicySpec `json:"spec"`
	Status            PolicyStatus            `json:"status,omitempty"`
}

// AuthorizationPolicySpec is an action and the rules under which it is taken.
//
// +kubebuilder:validation:XValidation:rule="self.action != 'Deny' || has(self.rules)",message="a Deny needs rules: without them it would deny nothing"
type AuthorizationPolicySpec struct {
	// TargetRefs: Namespace, Pod, Service, HTTPRoute, GRPCRoute or Gateway; left out = the whole namespace.
	// +optional
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:XValidation:rule="self.kind in ['Namespace', 'Pod', 'Service', 'HTTPRoute', 'GRPCRoute', 'Gateway']",fieldPath=".kind",message="kind must be Namespace, Pod, Service, HTTPRoute, GRPCRoute or Gateway"
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
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	Rules []AuthorizationRule `json:"rules,omitempty"`
}

// AuthorizationRule matches when one of its sources and one of its `to` match.
type AuthorizationRule struct {
	// Sources: any of them; left out = anyone.
	// +optional
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	Sources []AuthorizationSource `json:"sources,omitempty"`
	// To: any of them; left out = anything.
	// +optional
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	To []AuthorizationTo `json:"to,omitempty"`
}

// AuthorizationSource matches when all its fields match. An empty one is not anyone: it is refused.
//
// +kubebuilder:validation:MinProperties=1
type AuthorizationSource struct {
	// ServiceAccount of the peer.
	// +optional
	ServiceAccount *ServiceAccountSource `json:"serviceAccount,omitempty"`
	// SPIFFE is an exact ID, or a prefix that ends in /* and names at least the whole trust domain.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:Pattern=`^spiffe://[a-z0-9._-]{1,255}(/([A-Za-z0-9_-]|\.[A-Za-z0-9_-]|\.\.[A-Za-z0-9._-])[A-Za-z0-9._-]*)*(/\*|/([A-Za-z0-9_-]|\.[A-Za-z0-9_-]|\.\.[A-Za-z0-9._-])[A-Za-z0-9._-]*)$`
	SPIFFE string `json:"spiffe,omitempty"`
	// JWT that RequestAuthentication has verified.
	// +optional
	JWT *JWTSource `json:"jwt,omitempty"`
	// CIDR of the direct peer.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=43
	// +kubebuilder:validation:XValidation:rule="isCIDR(self)",message="must be a CIDR such as 10.1.0.0/16 or fd00::/8"
	CIDR string `json:"cidr,omitempty"`
	// ForwardedCIDR of the client as told by trusted hops.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=43
	// +kubebuilder:validation:XValidation:rule="isCIDR(self)",message="must be a CIDR such as 10.1.0.0/16 or fd00::/8"
	ForwardedCIDR string `json:"forwardedCIDR,omitempty"`
}

// ServiceAccountSource is a service account, or all of a namespace's. One of its fields is needed.
//
// +kubebuilder:validation:MinProperties=1
type ServiceAccountSource struct {
	// Namespace: the policy's own when left out.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Namespace string `json:"namespace,omitempty"`
	// Name: all of that namespace when left out.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
	Name string `json:"name,omitempty"`
}

// JWTSource is a token's issuer and claims.
type JWTSource struct {
	// Issuer of the token, compared exactly.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	Issuer string `json:"issuer"`
	// Claims: all of them.
	// +optional
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Claims []ClaimMatch `json:"claims,omitempty"`
}

// ClaimMatch matches when the claim has any of the values.
//
// +kubebuilder:validation:XValidation:rule="has(self.name) != has(self.path)",message="exactly one of name (a top-level claim) and path (a nested one) is needed"
type ClaimMatch struct {
	// Name is one top-level claim, taken literally.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	Name string `json:"name,omitempty"`
	// Path is a nested claim.
	// +optional
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=256
	Path []string `json:"path,omitempty"`
	// Values: any of them, compared as text.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=512
	Values []string `json:"values"`
}

// AuthorizationTo matches when all its fields match; of each list, any value.
// An empty one is not anything: it is refused.
//
// +kubebuilder:validation:MinProperties=1
type AuthorizationTo struct {
	// Ports are the workload's own numbers (for a Gateway: its listeners').
	// +optional
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:Minimum=1
	// +kubebuilder:validation:items:Maximum=65535
	Ports []int32 `json:"ports,omitempty"`
	// Methods are HTTP methods, in upper case.
	// +optional
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=32
	// +kubebuilder:validation:items:Pattern=`^[A-Z][A-Z0-9_-]*$`
	Methods []string `json:"methods,omitempty"`
	// Paths begin with / and are exact; a last /* is a prefix by whole segments,
	// {name} is one whole segment.
	// +optional
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=1024
	// +kubebuilder:validation:items:Pattern=`^(/(\{[A-Za-z_][A-Za-z0-9_]*\}|(([A-Za-z0-9_~!$&'()+,;=:@-]|%[0-9A-Fa-f]{2})|\.([A-Za-z0-9_~!$&'()+,;=:@-]|%[0-9A-Fa-f]{2})|\.\.([A-Za-z0-9_~!$&'()+,;=:@.-]|%[0-9A-Fa-f]{2}))([A-Za-z0-9_~!$&'()+,;=:@.-]|%[0-9A-Fa-f]{2})*))*(/|/\*)?$`
	Paths []string `json:"paths,omitempty"`
	// Headers: all of them.
	// +optional
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Headers []HeaderValues `json:"headers,omitempty"`
	// GRPC: any of them.
	// +optional
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	GRPC []GRPCMatch `json:"grpc,omitempty"`
}

// HeaderValues matches when the header has any of the values.
type HeaderValues struct {
	// Name of the header; case does not count.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9!#$%&'*+\-.^_\x60|~]+$`
	Name string `json:"name"`
	// Values: any of them, compared exactly.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=1024
	Values []string `json:"values"`
}

// GRPCMatch matches a gRPC service, or some of its methods.
type GRPCMatch struct {
	// Service with its package, such as shop.Loans.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:Pattern=`^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$`
	Service string `json:"service"`
	// Methods: all of the service's when left out.
	// +optional
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=128
	// +kubebuilder:validation:items:Pattern=`^[A-Za-z_][A-Za-z0-9_]*$`
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
