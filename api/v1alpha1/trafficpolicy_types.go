package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// TrafficPolicy says how requests to its target are carried.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:categories=meshd
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name="Programmed",type=string,JSONPath=`.status.conditions[?(@.type=="Programmed")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Programmed")].reason`
// +kubebuilder:printcolumn:name="Acknowledged",type=integer,JSONPath=`.status.proxies.acknowledged`
// +kubebuilder:printcolumn:name="Proxies",type=integer,JSONPath=`.status.proxies.total`
// +kubebuilder:printcolumn:name="Rejected",type=integer,JSONPath=`.status.proxies.rejected`,priority=1
// +kubebuilder:printcolumn:name="Resolved",type=string,JSONPath=`.status.conditions[?(@.type=="ResolvedRefs")].status`,priority=1
// +kubebuilder:printcolumn:name="Laggards",type=string,JSONPath=`.status.laggards`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
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
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:XValidation:rule="self.kind in ['Service', 'HTTPRoute', 'GRPCRoute', 'Gateway', 'Namespace']",fieldPath=".kind",message="kind must be Service, HTTPRoute, GRPCRoute, Gateway or Namespace"
	TargetRefs      []TargetRef `json:"targetRefs"`
	TrafficSettings `json:",inline"`
}

// TrafficSettings are field groups that are merged one by one: the most
// specific target wins each.
type TrafficSettings struct {
	// Timeout bounds a request.
	// +optional
	Timeout *Timeout `json:"timeout,omitempty"`
	// Retry says when a request is tried again.
	// +optional
	Retry *Retry `json:"retry,omitempty"`
	// CircuitBreaker bounds what a proxy has open to one destination.
	// +optional
	CircuitBreaker *CircuitBreaker `json:"circuitBreaker,omitempty"`
	// OutlierDetection leaves out endpoints that fail.
	// +optional
	OutlierDetection *OutlierDetection `json:"outlierDetection,omitempty"`
	// LoadBalancing chooses an endpoint.
	// +optional
	LoadBalancing *LoadBalancing `json:"loadBalancing,omitempty"`
	// RateLimit is a token bucket per proxy; beyond it requests are answered 429.
	// +optional
	RateLimit *RateLimit `json:"rateLimit,omitempty"`
	// Fault is injected on purpose: a delay, an abort or both.
	// +optional
	Fault *Fault `json:"fault,omitempty"`
	// Protocol of the target's ports, over appProtocol and port name.
	// +optional
	// +kubebuilder:validation:Enum=HTTP;HTTP2;GRPC;TCP
	Protocol string `json:"protocol,omitempty"`
}

// Timeout bounds a request.
//
// +kubebuilder:validation:XValidation:rule="!has(self.connect) || duration(self.connect) > duration('0s')",fieldPath=".connect",message="connect must be more than 0"
// +kubebuilder:validation:XValidation:rule="!has(self.request) || !has(self.backend) || duration(self.request) == duration('0s') || duration(self.backend) <= duration(self.request)",fieldPath=".backend",message="backend, one try, must not be more than request, all of them"
type Timeout struct {
	// Request, all tries together; none unless said.
	// +optional
	Request Duration `json:"request,omitempty"`
	// Backend is one try; none unless said.
	// +optional
	Backend Duration `json:"backend,omitempty"`
	// Idle time of a connection; 0s is no bound.
	// +kubebuilder:default="1h"
	Idle Duration `json:"idle,omitempty"`
	// Connect is the time a connection may take to come up.
	// +kubebuilder:default="1s"
	Connect Duration `json:"connect,omitempty"`
}

