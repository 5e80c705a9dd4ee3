package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// linkNode connects the host and the network namespace of a process: a veth pair
// with an address at each end, and the host's route to load balancers' addresses.
// The node has no way out: packets to anywhere else find nobody on its link.
func linkNode(pid int) (index int, err error) {
	ns, err := netns.GetFromPid(pid)
	if err != nil {
		return 0, err
	}
	defer func() { _ = ns.Close() }()
	veth := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: hostLink},
		PeerName:  nodeLink, PeerNamespace: netlink.NsFd(ns),
	}
	if err := netlink.LinkAdd(veth); err != nil {
		return 0, fmt.Errorf("link %s (is another cluster up?): %w", hostLink, err)
	}
	defer func() {
		if err != nil {
			_ = netlink.LinkDel(veth) // the first error counts
		}
	}()
	host, err := netlink.NewHandle()
	if err != nil {
		return 0, err
	}
	defer host.Close()
	if err := configure(host, hostLink, hostAddress); err != nil {
		return 0, err
	}
	node, err := netlink.NewHandleAt(ns)
	if err != nil {
		return 0, err
	}
	defer node.Close()
	lo, err := node.LinkByName("lo")
	if err != nil {
		return 0, err
	}
	if err := node.LinkSetUp(lo); err != nil {
		return 0, err
	}
	if err := configure(node, nodeLink, nodeAddress); err != nil {
		return 0, err
	}
	up, err := node.LinkByName(nodeLink)
	if err != nil {
		return 0, err
	}
	// Connections to Services need a route before kube-proxy has turned them; on the link,
	// not by the host, so that nothing else leaves the node.
	if err := node.RouteAdd(&netlink.Route{LinkIndex: up.Attrs().Index, Dst: ipNet(netip.MustParsePrefix("0.0.0.0/0")), Scope: netlink.SCOPE_LINK}); err != nil {
		return 0, fmt.Errorf("the node's default route: %w", err)
	}
	route := &netlink.Route{Dst: ipNet(loadBalancers), Gw: net.IP(nodeAddress.Addr().AsSlice())}
	return veth.Attrs().Index, host.RouteAdd(route)
}

func configure(h *netlink.Handle, name string, address netip.Prefix) error {
	link, err := h.LinkByName(name)
	if err != nil {
		return fmt.Errorf("link %s: %w", name, err)
	}
	if err := h.AddrAdd(link, &netlink.Addr{IPNet: ipNet(address)}); err != nil {
		return fmt.Errorf("address of %s: %w", name, err)
	}
	return h.LinkSetUp(link)
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: net.IP(p.Addr().AsSlice()), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// unlinkNode removes the host's end, where the kernel has not done so yet.
// The index alone may be another link's since the machine was started anew, the
// name alone another cluster's.
func unlinkNode(index int) error {
	link, err := netlink.LinkByName(hostLink)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err != nil {
		return err
	}
	if link.Attrs().Index != index {
		return nil
	}
	if err := netlink.LinkDel(link); err != nil {
		if _, gone := netlink.LinkByIndex(index); errors.As(gone, &netlink.LinkNotFoundError{}) {
			return nil
		}
		return fmt.Errorf("remove link %s: %w", link.Attrs().Name, err)
	}
	return nil
}

// waitForControl waits until the supervisor listens.
func (o Options) waitForControl(ctx context.Context) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := o.dialControl(ctx, "", "")
		if err == nil {
			conn.Close()
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}
