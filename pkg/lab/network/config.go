package network

import (
	"fmt"
	"net/netip"
)

// Range is one IPv4 and one IPv6 prefix.
type Range struct {
	V4 netip.Prefix
	V6 netip.Prefix
}

// Contains tells whether the address is in either prefix.
func (r Range) Contains(a netip.Addr) bool { return r.V4.Contains(a) || r.V6.Contains(a) }

// Config says which addresses the lab uses. The zero value is not valid: start
// from DefaultConfig.
type Config struct {
	// Pods is where pod addresses come from. The first addresses are taken:
	// .1 is the node, .2 the host's end of the host link, pods start at .10.
	Pods Range
	// Services is where ClusterIPs come from. This package assigns none; it
	// only answers for the range (an address without a service is refused).
	Services Range
}

// DefaultConfig is 10.244.0.0/16 and fd00:10:244::/64 for pods, 10.96.0.0/16
// and fd00:10:96::/112 for services.
func DefaultConfig() Config {
	return Config{
		Pods: Range{
			V4: netip.MustParsePrefix("10.244.0.0/16"),
			V6: netip.MustParsePrefix("fd00:10:244::/64"),
		},
		Services: Range{
			V4: netip.MustParsePrefix("10.96.0.0/16"),
			V6: netip.MustParsePrefix("fd00:10:96::/112"),
		},
	}
}

// smallestPodBits is the longest IPv4 pod prefix that still has room for pods.
const smallestPodBits = 26

// Validate tells what is wrong with the ranges: family, size, overlap.
func (c Config) Validate() error {
	for _, p := range []struct {
		name   string
		prefix netip.Prefix
		is4    bool
	}{
		{"pods IPv4", c.Pods.V4, true}, {"pods IPv6", c.Pods.V6, false},
		{"services IPv4", c.Services.V4, true}, {"services IPv6", c.Services.V6, false},
	} {
		if !p.prefix.IsValid() || p.prefix.Addr().Is4() != p.is4 {
			return fmt.Errorf("the %s range %q is not a prefix of that family", p.name, p.prefix)
		}
		if p.prefix != p.prefix.Masked() {
			return fmt.Errorf("the %s range %s has bits set after its length: write %s", p.name, p.prefix, p.prefix.Masked())
		}
	}
	if c.Pods.V4.Bits() > smallestPodBits || c.Pods.V6.Bits() > 128-(32-smallestPodBits) {
		return fmt.Errorf("the pod ranges %s, %s are too small: /%d and /%d at most",
			c.Pods.V4, c.Pods.V6, smallestPodBits, 128-(32-smallestPodBits))
	}
	if c.Pods.V4.Overlaps(c.Services.V4) || c.Pods.V6.Overlaps(c.Services.V6) {
		return fmt.Errorf("the pod ranges %s, %s and the service ranges %s, %s overlap",
			c.Pods.V4, c.Pods.V6, c.Services.V4, c.Services.V6)
	}
	return nil
}

// Node returns the node's own addresses, IPv4 then IPv6: the address that DNS
// is served on, and the source of what the daemon sends to pods (probes).
func (c Config) Node() []netip.Addr { return []netip.Addr{nth(c.Pods.V4, 1), nth(c.Pods.V6, 1)} }

// Host returns the addresses of the host's end of the host link.
func (c Config) Host() []netip.Addr { return []netip.Addr{nth(c.Pods.V4, 2), nth(c.Pods.V6, 2)} }

// firstPod is the offset of the first pod's address in the pod ranges.
const firstPod = 10

// nth returns the n-th address of a prefix, the zero Addr if it is outside.
func nth(p netip.Prefix, n int) netip.Addr {
	b := p.Addr().AsSlice()
	for i := len(b) - 1; i >= 0 && n > 0; i-- {
		n += int(b[i])
		b[i] = byte(n)
		n >>= 8
	}
	a, _ := netip.AddrFromSlice(b)
	if n > 0 || !p.Contains(a) {
		return netip.Addr{}
	}
	return a
}
