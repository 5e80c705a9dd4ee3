package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// TrafficPolicy says how requests to its target are carried.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
type TrafficPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              TrafficPolicySpec `json:"spec"`
	Status            PolicyStatus      `json:"status,omitempty"`
}

// TrafficPolicySpec is the settings and their targets.
type TrafficPolicySpec struct {
	// TargetRefs: Service, HTTPRoute, GRPCRoute (sectionName = a rule), Gateway or Namespace.
	// +kubebuilder:validation:MinItems=1
	TargetRefs      []TargetRef `json:"targetRefs"`
	TrafficSettings `json:",inline"`
}

// TrafficSettings are field groups that are merged one by one: the most
// specific target wins each.
type TrafficSettings struct {
	// +optional
	Timeout *Timeout `json:"timeout,omitempty"`
	// +optional
	Retry *Retry `json:"retry,omitempty"`
	// +optional
	CircuitBreaker *CircuitBreaker `json:"circuitBreaker,omitempty"`
	// +optional
	OutlierDetection *OutlierDetection `json:"outlierDetection,omitempty"`
	// +optional
	LoadBalancing *LoadBalancing `json:"loadBalancing,omitempty"`
	// +optional
	RateLimit *RateLimit `json:"rateLimit,omitempty"`
	// +optional
	Fault *Fault `json:"fault,omitempty"`
	// Protocol of the target's ports, over appProtocol and port name.
	// +optional
	// +kubebuilder:validation:Enum=HTTP;HTTP2;GRPC;TCP
	Protocol string `json:"protocol,omitempty"`
}

// Timeout bounds a request.
type Timeout struct {
	// Request, all tries together; none unless said.
	// +optional
	Request Duration `json:"request,omitempty"`
	// Backend is one try; none unless said.
	// +optional
	Backend Duration `json:"backend,omitempty"`
	// +kubebuilder:default="1h"
	Idle Duration `json:"idle,omitempty"`
	// +kubebuilder:default="1s"
	Connect Duration `json:"connect,omitempty"`
}

// Retry says when a request is tried again.
type Retry struct {
	// Attempts are retries, not counting the first try.
	// +optional
	// +kubebuilder:default=3
	Attempts *int32 `json:"attempts,omitempty"`
	// On: ConnectFailure, RefusedStream, ResetBeforeRequest unless said.
	// +optional
	On []string `json:"on,omitempty"`
	// Codes are HTTP status codes.
	// +optional
	Codes []int32 `json:"codes,omitempty"`
	// NonIdempotent: true = POST and PATCH are retried on everything in `on` and `codes`;
	// false = only where the request was provably not processed.
	// +optional
	NonIdempotent bool `json:"nonIdempotent,omitempty"`
	// +optional
	Backoff *Backoff `json:"backoff,omitempty"`
	// +optional
	Budget *RetryBudget `json:"budget,omitempty"`
}

// Backoff between tries, with full jitter.
type Backoff struct {
	// +kubebuilder:default="25ms"
	Base Duration `json:"base,omitempty"`
	// +kubebuilder:default="250ms"
	Max Duration `json:"max,omitempty"`
}

// RetryBudget bounds retries by the active requests.
type RetryBudget struct {
	// +kubebuilder:default=20
	Percent *int32 `json:"percent,omitempty"`
	// Minimum of concurrent retries that is always allowed.
	// +kubebuilder:default=3
	Minimum *int32 `json:"minimum,omitempty"`
}

// CircuitBreaker bounds what a proxy has open to one destination.
type CircuitBreaker struct {
	// +kubebuilder:default=1024
	MaxConnections int32 `json:"maxConnections,omitempty"`
	// +kubebuilder:default=1024
	MaxPendingRequests int32 `json:"maxPendingRequests,omitempty"`
	// +kubebuilder:default=1024
	MaxRequests int32 `json:"maxRequests,omitempty"`
}

// OutlierDetection leaves out endpoints that fail.
type OutlierDetection struct {
	// +kubebuilder:default=5
	ConsecutiveErrors int32 `json:"consecutiveErrors,omitempty"`
	// +kubebuilder:default="10s"
	Interval Duration `json:"interval,omitempty"`
	// +kubebuilder:default="30s"
	BaseEjection Duration `json:"baseEjection,omitempty"`
	// +kubebuilder:default=50
	MaxEjectedPercent int32 `json:"maxEjectedPercent,omitempty"`
}

// LoadBalancing chooses an endpoint.
type LoadBalancing struct {
	// +kubebuilder:validation:Enum=RoundRobin;LeastRequest;Random;RingHash;Maglev
	// +kubebuilder:default=LeastRequest
	Policy string `json:"policy,omitempty"`
	// Hash: exactly one of its fields, with RingHash and Maglev.
	// +optional
	Hash *Hash `json:"hash,omitempty"`
	// SlowStart of a new endpoint.
	// +optional
	SlowStart Duration `json:"slowStart,omitempty"`
}

// Hash says what is hashed.
type Hash struct {
	// +optional
	Header string `json:"header,omitempty"`
	// +optional
	Cookie string `json:"cookie,omitempty"`
	// +optional
	SourceIP bool `json:"sourceIP,omitempty"`
}

// RateLimit is a token bucket per proxy; beyond it requests are answered 429.
type RateLimit struct {
	Requests int32    `json:"requests"`
	Per      Duration `json:"per"`
	// +optional
	Burst int32 `json:"burst,omitempty"`
	// +kubebuilder:validation:Enum=All;SourceIdentity
	// +kubebuilder:default=All
	Key string `json:"key,omitempty"`
}

// Fault is injected on purpose.
type Fault struct {
	// +optional
	Delay *FaultDelay `json:"delay,omitempty"`
	// +optional
	Abort *FaultAbort `json:"abort,omitempty"`
}

// FaultDelay holds a share of the requests.
type FaultDelay struct {
	Duration Duration `json:"duration"`
	Percent  int32    `json:"percent"`
}

// FaultAbort answers a share of the requests.
type FaultAbort struct {
	Status  int32 `json:"status"`
	Percent int32 `json:"percent"`
}

// TrafficPolicyList is a list of TrafficPolicies.
//
// +kubebuilder:object:root=true
type TrafficPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []TrafficPolicy `json:"items"`
}
