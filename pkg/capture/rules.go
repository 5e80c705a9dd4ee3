package capture

import (
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// chain is a base chain with its rules in order. What no rule of it stops is accepted.
type chain struct {
	name     string
	kind     nftables.ChainType
	hook     *nftables.ChainHook
	priority *nftables.ChainPriority
	rules    [][]expr.Any
}

func chains(cfg Config) []chain {
	return []chain{
		{"prerouting", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest, inbound(cfg)},
		{"output", nftables.ChainTypeNAT, nftables.ChainHookOutput, nftables.ChainPriorityNATDest, outbound(cfg)},
		{"guard-input", nftables.ChainTypeFilter, nftables.ChainHookInput, nftables.ChainPriorityFilter, guardInput()},
		{"guard-output", nftables.ChainTypeFilter, nftables.ChainHookOutput, nftables.ChainPriorityFilter, guardOutput()},
	}
}

// ownPorts are not redirected inbound: the guards see to them, and PlainPort is open.
func ownPorts() []uint16 { return []uint16{OutboundPort, DetectPort, InboundPort, PlainPort} }

func inbound(cfg Config) [][]expr.Any {
	fromOutside := slices.Concat(in(expr.CmpOpNeq), local(), tcp())
	var rules [][]expr.Any
	for _, p := range slices.Concat(ownPorts(), cfg.InboundPorts) {
		rules = append(rules, slices.Concat(tcp(), toPort(p), leave()))
	}
	return append(rules, slices.Concat(fromOutside, redirect(InboundPort)))
}

func outbound(cfg Config) [][]expr.Any {
	rules := append(selfCalls(cfg), slices.Concat(out(expr.CmpOpEq), leave()))
	for _, id := range slices.Concat([]uint32{ProxyUID}, cfg.UIDs) {
		rules = append(rules, slices.Concat(uid(expr.CmpOpEq, id), leave()))
	}
	linkLocal := netip.PrefixFrom(netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80}), 10)
	for _, p := range slices.Concat([]netip.Prefix{linkLocal}, cfg.OutboundCIDRs) {
		rules = append(rules, slices.Concat(destination(expr.CmpOpEq, p), leave()))
	}
	for _, p := range cfg.OutboundPorts {
		rules = append(rules, slices.Concat(tcp(), toPort(p), leave()))
	}
	return append(rules, slices.Concat(tcp(), redirect(OutboundPort)))
}

// selfCalls: ports that are not captured from outside are not captured here either.
func selfCalls(cfg Config) [][]expr.Any {
	byProxy := slices.Concat(out(expr.CmpOpEq), tcp(), uid(expr.CmpOpEq, ProxyUID))
	var rules [][]expr.Any
	for _, p := range slices.Concat(ownPorts(), cfg.InboundPorts) {
		rules = append(rules, slices.Concat(byProxy, toPort(p), leave()))
	}
	host := func(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
	loopback4 := netip.PrefixFrom(netip.AddrFrom4([4]byte{127}), 8)
	return append(rules,
		slices.Concat(byProxy, source(expr.CmpOpNeq, host(DeliverySource())),
			destination(expr.CmpOpNeq, loopback4), redirect(InboundPort)),
		slices.Concat(byProxy, source(expr.CmpOpNeq, host(DeliverySource6())),
			destination(expr.CmpOpNeq, host(netip.IPv6Loopback())),
			destination(expr.CmpOpNeq, host(DeliverySource6())), redirect(InboundPort)),
	)
}

// guardInput closes the proxy's ports to connections that were not redirected.
func guardInput() [][]expr.Any {
	return [][]expr.Any{
		slices.Concat(tcp(), toPort(OutboundPort), direct(), refuse()),
		slices.Concat(tcp(), toPort(InboundPort), direct(), refuse()),
		slices.Concat(tcp(), in(expr.CmpOpNeq), toPort(DetectPort), refuse()),
	}
}

// guardOutput: whoever connects to DetectPort may claim any destination, by the
// PROXY protocol. A closing connection has no owner any more and passes.
func guardOutput() [][]expr.Any {
	return [][]expr.Any{
		slices.Concat(tcp(), toPort(DetectPort), out(expr.CmpOpEq), uid(expr.CmpOpNeq, ProxyUID), refuse()),
	}
}