// Retry says when a request is tried again.
//
// +kubebuilder:validation:XValidation:rule="!(has(self.on) && has(self.__true__))",message="on is there twice, once without quotes, which YAML 1.1 reads as true: keep one"
type Retry struct {
	// Attempts are retries, not counting the first try.
	// +optional
	// +kubebuilder:default=3
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=25
	Attempts *int32 `json:"attempts,omitempty"`
	// On: ConnectFailure, RefusedStream, ResetBeforeRequest unless said. YAML 1.1
	// reads an `on` without quotes as true: write "on"; see true.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:Enum=ConnectFailure;RefusedStream;ResetBeforeRequest;Reset;Unavailable;DeadlineExceeded;ResourceExhausted;Internal;Cancelled
	On []string `json:"on,omitempty"`
	// True is what YAML 1.1, which kubectl and Helm read, makes of an `on` without
	// quotes. It means the same; write "on" to have it shown so.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:Enum=ConnectFailure;RefusedStream;ResetBeforeRequest;Reset;Unavailable;DeadlineExceeded;ResourceExhausted;Internal;Cancelled
	True []string `json:"true,omitempty"`
	// Codes are HTTP status codes, 400 to 599.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:Minimum=400
	// +kubebuilder:validation:items:Maximum=599
	Codes []int32 `json:"codes,omitempty"`
	// NonIdempotent: true = POST and PATCH are retried on everything in `on` and `codes`;
	// false = only where the request was provably not processed.
	// +optional
	NonIdempotent bool `json:"nonIdempotent,omitempty"`
	// Backoff between tries, with full jitter.
	// +optional
	Backoff *Backoff `json:"backoff,omitempty"`
	// Budget bounds retries by the active requests.
	// +optional
	Budget *RetryBudget `json:"budget,omitempty"`
}

// Backoff between tries, with full jitter.
//
// +kubebuilder:validation:XValidation:rule="!has(self.base) || duration(self.base) > duration('0s')",fieldPath=".base",message="base must be more than 0"
// +kubebuilder:validation:XValidation:rule="!has(self.base) || !has(self.max) || duration(self.base) <= duration(self.max)",fieldPath=".max",message="max (250ms unless said) must not be less than base"
type Backoff struct {
	// Base of the first pause, which doubles.
	// +kubebuilder:default="25ms"
	Base Duration `json:"base,omitempty"`
	// Max of a pause.
	// +kubebuilder:default="250ms"
	Max Duration `json:"max,omitempty"`
}

// RetryBudget bounds retries by the active requests.
type RetryBudget struct {
	// Percent of the active requests that may be retries.
	// +kubebuilder:default=20
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	Percent *int32 `json:"percent,omitempty"`
	// Minimum of concurrent retries that is always allowed.
	// +kubebuilder:default=3
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000
	Minimum *int32 `json:"minimum,omitempty"`
}

// CircuitBreaker bounds what a proxy has open to one destination.
type CircuitBreaker struct {
	// MaxConnections of one proxy.
	// +kubebuilder:default=1024
	// +kubebuilder:validation:Minimum=1
	MaxConnections int32 `json:"maxConnections,omitempty"`
	// MaxPendingRequests that wait for a connection.
	// +kubebuilder:default=1024
	// +kubebuilder:validation:Minimum=1
	MaxPendingRequests int32 `json:"maxPendingRequests,omitempty"`
	// MaxRequests at a time.
	// +kubebuilder:default=1024
	// +kubebuilder:validation:Minimum=1
	MaxRequests int32 `json:"maxRequests,omitempty"`
}

// OutlierDetection leaves out endpoints that fail.
//
// +kubebuilder:validation:XValidation:rule="!has(self.interval) || duration(self.interval) > duration('0s')",fieldPath=".interval",message="interval must be more than 0"
// +kubebuilder:validation:XValidation:rule="!has(self.baseEjection) || duration(self.baseEjection) > duration('0s')",fieldPath=".baseEjection",message="baseEjection must be more than 0"
type OutlierDetection struct {
	// ConsecutiveErrors (5xx, or no connection) after which an endpoint is left out.
	// +kubebuilder:default=5
	// +kubebuilder:validation:Minimum=1
	ConsecutiveErrors int32 `json:"consecutiveErrors,omitempty"`
	// Interval between two looks.
	// +kubebuilder:default="10s"
	Interval Duration `json:"interval,omitempty"`
	// BaseEjection is how long an endpoint is left out, times how often it has been.
	// +kubebuilder:default="30s"
	BaseEjection Duration `json:"baseEjection,omitempty"`
	// MaxEjectedPercent of the endpoints.
	// +kubebuilder:default=50
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	MaxEjectedPercent int32 `json:"maxEjectedPercent,omitempty"`
}

