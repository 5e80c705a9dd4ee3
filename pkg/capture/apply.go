package capture

import (
	"errors"
	"fmt"
	"math"
	"net"
	"strings"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	rtnetlink "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// tableName of the one table that this package owns.
const tableName = "meshd"

// socketBuffer holds the rules, sent as one message, or their acknowledgements
// (bytes). It is enough for ten thousand exclusions; the default is for 500.
const socketBuffer = 8 << 20

// Apply captures the traffic of the calling thread's network namespace. It
// needs CAP_NET_ADMIN there.
func Apply(cfg Config) error {
	if err := addDeliverySource6(); err != nil {
		return explain(err)
	}
	conn, err := nftables.New(nftables.WithSockOptions(func(c *netlink.Conn) error {
		return errors.Join(c.SetWriteBuffer(socketBuffer), c.SetReadBuffer(socketBuffer))
	}))
	if err != nil {
		return explain(fmt.Errorf("open nftables: %w", err))
	}
	table := &nftables.Table{Family: nftables.TableFamilyINet, Name: tableName}
	// Added first, so that there is one to delete.
	conn.AddTable(table)
	conn.DelTable(table)
	conn.AddTable(table)
	for _, c := range chains(cfg) {
		added := conn.AddChain(&nftables.Chain{Table: table, Name: c.name, Type: c.kind, Hooknum: c.hook, Priority: c.priority})
		for _, exprs := range c.rules {
			conn.AddRule(&nftables.Rule{Table: table, Chain: added, Exprs: exprs})
		}
	}
	if err := conn.Flush(); err != nil {
		return explain(fmt.Errorf("replace table inet %s: %w", tableName, err))
	}
	return nil
}

// addDeliverySource6 gives lo the address ::6, where the pod speaks IPv6.
// Elsewhere it would only make resolvers believe that there is IPv6. It is
// deprecated from the start, so that the kernel never chooses it as a source by itself.
func addDeliverySource6() error {
	h, err := rtnetlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open rtnetlink: %w", err)
	}
	defer h.Close()
	lo, err := h.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	used, err := speaksIPv6(h, lo)
	if err != nil || !used {
		return err
	}
	a := DeliverySource6()
	address := &rtnetlink.Addr{
		IPNet:    &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())},
		Flags:    unix.IFA_F_NODAD,
		ValidLft: math.MaxUint32, PreferedLft: 0,
	}
	if err := h.AddrReplace(lo, address); err != nil {
		return fmt.Errorf("add %s to lo: %w", a, err)
	}
	return nil
}

// speaksIPv6 reports whether an interface other than lo has an IPv6 address
// beyond the link, and lo has IPv6 at all.
func speaksIPv6(h *rtnetlink.Handle, lo rtnetlink.Link) (bool, error) {
	addresses, err := h.AddrList(nil, unix.AF_INET6)
	if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("list IPv6 addresses: %w", err)
	}
	onLo, elsewhere := false, false
	for _, a := range addresses {
		if a.LinkIndex == lo.Attrs().Index {
			onLo = true
		} else if a.IP.IsGlobalUnicast() {
			elsewhere = true
		}
	}
	return onLo && elsewhere, nil
}

// explain says in one line what the kernel's answer means for whoever runs this.
func explain(err error) error {
	text := strings.ReplaceAll(err.Error(), "\n", "; ")
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return &Error{Reason: "capture needs CAP_NET_ADMIN in the pod's network namespace", Detail: text, Err: err}
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.EAFNOSUPPORT):
		return &Error{Reason: "the kernel lacks a part of nftables; load " + modules, Detail: text, Err: err}
	case errors.Is(err, unix.EMSGSIZE):
		return &Error{Reason: "there are too many exclusions; write fewer, wider CIDRs", Detail: text, Err: err}
	}
	return &Error{Reason: "capture failed", Detail: text, Err: err}
}

// modules are what the rules need, where they are not built in.
const modules = "nf_tables, nf_conntrack, nft_chain_nat, nft_redir, nft_ct, nft_fib_inet and nft_reject_inet"

// Error is why traffic could not be captured, in one line.
type Error struct {
	Reason string
	// Detail is what was tried, and the kernel's answer.
	Detail string
	Err    error
}

func (e *Error) Error() string { return e.Reason + " (" + e.Detail + ")" }

// Unwrap gives the kernel's error.
func (e *Error) Unwrap() error { return e.Err }
