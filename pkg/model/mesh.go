package model

import (
	"cmp"
	"net/netip"
	"time"

	"github.com/meshd-io/meshd/pkg/report"
)

// Mesh is everything that meshd knows, compiled. Meshes of one history share
// what they have in common: the same pointer is the same value.
type Mesh struct {
	Settings Settings
	// Trust is what workloads trust each other by.
	Trust Trust
	// Workloads by key: all pods (and Workload objects) of one namespace,
	// service account and set of labels that any selector looks at.
	Workloads Map[WorkloadKey, *Workload]
	// Pods by namespace/name: pods in the mesh and outside of it, and Workload objects.
	Pods Map[Name, *Pod]
	// PodsByAddress finds the pod behind an address.
	PodsByAddress Map[netip.Addr, *Pod]
	// Services by namespace/name.
	Services Map[Name, *Service]
	// ServicesByAddress finds the Service of a ClusterIP.
	ServicesByAddress Map[netip.Addr, *Service]
	// Gateways by the key of their workload.
	Gateways Map[WorkloadKey, *Gateway]
	// Routings by the Service that routes are attached to, and by whose they are.
	Routings Map[RoutingKey, *Routing]
	// Consumed, by namespace, are the Services to which its own routes are attached from outside.
	Consumed Map[string, *Consumed]
}

// Name is a namespaced name.
type Name struct{ Namespace, Name string }

// String is NAMESPACE/NAME.
func (n Name) String() string { return n.Namespace + "/" + n.Name }

// Compare orders by namespace, then name.
func (n Name) Compare(m Name) int {
	return cmp.Or(cmp.Compare(n.Namespace, m.Namespace), cmp.Compare(n.Name, m.Name))
}

// Settings are MeshConfig's, with its defaults filled in.
type Settings struct {
	TrustDomain        string
	TrustDomainAliases []string // sorted
	// CIDRs of services and pods, sorted: what the gate asks about.
	CIDRs     []netip.Prefix
	Egress    Egress
	Telemetry Telemetry
	// ScopeAll gives every destination up front.
	ScopeAll bool
	Origin   report.Origin
}

// Egress says what may be reached outside of CIDRs.
type Egress struct {
	Deny  bool
	Hosts []string       // let out under Deny, sorted: "api.example.com", "*.example.com"
	CIDRs []netip.Prefix // let out under Deny, sorted
}

// AccessLog says which requests are logged.
type AccessLog uint8

// The access log's levels; the zero value is Errors.
const (
	AccessLogErrors AccessLog = iota
	AccessLogOff
	AccessLogAll
)

// Telemetry says what proxies report.
type Telemetry struct {
	AccessLog            AccessLog
	OTLP                 string // host:port; "" is no tracing
	TracingSamplePercent uint32
	MaxSeries            uint32
}

// Trust is the trust bundle of the mesh.
type Trust struct {
	// Bundle is one or more PEM certificates, roots only, in a stable order.
	Bundle string
	// Origin is the CertificateAuthority; its Kind is "" where there is none.
	Origin report.Origin
}

// WorkloadKind tells a sidecar from a gateway.
type WorkloadKind uint8

// The kinds.
const (
	Sidecar WorkloadKind = iota
	GatewayProxy
)

// WorkloadKey is small and comparable; equal keys see the same mesh.
type WorkloadKey struct {
	Kind           WorkloadKind
	Namespace      string
	ServiceAccount string
	// Labels are k=v pairs, sorted, joined by commas: only those keys that a
	// selector of the namespace looks at.
	Labels string
	// PodCertificate: kubelet keeps the certificates of its pods, in files, and there is no agent.
	PodCertificate bool
	// Epoch tells apart proxies of one workload that have been given different
	// destinations (pkg/xds/demand). A mesh knows workloads: there it is 0.
	Epoch uint32
}

// Workload is the key as a mesh has it.
func (k WorkloadKey) Workload() WorkloadKey {
	k.Epoch = 0
	return k
}

