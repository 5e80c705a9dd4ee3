package injector

import (
	"cmp"
	"time"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
)

// What is API, and what other parts of meshd rely on (DESIGN.md section 3).
const (
	// InjectLabel on a Namespace or a Pod: enabled or disabled; the Pod's wins.
	InjectLabel = "meshd.io/inject"
	// IdentityAnnotation on a Pod: Agent or PodCertificate.
	IdentityAnnotation = "meshd.io/identity"
	// Comma lists on a Pod of what is not captured.
	ExcludeInboundPortsAnnotation  = "meshd.io/exclude-inbound-ports"
	ExcludeOutboundPortsAnnotation = "meshd.io/exclude-outbound-ports"
	ExcludeOutboundCIDRsAnnotation = "meshd.io/exclude-outbound-cidrs"

	CaptureContainer = "meshd-capture"
	AgentContainer   = "meshd-agent"
	// ProxyContainer: a pod is in the mesh if and only if it has a container or init container of this name.
	ProxyContainer = "meshd-proxy"

	RunVolume   = "meshd-run"
	TokenVolume = "meshd-token"
	TrustVolume = "meshd-trust"
	// IdentityVolume has certificate, key and trust anchor where kubelet carries them.
	IdentityVolume = "meshd-identity"
	// RunDir holds the sockets that the agent and the proxy share.
	RunDir = "/run/meshd"
	// TokenDir holds the file "token", a service-account token for TokenAudience.
	TokenDir      = "/var/run/meshd/token"
	TokenAudience = "meshd"
	// TrustDir holds TrustKey of the ConfigMap TrustConfigMap: the anchor by which the agent knows meshd.
	TrustDir       = "/var/run/meshd/trust"
	TrustConfigMap = "meshd-trust"
	TrustKey       = "ca.crt"

	// ProxyUID is the user and group of agent and proxy; capture tells their traffic by it.
	ProxyUID int64 = 1337

	OutboundPort int32 = 15001
	DetectPort   int32 = 15003
	InboundPort  int32 = 15006
	// PlainPort serves /ready, /metrics and the rewritten probes; it is never captured.
	PlainPort int32 = 15021
)

// Defaults of Config.
const (
	DefaultSystemNamespace = "meshd-system"
	DefaultTrustDomain     = "cluster.local"
	DefaultProxyImage      = "envoyproxy/envoy:v1.40.0"
	DefaultAgentImage      = "meshd/meshd-agent:dev"
	defaultConcurrency     = 2
	defaultLogLevel        = "warning"
	defaultServerPort      = "15012"
	// serverAccount is the service account that meshd itself runs as.
	serverAccount = "meshd"
)

// Config is what the injector knows besides the pod and its namespace. The
// zero value of every field but Bootstrap is its default.
type Config struct {
	// SystemNamespace is where meshd runs: meshd-system.
	SystemNamespace string
	// TrustDomain of all identities: cluster.local.
	TrustDomain string
	// Server is HOST:PORT of meshd's gRPC: meshd.SYSTEM-NAMESPACE.svc:15012.
	Server string
	// ProxyImage is used where MeshConfig names none.
	ProxyImage string
	AgentImage string
	// Injection is MeshConfig.spec.injection.
	Injection meshv1a1.InjectionSpec
	// Bootstrap renders Envoy's bootstrap; it must be there.
	Bootstrap Bootstrapper
}

func (c Config) withDefaults() Config {
	c.SystemNamespace = cmp.Or(c.SystemNamespace, DefaultSystemNamespace)
	c.TrustDomain = cmp.Or(c.TrustDomain, DefaultTrustDomain)
	c.Server = cmp.Or(c.Server, "meshd."+c.SystemNamespace+".svc:"+defaultServerPort)
	c.ProxyImage = cmp.Or(c.Injection.Proxy.Image, c.ProxyImage, DefaultProxyImage)
	c.AgentImage = cmp.Or(c.AgentImage, DefaultAgentImage)
	return c
}

// Bootstrapper renders an Envoy bootstrap as YAML or JSON. It is declared here
// so that the injector needs no Envoy package; cmd/meshd fills it in. The text
// becomes an argument of a container, where Kubernetes replaces $(NAME) and
// turns $$ into $. Namespace and Pod rely on the former, and user strings in
// Probes have every $ doubled already. The bootstrap must not add a $( of its own.
type Bootstrapper func(BootstrapInput) (string, error)

// BootstrapInput is what distinguishes one workload's bootstrap from another's.
// Who calls Containers says Gateway, ServiceAccount and Probes; the rest is filled in.
type BootstrapInput struct {
	// Gateway: a gateway's proxy, not a sidecar.
	Gateway bool
	// Namespace and Pod are $(POD_NAMESPACE) and $(POD_NAME).
	Namespace, Pod string
	ServiceAccount string
	// Server is HOST:PORT of meshd's gRPC, and ServerIdentity its SPIFFE ID.
	Server, ServerIdentity string
	// Probes of the application, to be answered on PlainPort; in the order of the pod's containers.
	Probes []Probe
}

// Protocol is what a probe speaks to the application.
type Protocol string

// The protocols of probes.
const (
	ProbeHTTP  Protocol = "HTTP"
	ProbeHTTPS Protocol = "HTTPS" // the certificate is not verified, as kubelet does not
	ProbeTCP   Protocol = "TCP"
	ProbeGRPC  Protocol = "GRPC"
)

// Probe is an application's probe as the user wrote it. Kubelet now asks Path
// on PlainPort, over plain HTTP, with the user's own query and headers (Host
// too), which the proxy passes on. A redirect answered by the application
// should lose its Location, or kubelet would follow it to PlainPort; without
// one, kubelet takes a 3xx as success.
type Probe struct {
	// Path is /probe/CONTAINER/liveness, readiness or startup.
	Path     string
	Protocol Protocol
	// Port of the application; named ports are resolved.
	Port int32
	// Target is the path that the application is asked for, escaped, without a query; HTTP and HTTPS only.
	Target string
	// Service of the gRPC health protocol; "" is the whole server.
	Service string
	// Timeout and Period as kubelet has them, at least 1 s.
	Timeout, Period time.Duration
}
