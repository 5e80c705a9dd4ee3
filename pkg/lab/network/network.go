package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"github.com/vishvananda/netlink"
)

// Network is the node and what is attached to it. All methods may be called
// from any goroutine.
type Network struct {
	cfg Config

	mu       sync.Mutex // guards what follows, and the order of changes to the rules
	pool     pool
	links    int // numbers the node's ends of links
	attached map[*Namespace]struct{}
}

// New makes the calling process's network namespace the node: loopback up, the
// node's addresses, forwarding, the service proxy's table. It is meant for the
// lab's daemon, in the namespace that sandbox.Start made, and refuses to run
// in one that has any other interface in use than loopback and the host link.
func New(cfg Config) (*Network, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if err := checkUnused(); err != nil {
		return nil, err
	}
	if err := setAll(nodeSysctls()); err != nil {
		return nil, err
	}
	if err := setUpLoopback(cfg); err != nil {
		return nil, err
	}
	if err := setUpHostEnd(cfg); err != nil {
		return nil, err
	}
	n := &Network{cfg: cfg, pool: newPool(cfg.Pods), attached: map[*Namespace]struct{}{}}
	return n, n.SetServices(nil)
}

// Config returns what the Network was made with.
func (n *Network) Config() Config { return n.cfg }

// checkUnused protects the machine's own network from a caller that forgot to
// leave it.
func checkUnused() error {
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("list interfaces: %w", err)
	}
	for _, l := range links {
		a := l.Attrs()
		if a.Flags&net.FlagUp != 0 && a.Flags&net.FlagLoopback == 0 && a.Name != hostEnd {
			return fmt.Errorf("interface %s is in use here: this is not a network namespace of the lab's own", a.Name)
		}
	}
	return nil
}

func nodeSysctls() []sysctl {
	return []sysctl{
		{"net.ipv4.ip_forward", "1"},
		{"net.ipv4.conf.all.rp_filter", "0"},
		{"net.ipv4.conf.default.rp_filter", "0"},
		// A pod that reaches itself through its Service leaves the node by the
		// link it came in by: no news for the pod.
		{"net.ipv4.conf.all.send_redirects", "0"},
		{"net.ipv4.conf.default.send_redirects", "0"},
		{"net.ipv6.conf.all.disable_ipv6", "0"},
		{"net.ipv6.conf.default.disable_ipv6", "0"},
		{"net.ipv6.conf.default.accept_dad", "0"},
		{"net.ipv6.conf.all.forwarding", "1"},
	}
}

// setUpLoopback gives lo the node's addresses, and the service ranges as local
// routes: what no service answers for ends at the node, which refuses it.
func setUpLoopback(cfg Config) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	node := cfg.Node()
	for i, services := range []netip.Prefix{cfg.Services.V4, cfg.Services.V6} {
		if err := addAddr(lo, node[i]); err != nil {
			return err
		}
		if err := addRoute(route{to: services, link: lo, src: node[i], local: true}); err != nil {
			return err
		}
	}
	return nil
}

// AddPod makes a network namespace with lo and eth0, the next free IPv4 and
// IPv6 address, default routes through the node, and the given sysctls (names
// with dots, as in a pod's securityContext; only "net." ones are allowed).
// Ports below 1024 are open to every user unless a sysctl says otherwise, as
// container runtimes have it.
//
// Addresses are given in order and an address is only reused when the range is
// exhausted, so that a late packet does not meet another pod.
func (n *Network) AddPod(name string, sysctls map[string]string) (*Namespace, error) {
	if err := checkSysctls(sysctls); err != nil {
		return nil, fmt.Errorf("pod %s: %w", name, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	addrs, err := n.pool.take()
	if err != nil {
		return nil, fmt.Errorf("pod %s: %w", name, err)
	}
	ns, err := n.attach(name, addrs, sysctls)
	if err != nil {
		n.pool.give(addrs)
		return nil, fmt.Errorf("pod %s: %w", name, err)
	}
	ns.pod = true
	return ns, nil
}

// AddExternal makes a namespace for something outside of the mesh's ranges, a
// "host on the internet": the addresses are given, the node routes to them.
func (n *Network) AddExternal(name string, addrs []netip.Addr) (*Namespace, error) {
	if len(addrs) == 0 {
		return nil, fmt.Errorf("external host %s has no address", name)
	}
	for _, a := range addrs {
		if n.cfg.Pods.Contains(a) || n.cfg.Services.Contains(a) {
			return nil, fmt.Errorf("external host %s: %s is inside of the lab's own ranges", name, a)
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for ns := range n.attached {
		for _, a := range addrs {
			if containsAddr(ns.Addrs, a) {
				return nil, fmt.Errorf("external host %s: %s belongs to %s already", name, a, ns.Name)
			}
		}
	}
	ns, err := n.attach(name, addrs, nil)
	if err != nil {
		return nil, fmt.Errorf("external host %s: %w", name, err)
	}
	return ns, nil
}

// Remove takes a namespace off the network: its link and routes are gone when
// Remove returns, the namespace itself when its last process has ended. The
// addresses return to the pool.
func (n *Network) Remove(ns *Namespace) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.remove(ns)
}

func (n *Network) remove(ns *Namespace) error {
	if _, ok := n.attached[ns]; !ok {
		return nil
	}
	delete(n.attached, ns)
	if ns.pod {
		n.pool.give(ns.Addrs)
	}
	return errors.Join(deleteLink(ns.link), ns.file.Close())
}

// Close removes every namespace and all rules. What else the node has goes
// with the lab.
func (n *Network) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	var errs []error
	for ns := range n.attached {
		errs = append(errs, n.remove(ns))
	}
	return errors.Join(append(errs, deleteRules())...)
}

func containsAddr(list []netip.Addr, a netip.Addr) bool {
	for _, b := range list {
		if a == b {
			return true
		}
	}
	return false
}