// Workload is what is common to all pods of one key.
type Workload struct {
	Key      WorkloadKey
	Identity string // SPIFFE ID
	Pods     []Name // sorted
	// Ports that are declared (by a container, a Workload or a Service's target port), sorted by number.
	Ports []InboundPort
	// Rest is every port that is declared nowhere; its Port is 0 and its Protocol TCP.
	Rest InboundPort
}

// Pod is a pod or a Workload object.
type Pod struct {
	Name           Name
	Addresses      []netip.Addr // sorted, IPv4 first
	ServiceAccount string
	Labels         map[string]string
	// Key of its workload; the zero value where InMesh is false.
	Key WorkloadKey
	// InMesh: it has a sidecar (or speaks mesh mTLS itself).
	InMesh bool
	// Uncaptured are ports that its sidecar leaves alone: they take what comes
	// as it is, and no policy is held there. Sorted.
	Uncaptured []uint16
	Ready      bool
	// UID of the pod; "" where unknown.
	UID string
	// Ports are declared by its containers, by the Workload object, or are the
	// target ports of Services that select it; sorted by number.
	Ports []PodPort
	// Traffic is how its own address is called at ports that are not in Ports:
	// as the namespace's TrafficPolicies and MeshConfig say. It is shared.
	Traffic *Traffic
	Zone    string
	Origin  report.Origin
}

// PodPort is a declared port of a pod.
type PodPort struct {
	Name     string
	Port     uint16
	Protocol Protocol
	// Traffic is how the pod's own address is called at this port: as the oldest
	// headless Service that leads to it says, otherwise as Pod.Traffic. It is shared.
	Traffic *Traffic
}

// Protocol of a port.
type Protocol uint8

// The protocols. Undeclared is told by detection at the sender, whose verdict the receiver takes.
const (
	Undeclared Protocol = iota
	HTTP                // HTTP/1.1, or what the client speaks
	HTTP2               // h2c
	GRPC                // h2c with gRPC's statuses
	TCP                 // opaque: tcp, tls, https, and server-first protocols
)

// IsHTTP reports whether requests are seen.
func (p Protocol) IsHTTP() bool { return p == HTTP || p == HTTP2 || p == GRPC }

// MayBeHTTP reports whether requests are seen where the sender has found some.
func (p Protocol) MayBeHTTP() bool { return p.IsHTTP() || p == Undeclared }

// Mode says what a port accepts from its peers.
type Mode uint8

// The modes of PeerAuthentication.
const (
	Strict Mode = iota
	Permissive
	Disable
)

// InboundPort is one port of a workload: what it speaks, accepts and allows.
type InboundPort struct {
	Port     uint16
	Protocol Protocol
	Mode     Mode
	Authz    Authz
	// Origins of Mode (PeerAuthentication) and Protocol (Service); Authz has its own.
	Origins []report.Origin
}

// Service is a Kubernetes Service.
type Service struct {
	Name Name
	// Addresses are its ClusterIPs, IPv4 first; none when it is headless.
	Addresses []netip.Addr
	Headless  bool
	Ports     []ServicePort // sorted by number
	Origin    report.Origin
}

// ServicePort is one port of a Service and everything behind it.
type ServicePort struct {
	Name    string // may be ""
	Port    uint16
	Backend Backend
}

// BackendRef names a Backend: a port of a Service, or (Service zero) an address.
type BackendRef struct {
	Service Name
	Port    uint16
	Address netip.AddrPort
}

// Backend is what a request can be sent to.
type Backend struct {
	Ref      BackendRef
	Protocol Protocol
	Traffic  Traffic
	// Identities are the SPIFFE IDs of all pods behind it, ready or not, sorted,
	// each also in the aliases of the trust domain. Peers with mutual TLS must present one of them.
	Identities []string
	Endpoints  []Endpoint // ready ones, sorted by address and port
	Origins    []report.Origin
}

