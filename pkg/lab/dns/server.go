package dns

import (
	"context"
	"errors"
	"net/netip"
)

var errNotYet = errors.New("not there yet")

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

// Config says where to listen.
type Config struct {
	// Listen are the addresses to serve on, UDP and TCP: the node's, port 53.
	Listen []netip.AddrPort
	// Upstream are resolvers for names that the Records do not have. None (the
	// lab has no way out): such names do not exist (NXDOMAIN), at once.
	Upstream []netip.AddrPort
}

// Server is a running DNS server.
type Server struct{}

// Start listens and serves, in the calling process's network namespace, until
// ctx is done or Close is called. When it returns, queries are answered.
func Start(ctx context.Context, cfg Config) (*Server, error) { return nil, errNotYet }

// SetRecords replaces the table atomically.
func (s *Server) SetRecords(r Records) {}

// Close stops the server and waits for its goroutines.
func (s *Server) Close() error { return errNotYet }

// ResolvConf is the content of a pod's /etc/resolv.conf (dnsPolicy
// ClusterFirst): the given servers, the namespace's search list, ndots:5.
func ResolvConf(servers []netip.Addr, namespace string) string { return "" }
