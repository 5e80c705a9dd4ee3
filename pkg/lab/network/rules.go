package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	mdnetlink "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// tableName is the service proxy's table in the node.
const tableName = "meshd-lab"

// ruleBuffer is the netlink socket's buffer, bytes: all rules are one
// transaction, and one message.
const ruleBuffer = 8 << 20

// SetServices replaces all services atomically: a connection sees either the
// old or the new set. Established connections stay with their endpoint.
func (n *Network) SetServices(ports []ServicePort) error {
	for _, p := range ports {
		if !p.IP.IsValid() || p.Port == 0 {
			return fmt.Errorf("service address %s port %d is not one", p.IP, p.Port)
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	conn, err := openRules()
	if err != nil {
		return err
	}
	b := builder{conn: conn, cfg: n.cfg}
	// Added first, so that deleting it does not fail the first time.
	conn.AddTable(table())
	conn.DelTable(table())
	b.table = conn.AddTable(table())
	b.build(ports)
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("set the service proxy's rules (does the kernel have nf_tables with NAT?): %w", err)
	}
	return nil
}

func table() *nftables.Table {
	return &nftables.Table{Name: tableName, Family: nftables.TableFamilyINet}
}

func openRules() (*nftables.Conn, error) {
	conn, err := nftables.New(nftables.WithSockOptions(func(c *mdnetlink.Conn) error {
		// Without root the kernel caps both; a lab without root is small.
		return errors.Join(c.SetWriteBuffer(ruleBuffer), c.SetReadBuffer(ruleBuffer))
	}))
	if err != nil {
		return nil, fmt.Errorf("open nf_tables: %w", err)
	}
	return conn, nil
}

func deleteRules() error {
	conn, err := openRules()
	if err != nil {
		return err
	}
	conn.DelTable(table())
	if err := conn.Flush(); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the service proxy's rules: %w", err)
	}
	return nil
}

// builder makes the table's content.
type builder struct {
	conn  *nftables.Conn
	table *nftables.Table
	cfg   Config
}

// build lays out:
//
//	prerouting, output -> services: one rule an address and port -> its chain
//	svc-N: picks an endpoint at random, dnat
//	postrouting: what would return to its sender gets the node's address
//	input, forward: what is still addressed to the service range is refused
func (b builder) build(ports []ServicePort) {
	services := b.conn.AddChain(&nftables.Chain{Name: "services", Table: b.table})
	for _, hook := range []struct {
		name string
		hook *nftables.ChainHook
	}{{"prerouting", nftables.ChainHookPrerouting}, {"output", nftables.ChainHookOutput}} {
		c := b.base(hook.name, nftables.ChainTypeNAT, hook.hook, nftables.ChainPriorityNATDest)
		b.rule(c, jump(services.Name))
	}
	post := b.base("postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource)
	hairpin := map[netip.Addr]bool{}
	for i, p := range ports {
		endpoints := sameFamily(p)
		if len(endpoints) == 0 {
			continue
		}
		svc := b.conn.AddChain(&nftables.Chain{Name: fmt.Sprintf("svc-%d", i), Table: b.table})
		b.rule(services, matchDestination(p.IP), matchPort(p), jump(svc.Name))
		b.spread(svc, endpoints)
		for _, e := range endpoints {
			if !hairpin[e.Addr()] {
				hairpin[e.Addr()] = true
				b.rule(post, matchSource(e.Addr()), matchDestination(e.Addr()), b.snatToNode(e.Addr()))
			}
		}
	}
	b.refuse()
}

// refuse answers what has no endpoint at once.
func (b builder) refuse() {
	for _, hook := range []struct {
		name string
		hook *nftables.ChainHook
	}{{"input", nftables.ChainHookInput}, {"forward", nftables.ChainHookForward}} {
		c := b.base(hook.name, nftables.ChainTypeFilter, hook.hook, nftables.ChainPriorityFilter)
		for _, p := range []netip.Prefix{b.cfg.Services.V4, b.cfg.Services.V6} {
			b.reject(c, p)
		}
	}
}

func (b builder) reject(c *nftables.Chain, to netip.Prefix) {
	reset := []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}}
	unreachable := []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_PORT_UNREACH}}
	b.rule(c, matchPrefix(to), matchL4(unix.IPPROTO_TCP), reset)
	b.rule(c, matchPrefix(to), unreachable)
}

// spread fills a service's chain: the first of n endpoints takes 1/n of the
// connections, the second 1/(n-1) of the rest, and so on.
func (b builder) spread(c *nftables.Chain, endpoints []netip.AddrPort) {
	for i, e := range endpoints {
		rest := len(endpoints) - i
		if rest == 1 {
			b.rule(c, dnat(e))
			continue
		}
		b.rule(c, []expr.Any{
			&expr.Numgen{Register: 1, Modulus: uint32(rest), Type: unix.NFT_NG_RANDOM},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(0)},
		}, dnat(e))
	}
}

func (b builder) base(name string, t nftables.ChainType, hook *nftables.ChainHook, prio *nftables.ChainPriority) *nftables.Chain {
	return b.conn.AddChain(&nftables.Chain{Name: name, Table: b.table, Type: t, Hooknum: hook, Priority: prio})
}

func (b builder) rule(c *nftables.Chain, parts ...[]expr.Any) {
	var all []expr.Any
	for _, p := range parts {
		all = append(all, p...)
	}
	b.conn.AddRule(&nftables.Rule{Table: b.table, Chain: c, Exprs: all})
}

func (b builder) snatToNode(a netip.Addr) []expr.Any {
	node := b.cfg.Node()[0]
	if a.Is6() {
		node = b.cfg.Node()[1]
	}
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: node.AsSlice()},
		&expr.NAT{Type: expr.NATTypeSourceNAT, Family: family(a), RegAddrMin: 1},
	}
}

func sameFamily(p ServicePort) []netip.AddrPort {
	var out []netip.AddrPort
	for _, e := range p.Endpoints {
		if e.IsValid() && e.Addr().Is4() == p.IP.Is4() {
			out = append(out, e)
		}
	}
	return out
}

func jump(chain string) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: chain}}
}

func dnat(e netip.AddrPort) []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: e.Addr().AsSlice()},
		&expr.Immediate{Register: 2, Data: binary.BigEndian.AppendUint16(nil, e.Port())},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: family(e.Addr()), RegAddrMin: 1, RegProtoMin: 2},
	}
}

func family(a netip.Addr) uint32 {
	if a.Is4() {
		return unix.NFPROTO_IPV4
	}
	return unix.NFPROTO_IPV6
}
