package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// MeshConfig is the mesh's configuration; the one named "default" counts.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Trust Domain",type=string,JSONPath=`.spec.trustDomain`
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name="Programmed",type=string,JSONPath=`.status.conditions[?(@.type=="Programmed")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Programmed")].reason`
// +kubebuilder:printcolumn:name="Acknowledged",type=integer,JSONPath=`.status.proxies.acknowledged`
// +kubebuilder:printcolumn:name="Proxies",type=integer,JSONPath=`.status.proxies.total`
// +kubebuilder:printcolumn:name="Rejected",type=integer,JSONPath=`.status.proxies.rejected`,priority=1
// +kubebuilder:printcolumn:name="Resolved",type=string,JSONPath=`.status.conditions[?(@.type=="ResolvedRefs")].status`,priority=1
// +kubebuilder:printcolumn:name="Laggards",type=string,JSONPath=`.status.laggards`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name == 'default'",message="metadata.name must be default: only that one counts"
// +kubebuilder:resource:scope=Cluster,categories=meshd
type MeshConfig struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	// +kubebuilder:default={}
	Spec   MeshConfigSpec   `json:"spec,omitempty"`
	Status MeshConfigStatus `json:"status,omitempty"`
}

// MeshConfigSpec says how the mesh works where no policy says otherwise.
type MeshConfigSpec struct {
	// TrustDomain of all identities. May not change while proxies live.
	// +kubebuilder:default=cluster.local
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=255
	// +kubebuilder:validation:Pattern=`^[a-z0-9._-]+$`
	TrustDomain string `json:"trustDomain,omitempty"`
	// TrustDomainAliases: peers of these are treated as of trustDomain.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=255
	// +kubebuilder:validation:items:Pattern=`^[a-z0-9._-]+$`
	TrustDomainAliases []string `json:"trustDomainAliases,omitempty"`
	// Identity: how workloads get their certificates.
	// +optional
	// +kubebuilder:default={}
	Identity IdentitySpec `json:"identity,omitempty"`
	// Injection: which pods get a sidecar, and what it is like.
	// +optional
	// +kubebuilder:default={}
	Injection InjectionSpec `json:"injection,omitempty"`
	// Egress: what may be reached outside of the mesh's CIDRs.
	// +optional
	// +kubebuilder:default={}
	Egress EgressSpec `json:"egress,omitempty"`
	// Telemetry: what proxies report.
	// +optional
	// +kubebuilder:default={}
	Telemetry TelemetrySpec `json:"telemetry,omitempty"`
	// Scope: Learned gives a proxy what its workload has used; All gives every destination up front.
	// +kubebuilder:validation:Enum=Learned;All
	// +kubebuilder:default=Learned
	Scope string `json:"scope,omitempty"`
	// CIDRs of services and pods, where they cannot be read from the cluster.
	// +optional
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=43
	// +kubebuilder:validation:items:XValidation:rule="isCIDR(self)",message="must be a CIDR such as 10.1.0.0/16 or fd00::/8"
	CIDRs []string `json:"cidrs,omitempty"`
	// Defaults apply where no policy does.
	// +optional
	// +kubebuilder:default={}
	Defaults DefaultsSpec `json:"defaults,omitempty"`
}

// IdentitySpec chooses how workloads get their certificates.
type IdentitySpec struct {
	// Carrier: the agent beside the proxy, or the kubelet (PodCertificateRequest); Auto is the latter where the cluster serves it.
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
	// Proxy is the sidecar's container.
	// +optional
	// +kubebuilder:default={}
	Proxy ProxySpec `json:"proxy,omitempty"`
	// Exclude is traffic that is not captured.
	// +optional
	Exclude ExcludeSpec `json:"exclude,omitempty"`
}

// ProxySpec is the sidecar's container.
type ProxySpec struct {
	// Image of the proxy; "" is the one that meshd was made with.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Image string `json:"image,omitempty"`
	// Concurrency is the number of worker threads.
	// +kubebuilder:default=2
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=256
	Concurrency int32 `json:"concurrency,omitempty"`
	// LogLevel of Envoy.
	// +kubebuilder:validation:Enum=trace;debug;info;warning;error;critical;off
	// +kubebuilder:default=warning
	LogLevel string `json:"logLevel,omitempty"`
	// Resources of the container.
	// +optional
	Resources corev1.ResourceRequirements `json:"resources,omitempty"`
}

