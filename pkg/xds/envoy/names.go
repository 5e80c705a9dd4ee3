package envoy

import (
	"cmp"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/meshd-io/meshd/pkg/model"
)

// NameKind is the first word of a resource's name.
type NameKind string

// The kinds of name. A name is KIND|...; only a scope is a bare IP:PORT, because
// Envoy prints the address itself and looks the scope up by it.
const (
	// OutName is a backend's cluster and assignment: out|NAMESPACE/SERVICE|PORT or
	// out|IP:PORT; with |mirror behind it, of what copies are sent by.
	OutName NameKind = "out"
	// GateName is what the gate asks for: dst|IP:PORT.
	GateName NameKind = "dst"
	// DetectedTCPName carries what in-detect took for TCP: tcp|IP:PORT.
	DetectedTCPName NameKind = "tcp"
	// ScopeName is the routes of a destination: IP:PORT.
	ScopeName NameKind = "scope"
	// InName is a filter chain of the inbound listener: in|PORT|PART; PORT 0 is every undeclared port.
	InName NameKind = "in"
	// RBACName is a filter's configuration: rbac|PORT|PART.
	RBACName NameKind = "rbac"
	// TrustName is the trust bundle with the names that an opaque port takes: trust|PORT.
	TrustName NameKind = "trust"
	// CertificateName is a gateway's certificate: cert|NAMESPACE/NAME.
	CertificateName NameKind = "cert"
	// GatewayName is a gateway's listener and its routes: gw|PORT.
	GatewayName NameKind = "gw"
)

// Fixed names.
const (
	OutListener    = "out"
	InListener     = "in"
	HopListener    = "in-http"
	DetectListener = "in-detect"
	EgressListener = "egress"

	TrustSecret       = "trust"
	LeafSecret        = "default"
	MeshdTrustSecret  = "ROOTCA"
	LocalCluster      = "in-local"
	PassthroughName   = "passthrough"
	BlockedCluster    = "blocked"
	egressHop         = "egress-hop"
	agentCluster      = "agent"
	meshdCluster      = "meshd"
	scopesName        = "dst"
	destinationHeader = "x-meshd-destination"
	mirrorPart        = "mirror"
)

// ResourceName is a name taken apart. Which fields are set depends on Kind.
type ResourceName struct {
	Kind    NameKind
	Backend model.BackendRef // OutName
	Address netip.AddrPort   // GateName, DetectedTCPName, ScopeName
	Port    uint16           // InName, RBACName, GatewayName, TrustName
	Part    string           // InName, RBACName; OutName: "" or mirrorPart
	Object  model.Name       // CertificateName
}

// OutCluster is the name of a backend's cluster and of its assignment.
func OutCluster(ref model.BackendRef) string {
	return ResourceName{Kind: OutName, Backend: ref}.String()
}

// MirrorCluster is the name of the cluster by which copies are sent to a backend,
// and of its assignment.
func MirrorCluster(ref model.BackendRef) string {
	return ResourceName{Kind: OutName, Backend: ref, Part: mirrorPart}.String()
}

// GateCluster is the name by which the gate asks for an address.
func GateCluster(a netip.AddrPort) string { return ResourceName{Kind: GateName, Address: a}.String() }

// ParseGateCluster gives the address that the gate asks for by this name.
func ParseGateCluster(name string) (netip.AddrPort, error) {
	n, err := ParseName(name)
	if err == nil && n.Kind != GateName {
		err = fmt.Errorf("name %q: not of the gate", name)
	}
	return n.Address, err
}

// Scope is the name and the key of a destination's routes.
func Scope(a netip.AddrPort) string { return ResourceName{Kind: ScopeName, Address: a}.String() }

// DetectedTCP is the cluster of what was detected to be no HTTP.
func DetectedTCP(a netip.AddrPort) string {
	return ResourceName{Kind: DetectedTCPName, Address: a}.String()
}

// CertificateSecret is the SDS name of a gateway's certificate.
func CertificateSecret(n model.Name) string {
	return ResourceName{Kind: CertificateName, Object: n}.String()
}

func inChain(port uint16, part string) string {
	return ResourceName{Kind: InName, Port: port, Part: part}.String()
}

func rbacName(port uint16, part string) string {
	return ResourceName{Kind: RBACName, Port: port, Part: part}.String()
}

// PortTrust is the SDS name of the trust bundle of an opaque port's handshakes.
func PortTrust(port uint16) string { return ResourceName{Kind: TrustName, Port: port}.String() }

func gatewayName(port uint16) string {
	return ResourceName{Kind: GatewayName, Port: port}.String()
}

// String is the name; it is not longer than 400 bytes.
func (n ResourceName) String() string {
	port := strconv.Itoa(int(n.Port))
	switch n.Kind {
	case OutName:
		out := "out|" + n.Backend.Address.String()
		if !n.Backend.Address.IsValid() {
			out = "out|" + n.Backend.Service.String() + "|" + strconv.Itoa(int(n.Backend.Port))
		}
		if n.Part != "" {
			out += "|" + n.Part
		}
		return out
	case ScopeName:
		return n.Address.String()
	case InName, RBACName:
		return string(n.Kind) + "|" + port + "|" + n.Part
	case GatewayName, TrustName:
		return string(n.Kind) + "|" + port
	case CertificateName:
		return "cert|" + n.Object.String()
	}
	return string(n.Kind) + "|" + n.Address.String()
}

// ParseName is the reverse of String. It takes canonical names only.
func ParseName(s string) (ResourceName, error) {
	kind, rest, found := strings.Cut(s, "|")
	if !found {
		kind, rest = string(ScopeName), s
	}
	n := ResourceName{Kind: NameKind(kind)}
	var err error
	switch n.Kind {
	case OutName:
		if backend, mirror := strings.CutSuffix(rest, "|"+mirrorPart); mirror {
			rest, n.Part = backend, mirrorPart
		}
		n.Backend, err = parseBackend(rest)
	case GateName, DetectedTCPName, ScopeName:
		n.Address, err = netip.ParseAddrPort(rest)
	case InName, RBACName:
		port, part, _ := strings.Cut(rest, "|")
		n.Part = part
		n.Port, err = parsePort(port)
	case GatewayName, TrustName:
		n.Port, err = parsePort(rest)
	case CertificateName:
		n.Object, err = parseObject(rest)
	default:
		err = fmt.Errorf("unknown kind %q", kind)
	}
	if err == nil && n.String() != s {
		err = fmt.Errorf("not canonical: %q is meant", n)
	}
	if err != nil {
		return ResourceName{}, fmt.Errorf("name %q: %w", s, err)
	}
	return n, nil
}

func parseBackend(s string) (model.BackendRef, error) {
	object, port, found := strings.Cut(s, "|")
	if !found {
		a, err := netip.ParseAddrPort(s)
		return model.BackendRef{Address: a}, err
	}
	name, nameErr := parseObject(object)
	number, portErr := parsePort(port)
	return model.BackendRef{Service: name, Port: number}, cmp.Or(nameErr, portErr)
}

func parseObject(s string) (model.Name, error) {
	ns, name, found := strings.Cut(s, "/")
	if !found || ns == "" || name == "" || strings.ContainsAny(name, "/|") {
		return model.Name{}, fmt.Errorf("%q is not NAMESPACE/NAME", s)
	}
	return model.Name{Namespace: ns, Name: name}, nil
}

func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	return uint16(n), err
}
