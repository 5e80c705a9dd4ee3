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
	// RunDir holds the sockets that the agent and the proxy share.
	RunDir = "/run/meshd"
	// TokenDir holds the file "token", a service-account token for TokenAudience.
	TokenDir      = "/var/run/meshd/token"
	TokenAudience = "meshd"
	// TrustDir holds TrustKey of the ConfigMap TrustConfigMap: the anchor by which the agent knows meshd.
	TrustDir       = "/var/run/meshd/trust"
	TrustConfigMap = "meshd-trust"
	TrustKey       = "ca.crt"
	// TrustBundle is the ClusterTrustBundle that has the anchor instead, where the cluster serves them.
	TrustBundle = "meshd.io:workload:anchor"

	// PodCertificateSigner signs what kubelet asks for, where it carries the identity and there is no agent.
	PodCertificateSigner = "meshd.io/workload"
	// IdentityVolume then has certificate and key (CredentialFile), the trust anchor
	// (TrustKey), and what the proxy needs to find them. A pod that is in the mesh
	// and has this volume has no agent.
	IdentityVolume = "meshd-identity"
	// IdentityDir is below no /var/run, which is a link to /run in Envoy's image, where RunVolume is.
	IdentityDir    = "/etc/meshd/identity"
	CredentialFile = "credentialbundle.pem"
	// SDSAnnotationPrefix and the name of a file: a text for the proxy that
	// kubelet puts into IdentityVolume. Not for users.
	SDSAnnotationPrefix = "sds.meshd.io/"

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
	// Carrier is MeshConfig.spec.identity.carrier: Agent, PodCertificate or Auto
	// (PodCertificate where PodCertificates); "" is Agent.
	Carrier string
	// PodCertificates: the cluster serves PodCertificateRequests (certificates.k8s.io/v1)
	// and its kubelets project what is signed.
	PodCertificates bool
	// TrustBundles: the same of ClusterTrustBundles. The trust anchor comes by
	// TrustBundle, and otherwise by the ConfigMap TrustConfigMap of the pod's namespace.
	TrustBundles bool
	// Bootstrap renders what Envoy starts with; it must be there.
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

// Bootstrapper renders what an Envoy starts with. It is declared here so that
// the injector needs no Envoy package; cmd/meshd fills it in.
type Bootstrapper func(BootstrapInput) (Bootstrap, error)

// Bootstrap is what an Envoy starts with.
type Bootstrap struct {
	// Config is Envoy's bootstrap, YAML or JSON. It becomes an argument of a
	// container, where Kubernetes replaces $(NAME) and turns $$ into $. Namespace
	// and Pod rely on the former, and user strings in Probes have every $ doubled
	// already. It must not add a $( of its own.
	Config string
	// Files that Config expects in IdentityDir, by name.
	Files map[string]string
}

// BootstrapInput is what distinguishes one workload's bootstrap from another's.
// Who calls PartsFor says Gateway, ServiceAccount and Probes; the rest is filled in.
type BootstrapInput struct {
	// Gateway: a gateway's proxy, not a sidecar.
	Gateway bool
	// Namespace and Pod are $(POD_NAMESPACE) and $(POD_NAME).
	Namespace, Pod string
	ServiceAccount string
	// Server is HOST:PORT of meshd's gRPC, and ServerIdentity its SPIFFE ID.
	Server, ServerIdentity string
	// IdentityDir is where kubelet keeps certificate and key (CredentialFile) and
	// the trust anchor (TrustKey); "" is a pod whose agent serves them.
	IdentityDir string
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