// ExcludeSpec is traffic that is not captured.
type ExcludeSpec struct {
	// InboundPorts of pods that are left alone.
	// +optional
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:Minimum=1
	// +kubebuilder:validation:items:Maximum=65535
	InboundPorts []int32 `json:"inboundPorts,omitempty"`
	// OutboundPorts to which connections are left alone.
	// +optional
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:Minimum=1
	// +kubebuilder:validation:items:Maximum=65535
	OutboundPorts []int32 `json:"outboundPorts,omitempty"`
	// OutboundCIDRs to which connections are left alone.
	// +optional
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=43
	// +kubebuilder:validation:items:XValidation:rule="isCIDR(self)",message="must be a CIDR such as 10.1.0.0/16 or fd00::/8"
	OutboundCIDRs []string `json:"outboundCIDRs,omitempty"`
	// UIDs whose outbound traffic is not captured.
	// +optional
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:Minimum=0
	// +kubebuilder:validation:items:Maximum=4294967294
	UIDs []int64 `json:"uids,omitempty"`
}

// EgressSpec says what may be reached outside of the mesh's CIDRs.
type EgressSpec struct {
	// Mode: Deny lets out only what hosts and cidrs name.
	// +kubebuilder:validation:Enum=Allow;Deny
	// +kubebuilder:default=Allow
	Mode string `json:"mode,omitempty"`
	// Hosts let out under Deny: "api.example.com" or "*.example.com".
	// +optional
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	// +kubebuilder:validation:items:Pattern=`^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
	Hosts []string `json:"hosts,omitempty"`
	// CIDRs let out under Deny.
	// +optional
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=43
	// +kubebuilder:validation:items:XValidation:rule="isCIDR(self)",message="must be a CIDR such as 10.1.0.0/16 or fd00::/8"
	CIDRs []string `json:"cidrs,omitempty"`
}

// TelemetrySpec says what proxies report.
type TelemetrySpec struct {
	// AccessLog of proxies, on their standard output.
	// +kubebuilder:validation:Enum=Off;Errors;All
	// +kubebuilder:default=Errors
	AccessLog string `json:"accessLog,omitempty"`
	// Tracing sends spans by OTLP.
	// +optional
	Tracing TracingSpec `json:"tracing,omitempty"`
	// Metrics bounds those of a proxy.
	// +optional
	// +kubebuilder:default={}
	Metrics MetricsSpec `json:"metrics,omitempty"`
}

// TracingSpec sends spans by OTLP over gRPC.
type TracingSpec struct {
	// OTLP is HOST:PORT of the collector; "" is no tracing.
	// +optional
	// +kubebuilder:validation:MaxLength=260
	// +kubebuilder:validation:Pattern=`^$|^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):[1-9][0-9]{0,4}$`
	OTLP string `json:"otlp,omitempty"`
	// SamplePercent of the traces that begin in the mesh.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	SamplePercent int32 `json:"samplePercent,omitempty"`
}

// MetricsSpec bounds the metrics of a proxy.
type MetricsSpec struct {
	// MaxSeries per proxy.
	// +kubebuilder:default=2000
	// +kubebuilder:validation:Minimum=1
	MaxSeries int32 `json:"maxSeries,omitempty"`
}

// DefaultsSpec applies where no policy does.
type DefaultsSpec struct {
	// PeerAuthentication where no PeerAuthentication applies.
	// +kubebuilder:validation:Enum=Strict;Permissive;Disable
	// +kubebuilder:default=Strict
	PeerAuthentication PeerAuthenticationMode `json:"peerAuthentication,omitempty"`
	// Authorization where no AuthorizationPolicy applies.
	// +kubebuilder:validation:Enum=Allow;Deny
	// +kubebuilder:default=Allow
	Authorization AuthorizationAction `json:"authorization,omitempty"`
	// Traffic: as TrafficPolicy.spec without targetRefs.
	// +optional
	Traffic TrafficSettings `json:"traffic,omitempty"`
}

// MeshConfigStatus tells what became of the configuration.
type MeshConfigStatus struct {
	// ObservedGeneration is the generation that the rest of the status speaks of.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Conditions: Accepted, ResolvedRefs, Programmed.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// Proxies counts the live proxies.
	// +optional
	Proxies ProxyCount `json:"proxies,omitempty"`
	// Laggards are the first proxies (at most 5) that have not acknowledged this generation.
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
