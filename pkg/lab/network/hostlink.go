package network

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// hostEnd is the node's end of the host link.
const hostEnd = "host0"

// LinkHost gives the host (the calling process's network namespace) one veth
// into the network namespace of process pid, which New will make the node, and
// routes to the pod and service ranges. It returns the interface's name.
// Ranges that collide with an address or a route of the host are an error.
func LinkHost(cfg Config, pid int) (string, error) {
	if err := cfg.Validate(); err != nil {
		return "", err
	}
	if err := checkCollisions(cfg); err != nil {
		return "", err
	}
	name := fmt.Sprintf("meshd%d", pid)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: hostEnd, PeerNamespace: netlink.NsPid(pid)}
	if err := netlink.LinkAdd(veth); err != nil {
		return "", fmt.Errorf("make the host link: %w", err)
	}
	if err := setUpHost(cfg, name); err != nil {
		return "", errors.Join(err, deleteLink(name))
	}
	return name, nil
}

// UnlinkHost removes the host's interface, and with it its routes. One that is
// gone already is no error.
func UnlinkHost(name string) error { return deleteLink(name) }

func setUpHost(cfg Config, name string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find %s: %w", name, err)
	}
	if err := (sysctl{"net.ipv6.conf." + name + ".accept_dad", "0"}).set(); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(l); err != nil {
		return fmt.Errorf("set %s up: %w", name, err)
	}
	host, node := cfg.Host(), cfg.Node()
	for _, a := range host {
		if err := addAddr(l, a); err != nil {
			return err
		}
	}
	gw6 := netip.MustParseAddr(gateway6)
	for _, r := range []route{
		{to: single(node[0]), link: l, src: host[0]},
		{to: cfg.Pods.V4, link: l, via: node[0], src: host[0]},
		{to: cfg.Services.V4, link: l, via: node[0], src: host[0]},
		{to: cfg.Pods.V6, link: l, via: gw6, src: host[1]},
		{to: cfg.Services.V6, link: l, via: gw6, src: host[1]},
	} {
		if err := addRoute(r); err != nil {
			return err
		}
	}
	return nil
}

// setUpHostEnd configures the node's end, if LinkHost has put one here.
func setUpHostEnd(cfg Config) error {
	_, err := netlink.LinkByName(hostEnd)
	var notFound netlink.LinkNotFoundError
	if errors.As(err, &notFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find %s: %w", hostEnd, err)
	}
	return setUpNodeEnd(cfg, hostEnd, cfg.Host())
}

// checkCollisions looks for routes of the host that overlap with the lab's
// ranges. Default routes overlap with everything and are no matter.
func checkCollisions(cfg Config) error {
	routes, err := netlink.RouteList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("list the host's routes: %w", err)
	}
	for _, r := range routes {
		if r.Dst == nil {
			continue
		}
		addr, ok := netip.AddrFromSlice(r.Dst.IP)
		bits, _ := r.Dst.Mask.Size()
		if !ok || bits == 0 {
			continue
		}
		have := netip.PrefixFrom(addr.Unmap(), bits)
		for _, p := range []netip.Prefix{cfg.Pods.V4, cfg.Pods.V6, cfg.Services.V4, cfg.Services.V6} {
			if have.Overlaps(p) {
				return fmt.Errorf("the lab's range %s overlaps with this machine's route to %s (%s): choose other ranges, or do without the host link",
					p, have, linkName(r.LinkIndex))
			}
		}
	}
	return nil
}

func linkName(index int) string {
	if l, err := netlink.LinkByIndex(index); err == nil {
		return l.Attrs().Name
	}
	return fmt.Sprintf("interface %d", index)
}