// LoadBalancing chooses an endpoint.
//
// +kubebuilder:validation:XValidation:rule="!(self.policy in ['RingHash', 'Maglev']) || has(self.hash)",fieldPath=".hash",message="RingHash and Maglev need a hash"
// +kubebuilder:validation:XValidation:rule="!has(self.slowStart) || self.policy in ['RoundRobin', 'LeastRequest']",fieldPath=".slowStart",message="slowStart goes with RoundRobin and LeastRequest only"
type LoadBalancing struct {
	// Policy by which an endpoint is chosen.
	// +kubebuilder:validation:Enum=RoundRobin;LeastRequest;Random;RingHash;Maglev
	// +kubebuilder:default=LeastRequest
	Policy string `json:"policy,omitempty"`
	// Hash: exactly one of its fields. RingHash and Maglev need it, the others do not look at it.
	// +optional
	Hash *Hash `json:"hash,omitempty"`
	// SlowStart of a new endpoint.
	// +optional
	SlowStart Duration `json:"slowStart,omitempty"`
}

// Hash says what is hashed.
//
// +kubebuilder:validation:XValidation:rule="[has(self.header), has(self.cookie), has(self.sourceIP) && self.sourceIP].filter(x, x).size() == 1",message="exactly one of header, cookie and sourceIP is needed"
type Hash struct {
	// Header whose value is hashed.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9!#$%&'*+\-.^_\x60|~]+$`
	Header string `json:"header,omitempty"`
	// Cookie whose value is hashed.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9!#$%&'*+\-.^_\x60|~]+$`
	Cookie string `json:"cookie,omitempty"`
	// SourceIP: the client's address is hashed.
	// +optional
	SourceIP bool `json:"sourceIP,omitempty"`
}

// RateLimit is a token bucket per proxy; beyond it requests are answered 429.
//
// +kubebuilder:validation:XValidation:rule="duration(self.per) >= duration('50ms')",fieldPath=".per",message="per must be at least 50ms"
type RateLimit struct {
	// Requests that are let through in each per.
	// +kubebuilder:validation:Minimum=1
	Requests int32 `json:"requests"`
	// Per is the time in which the bucket is filled by requests.
	Per Duration `json:"per"`
	// Burst is the size of the bucket; requests unless said.
	// +optional
	// +kubebuilder:validation:Minimum=1
	Burst int32 `json:"burst,omitempty"`
	// Key: one bucket for all, or one for each source identity.
	// +kubebuilder:validation:Enum=All;SourceIdentity
	// +kubebuilder:default=All
	Key string `json:"key,omitempty"`
}

// Fault is injected on purpose: a delay, an abort or both.
//
// +kubebuilder:validation:MinProperties=1
type Fault struct {
	// Delay holds a share of the requests.
	// +optional
	Delay *FaultDelay `json:"delay,omitempty"`
	// Abort answers a share of the requests.
	// +optional
	Abort *FaultAbort `json:"abort,omitempty"`
}

// FaultDelay holds a share of the requests.
//
// +kubebuilder:validation:XValidation:rule="!has(self.duration) || duration(self.duration) > duration('0s')",fieldPath=".duration",message="duration must be more than 0"
type FaultDelay struct {
	// Duration of the delay.
	Duration Duration `json:"duration"`
	// Percent of the requests.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	Percent int32 `json:"percent"`
}

// FaultAbort answers a share of the requests.
type FaultAbort struct {
	// Status that is answered.
	// +kubebuilder:validation:Minimum=200
	// +kubebuilder:validation:Maximum=599
	Status int32 `json:"status"`
	// Percent of the requests.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
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
