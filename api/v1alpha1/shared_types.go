package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// TargetRef names what a policy applies to, always in the policy's own namespace.
//
// +kubebuilder:validation:XValidation:rule="self.kind == 'Pod' ? has(self.selector) && !has(self.name) : !has(self.selector)",message="kind Pod takes a selector and no name, other kinds take no selector"
// +kubebuilder:validation:XValidation:rule="self.kind in ['Pod', 'Namespace'] || has(self.name)",message="a name is needed with this kind"
// +kubebuilder:validation:XValidation:rule="!has(self.group) || (self.kind in ['HTTPRoute', 'GRPCRoute', 'Gateway'] ? self.group == 'gateway.networking.k8s.io' : size(self.group) == 0)",message="the group is not that of the kind: leave it out"
// +kubebuilder:validation:XValidation:rule="!has(self.sectionName) || self.kind in ['HTTPRoute', 'GRPCRoute', 'Gateway']",message="sectionName goes with HTTPRoute, GRPCRoute (a rule) and Gateway (a listener) only"
// +kubebuilder:validation:XValidation:rule="!has(self.selector) || ((has(self.selector.matchLabels) || has(self.selector.matchExpressions)) && (!has(self.selector.matchLabels) || size(self.selector.matchLabels) > 0) && (!has(self.selector.matchExpressions) || size(self.selector.matchExpressions) > 0))",message="an empty selector is not any pod: name a label, or target the Namespace"
type TargetRef struct {
	// Group of the target; may be left out, since the kind tells.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Group string `json:"group,omitempty"`
	// Kind of the target.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Kind string `json:"kind"`
	// Name of the target; not with kind Pod, and not needed with kind Namespace.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
	Name string `json:"name,omitempty"`
	// SectionName is a rule of a route or a listener of a Gateway.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
	SectionName string `json:"sectionName,omitempty"`
	// Selector of pods; with kind Pod only.
	// +optional
	Selector *metav1.LabelSelector `json:"selector,omitempty"`
}

// Duration is a Gateway API duration (GEP-2257), such as 1h30m or 250ms.
type Duration = gwv1.Duration

// PolicyStatus is the status of every namespaced kind.
type PolicyStatus struct {
	// ObservedGeneration is the generation that the rest of the status speaks of.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Conditions: Accepted, ResolvedRefs, Programmed.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// Proxies counts the live proxies that this object concerns.
	// +optional
	Proxies ProxyCount `json:"proxies,omitempty"`
	// Laggards are the first proxies (at most 5) that have not acknowledged this generation.
	// +optional
	// +kubebuilder:validation:MaxItems=5
	Laggards []string `json:"laggards,omitempty"`
	// Targets has one entry per target reference.
	// +optional
	// +kubebuilder:validation:MaxItems=16
	Targets []TargetStatus `json:"targets,omitempty"`
}

// ProxyCount counts proxies by what they did with the newest generation.
type ProxyCount struct {
	// Total of live proxies that are concerned.
	Total int32 `json:"total"`
	// Acknowledged: those that hold the newest generation.
	Acknowledged int32 `json:"acknowledged"`
	// Rejected: those that have refused something of it.
	// +optional
	Rejected int32 `json:"rejected"`
}

// TargetStatus is what became of a policy at one of its targets.
type TargetStatus struct {
	// Ref as the spec has it.
	Ref TargetRef `json:"ref"`
	// Conditions: Accepted and ResolvedRefs, at this target.
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// OverriddenBy names the policies (KIND NAMESPACE/NAME) that have the say here instead.
	// +optional
	OverriddenBy []string `json:"overriddenBy,omitempty"`
}
