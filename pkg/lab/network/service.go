package network

import "net/netip"

// Protocol is a transport protocol as Kubernetes spells it.
type Protocol string

// The protocols that the service proxy knows.
const (
	TCP Protocol = "TCP"
	UDP Protocol = "UDP"
)

// ServicePort is one address and port that the service proxy answers for. A
// dual-stack Service with two ports is four of them. Endpoints of the other
// family than IP are ignored.
type ServicePort struct {
	// IP is the ClusterIP, or a load balancer's address. Take it from
	// Config.Services: the node and the host have routes for these alone.
	IP netip.Addr
	// Port is the Service's port.
	Port uint16
	// Protocol is TCP or UDP; empty is TCP.
	Protocol Protocol
	// Endpoints are the ready endpoints; each connection picks one at random.
	// None: the connection is refused.
	Endpoints []netip.AddrPort
}
