package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sort"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// gateway6 is the node's link-local address on every link.
const gateway6 = "fe80::1"

// podLink is a pod's interface.
const podLink = "eth0"

// attach makes a namespace and its link to the node. n.mu is held.
func (n *Network) attach(name string, addrs []netip.Addr, sysctls map[string]string) (*Namespace, error) {
	ns, err := newNamespace(name)
	if err != nil {
		return nil, err
	}
	ns.Addrs = addrs
	n.links++
	ns.link = fmt.Sprintf("pod%d", n.links)
	if err := n.connect(ns, sysctls); err != nil {
		return nil, errors.Join(err, deleteLink(ns.link), ns.file.Close())
	}
	n.attached[ns] = struct{}{}
	return ns, nil
}

func (n *Network) connect(ns *Namespace, sysctls map[string]string) error {
	// Before the link is there: a new interface copies the defaults.
	if err := ns.Do(func() error { return setAll(podSysctls()) }); err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = ns.link
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: podLink, PeerNamespace: netlink.NsFd(int(ns.file.Fd()))}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("make a veth pair: %w", err)
	}
	if err := ns.Do(func() error { return setUpPod(n.cfg, ns.Addrs, sysctls) }); err != nil {
		return err
	}
	return setUpNodeEnd(n.cfg, ns.link, ns.Addrs)
}

// podSysctls are the node's wishes and what container runtimes set by default.
func podSysctls() []sysctl {
	return []sysctl{
		{"net.ipv4.ip_unprivileged_port_start", "0"},
		{"net.ipv4.conf.all.accept_redirects", "0"},
		{"net.ipv4.conf.default.accept_redirects", "0"},
		{"net.ipv4.conf.default.rp_filter", "0"},
		{"net.ipv4.conf.all.rp_filter", "0"},
		{"net.ipv6.conf.all.disable_ipv6", "0"},
		{"net.ipv6.conf.default.disable_ipv6", "0"},
		// Addresses are given by the node, once: they are usable at once.
		{"net.ipv6.conf.default.accept_dad", "0"},
		{"net.ipv6.conf.default.accept_ra", "0"},
		{"net.ipv6.conf.default.accept_redirects", "0"},
	}
}

// setUpPod configures the pod's end, on a thread inside of it.
func setUpPod(cfg Config, addrs []netip.Addr, sysctls map[string]string) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	eth, err := netlink.LinkByName(podLink)
	if err != nil {
		return fmt.Errorf("find %s: %w", podLink, err)
	}
	for _, l := range []netlink.Link{lo, eth} {
		if err := netlink.LinkSetUp(l); err != nil {
			return fmt.Errorf("set %s up: %w", l.Attrs().Name, err)
		}
	}
	for _, a := range addrs {
		if err := addAddr(eth, a); err != nil {
			return err
		}
	}
	if err := addDefaults(eth, cfg.Node()[0], addrs); err != nil {
		return err
	}
	names := make([]string, 0, len(sysctls))
	for name := range sysctls {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		if err := (sysctl{name, sysctls[name]}).set(); err != nil {
			return err
		}
	}
	return nil
}

// addDefaults makes the node the gateway, for the families of addrs.
func addDefaults(eth netlink.Link, node netip.Addr, addrs []netip.Addr) error {
	has4, has6 := false, false
	for _, a := range addrs {
		has4, has6 = has4 || a.Is4(), has6 || a.Is6()
	}
	var routes []route
	if has4 {
		routes = append(routes,
			route{to: single(node), link: eth},
			route{to: netip.MustParsePrefix("0.0.0.0/0"), link: eth, via: node})
	}
	if has6 {
		routes = append(routes,
			route{to: netip.MustParsePrefix("::/0"), link: eth, via: netip.MustParseAddr(gateway6)})
	}
	for _, r := range routes {
		if err := addRoute(r); err != nil {
			return err
		}
	}
	return nil
}

// setUpNodeEnd configures the node's end of a link and the routes to what is
// behind it.
func setUpNodeEnd(cfg Config, name string, behind []netip.Addr) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find %s: %w", name, err)
	}
	if err := netlink.LinkSetUp(l); err != nil {
		return fmt.Errorf("set %s up: %w", name, err)
	}
	if err := addAddr(l, netip.MustParseAddr(gateway6)); err != nil {
		return err
	}
	node := cfg.Node()
	for _, a := range behind {
		src := node[0]
		if a.Is6() {
			src = node[1]
		}
		if err := addRoute(route{to: single(a), link: l, src: src}); err != nil {
			return err
		}
	}
	return nil
}

func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// addAddr gives an interface one address, without a network route; a link-local
// one gets its /64.
func addAddr(l netlink.Link, a netip.Addr) error {
	p := single(a)
	if a.IsLinkLocalUnicast() && a.Is6() {
		p = netip.PrefixFrom(a, 64)
	}
	addr := &netlink.Addr{IPNet: ipNet(p)}
	if a.Is6() {
		addr.Flags = unix.IFA_F_NODAD
	}
	if err := netlink.AddrAdd(l, addr); err != nil {
		return fmt.Errorf("add %s to %s: %w", a, l.Attrs().Name, err)
	}
	return nil
}

// route is one route. The zero via is a direct one.
type route struct {
	to    netip.Prefix
	link  netlink.Link
	via   netip.Addr
	src   netip.Addr
	local bool
}

func addRoute(r route) error {
	nr := &netlink.Route{LinkIndex: r.link.Attrs().Index, Dst: ipNet(r.to)}
	if r.via.IsValid() {
		nr.Gw = r.via.AsSlice()
	} else if r.to.Addr().Is4() {
		nr.Scope = netlink.SCOPE_LINK
	}
	if r.src.IsValid() {
		nr.Src = r.src.AsSlice()
	}
	if r.local {
		nr.Type, nr.Table, nr.Scope = unix.RTN_LOCAL, unix.RT_TABLE_LOCAL, netlink.SCOPE_HOST
	}
	if err := netlink.RouteAdd(nr); err != nil {
		return fmt.Errorf("add the route to %s by %s: %w", r.to, r.link.Attrs().Name, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// deleteLink removes a link; one that is gone is no error.
func deleteLink(name string) error {
	l, err := netlink.LinkByName(name)
	if err == nil {
		err = netlink.LinkDel(l)
	}
	var notFound netlink.LinkNotFoundError
	if err == nil || errors.As(err, &notFound) || errors.Is(err, unix.ENODEV) || errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return fmt.Errorf("remove %s: %w", name, err)
}
