package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// MeshConfig is the mesh's configuration; the one named "default" counts.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster
type MeshConfig struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              MeshConfigSpec   `json:"spec,omitempty"`
	Status            MeshConfigStatus `json:"status,omitempty"`
}

// MeshConfigSpec says how the mesh works where no policy says otherwise.
type MeshConfigSpec struct {
	// TrustDomain of all identities. May not change while proxies live.
	// +kubebuilder:default=cluster.local
	TrustDomain string `json:"trustDomain,omitempty"`
	// TrustDomainAliases: peers of these are treated as of trustDomain.
	// +optional
	TrustDomainAliases []string `json:"trustDomainAliases,omitempty"`
	// +optional
	Identity IdentitySpec `json:"identity,omitempty"`
	// +optional
	Injection InjectionSpec `json:"injection,omitempty"`
	// +optional
	Egress EgressSpec `json:"egress,omitempty"`
	// +optional
	Telemetry TelemetrySpec `json:"telemetry,omitempty"`
	// Scope: Learned gives a proxy what its workload has used; All gives every destination up front.
	// +kubebuilder:validation:Enum=Learned;All
	// +kubebuilder:default=Learned
	Scope string `json:"scope,omitempty"`
	// CIDRs of services and pods, where they cannot be read from the cluster.
	// +optional
	CIDRs []string `json:"cidrs,omitempty"`
	// +optional
	Defaults DefaultsSpec `json:"defaults,omitempty"`
}

// IdentitySpec chooses how workloads get their certificates.
type IdentitySpec struct {
	// +kubebuilder:validation:Enum=Agent;PodCertificate;Auto
	// +kubebuilder:default=Auto
	Carrier string `json:"carrier,omitempty"`
}

// InjectionSpec says which pods get a sidecar, and what it is like.
type InjectionSpec struct {
	// Default for namespaces and pods without the label meshd.io/inject.
	// +kubebuilder:validation:Enum=OptIn;OptOut
	// +kubebuilder:default=OptIn
	Default string `json:"default,omitempty"`
	// +optional
	Proxy ProxySpec `json:"proxy,omitempty"`
	// +optional
	Exclude ExcludeSpec `json:"exclude,omitempty"`
}

// ProxySpec is the sidecar's container.
type ProxySpec struct {
	// +optional
	Image string `json:"image,omitempty"`
	// Concurrency is the number of worker threads.
	// +kubebuilder:default=2
	Concurrency int32 `json:"concurrency,omitempty"`
	// +kubebuilder:validation:Enum=trace;debug;info;warning;error;critical;off
	// +kubebuilder:default=warning
	LogLevel string `json:"logLevel,omitempty"`
	// +optional
	Resources corev1.ResourceRequirements `json:"resources,omitempty"`
}

// ExcludeSpec is traffic that is not captured.
type ExcludeSpec struct {
	// +optional
	InboundPorts []int32 `json:"inboundPorts,omitempty"`
	// +optional
	OutboundPorts []int32 `json:"outboundPorts,omitempty"`
	// +optional
	OutboundCIDRs []string `json:"outboundCIDRs,omitempty"`
	// UIDs whose outbound traffic is not captured.
	// +optional
	UIDs []int64 `json:"uids,omitempty"`
}

// EgressSpec says what may be reached outside of the mesh's CIDRs.
type EgressSpec struct {
	// +kubebuilder:validation:Enum=Allow;Deny
	// +kubebuilder:default=Allow
	Mode string `json:"mode,omitempty"`
	// Hosts let out under Deny: "api.example.com" or "*.example.com".
	// +optional
	Hosts []string `json:"hosts,omitempty"`
	// CIDRs let out under Deny.
	// +optional
	CIDRs []string `json:"cidrs,omitempty"`
}

// TelemetrySpec says what proxies report.
type TelemetrySpec struct {
	// +kubebuilder:validation:Enum=Off;Errors;All
	// +kubebuilder:default=Errors
	AccessLog string `json:"accessLog,omitempty"`
	// +optional
	Tracing TracingSpec `json:"tracing,omitempty"`
	// +optional
	Metrics MetricsSpec `json:"metrics,omitempty"`
}

// TracingSpec sends spans by OTLP over gRPC.
type TracingSpec struct {
	// OTLP is HOST:PORT of the collector; "" is no tracing.
	// +optional
	OTLP string `json:"otlp,omitempty"`
	// +optional
	SamplePercent int32 `json:"samplePercent,omitempty"`
}

// MetricsSpec bounds the metrics of a proxy.
type MetricsSpec struct {
	// MaxSeries per proxy.
	// +kubebuilder:default=2000
	MaxSeries int32 `json:"maxSeries,omitempty"`
}

// DefaultsSpec applies where no policy does.
type DefaultsSpec struct {
	// +kubebuilder:validation:Enum=Strict;Permissive;Disable
	// +kubebuilder:default=Strict
	PeerAuthentication PeerAuthenticationMode `json:"peerAuthentication,omitempty"`
	// Authorization where no AuthorizationPolicy applies.
	// +kubebuilder:validation:Enum=Allow;Deny
	// +kubebuilder:default=Allow
	Authorization AuthorizationAction `json:"authorization,omitempty"`
	// +optional
	Traffic TrafficSettings `json:"traffic,omitempty"`
}

// MeshConfigStatus tells what became of the configuration.
type MeshConfigStatus struct {
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// +optional
	Proxies ProxyCount `json:"proxies,omitempty"`
	// +optional
	Laggards []string `json:"laggards,omitempty"`
}

// MeshConfigList is a list of MeshConfigs.
//
// +kubebuilder:object:root=true
type MeshConfigList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []MeshConfig `json:"items"`
}
