package dns

import "net/netip"

// Domain is the cluster domain.
const Domain = "cluster.local"

// Records is all that the server knows. The zero value knows nothing.
type Records struct {
	// Services are answered as SVC.NS.svc.cluster.local.
	Services []Service
	// Static are names outside of the cluster domain ("api.example.com") and
	// their addresses: the lab's external hosts.
	Static map[string][]netip.Addr
}

// Service is one Service's names.
type Service struct {
	Namespace, Name string
	// Addrs are the ClusterIPs, or for a headless Service the addresses of all
	// ready pods (all pods with publishNotReadyAddresses). Both families may be
	// mixed. Empty: the name exists and has no address.
	Addrs []netip.Addr
	// Hosts are the names below the Service's (a StatefulSet's pods):
	// HOST.SVC.NS.svc.cluster.local.
	Hosts map[string][]netip.Addr
	// ExternalName makes the Service an alias (CNAME); Addrs are ignored.
	ExternalName string
	// Ports answer SRV queries _PORT._PROTO.SVC.NS.svc.cluster.local.
	Ports []Port
}

// Port is a named port of a Service, for SRV.
type Port struct {
	Name string
	// Protocol is "tcp" or "udp".
	Protocol string
	Port     uint16
}
