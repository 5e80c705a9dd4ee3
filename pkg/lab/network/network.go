package network

import (
	"errors"
	"net/netip"
	"os"
)

var errNotYet = errors.New("not there yet")

// Network is the node and what is attached to it. All methods may be called
// from any goroutine.
type Network struct{}

// New makes the calling process's network namespace the node: loopback up, the
// node's addresses, forwarding, the service proxy's table. It is meant for the
// lab's daemon, in the namespace that sandbox.Start made, and refuses to run
// in one that has any other interface than loopback and the host link.
func New(cfg Config) (*Network, error) { return nil, errNotYet }

// Config returns what the Network was made with.
func (n *Network) Config() Config { return Config{} }

// AddPod makes a network namespace with lo and eth0, the next free IPv4 and
// IPv6 address, default routes through the node, and the given sysctls (names
// with dots, as in a pod's securityContext; only "net." ones are allowed).
// Addresses are given in order and an address is only reused when the range is
// exhausted, so that a late packet does not meet another pod.
func (n *Network) AddPod(name string, sysctls map[string]string) (*Namespace, error) {
	return nil, errNotYet
}

// AddExternal makes a namespace for something outside of the mesh's ranges, a
// "host on the internet": the addresses are given, the node routes to them.
func (n *Network) AddExternal(name string, addrs []netip.Addr) (*Namespace, error) {
	return nil, errNotYet
}

// Remove takes a namespace off the network: its link and routes are gone when
// Remove returns, the namespace itself when its last process has ended. The
// addresses return to the pool.
func (n *Network) Remove(ns *Namespace) error { return errNotYet }

// SetServices replaces all services atomically: a connection sees either the
// old or the new set. Established connections stay with their endpoint.
func (n *Network) SetServices(ports []ServicePort) error { return errNotYet }

// Close removes every namespace and rule.
func (n *Network) Close() error { return errNotYet }

// Namespace is a network namespace attached to the node, held by a file
// descriptor.
type Namespace struct {
	// Name is the one given, for messages.
	Name string
	// Addrs are its addresses, IPv4 first.
	Addrs []netip.Addr
}

// File is the namespace's descriptor, for sandbox.Spec.Network. It belongs to
// the Namespace: do not close it.
func (ns *Namespace) File() *os.File { return nil }

// Do runs f on an OS thread inside the namespace. Sockets that f opens stay in
// the namespace wherever they are used later; goroutines that f starts do not
// run in it.
func (ns *Namespace) Do(f func() error) error { return errNotYet }