// Endpoint is a ready address of a Backend.
type Endpoint struct {
	Address netip.AddrPort
	// MTLS: the port takes mesh mutual TLS (its pod is in the mesh and the port's mode is not Disable).
	MTLS bool
	Zone string
	Pod  Name
}

// Traffic is a merged TrafficPolicy, defaults filled in. Zero durations mean none.
type Traffic struct {
	RequestTimeout time.Duration // all tries; 0 = none
	BackendTimeout time.Duration // one try; 0 = none
	IdleTimeout    time.Duration
	ConnectTimeout time.Duration
	Retry          Retry
	CircuitBreaker CircuitBreaker
	// OutlierDetection is off when ConsecutiveErrors is 0.
	OutlierDetection OutlierDetection
	LoadBalancing    LoadBalancing
	// Origins of the policies that won a field group, sorted.
	Origins []report.Origin
}

// Retry is merged and complete. Attempts 0 = no retries.
type Retry struct {
	Attempts      uint32
	On            []RetryOn // sorted
	Codes         []uint32  // sorted
	NonIdempotent bool
	BackoffBase   time.Duration
	BackoffMax    time.Duration
	BudgetPercent uint32
	BudgetMinimum uint32
}

// RetryOn is a condition under which a request is tried again.
type RetryOn string

// The conditions, as in TrafficPolicy.
const (
	ConnectFailure     RetryOn = "ConnectFailure"
	RefusedStream      RetryOn = "RefusedStream"
	ResetBeforeRequest RetryOn = "ResetBeforeRequest"
	Reset              RetryOn = "Reset"
	Unavailable        RetryOn = "Unavailable"
	DeadlineExceeded   RetryOn = "DeadlineExceeded"
	ResourceExhausted  RetryOn = "ResourceExhausted"
	Internal           RetryOn = "Internal"
	Cancelled          RetryOn = "Cancelled"
)

// NotProcessed reports whether the condition proves that no server has processed the request.
func (r RetryOn) NotProcessed() bool {
	return r == ConnectFailure || r == RefusedStream || r == ResetBeforeRequest
}

// CircuitBreaker bounds one proxy's use of one backend.
type CircuitBreaker struct {
	MaxConnections, MaxPendingRequests, MaxRequests uint32
}

// OutlierDetection leaves out endpoints that fail.
type OutlierDetection struct {
	ConsecutiveErrors uint32
	Interval          time.Duration
	BaseEjection      time.Duration
	MaxEjectedPercent uint32
}

// LoadBalancer chooses an endpoint.
type LoadBalancer uint8

// The load balancers.
const (
	LeastRequest LoadBalancer = iota
	RoundRobin
	Random
	RingHash
	Maglev
)

// LoadBalancing chooses an endpoint.
type LoadBalancing struct {
	Policy    LoadBalancer
	SlowStart time.Duration
}

// Gateway is a proxy at the border: for Ingress, and later for Gateways.
type Gateway struct {
	Key       WorkloadKey
	Name      Name
	Listeners []GatewayListener // sorted by port
	Origins   []report.Origin
}

// GatewayListener is a port of a gateway.
type GatewayListener struct {
	Port uint16
	// TLS: handshakes by SNI with Certificates; an unknown name gets none.
	TLS          bool
	Certificates []GatewayCertificate // sorted by Name
	Hosts        []VirtualHost        // sorted: exact names, then wildcards, then "*"
}

// GatewayCertificate is a usable certificate with its key.
type GatewayCertificate struct {
	Name Name // of the Secret
	// Hosts that are served with it, sorted: "example.com", "*.example.com"; none = the default for any name.
	Hosts      []string
	Chain, Key string // PEM
	Origin     report.Origin
	// Users are the Ingresses that have it served, sorted.
	Users []report.Origin
}

// VirtualHost is the routes of a name.
type VirtualHost struct {
	Host string // "example.com", "*.example.com" or "*"
	// OneLabel: a "*." stands for exactly one label (an Ingress's), not for any number.
	OneLabel bool
	Routes   []Route
}
