package capture

import "net/netip"

// The proxy's side of capture (DESIGN.md section 3).
const (
	OutboundPort uint16 = 15001
	// DetectPort takes connections from the proxy to itself; only ProxyUID may connect.
	DetectPort  uint16 = 15003
	InboundPort uint16 = 15006
	// PlainPort serves probes and metrics. It is never captured.
	PlainPort uint16 = 15021
	// ProxyUID runs proxy and agent; what it sends is not captured.
	ProxyUID uint32 = 1337
)

// DeliverySource is the address that the proxy binds when it delivers to its
// application by IPv4. It needs no set-up.
func DeliverySource() netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 0, 6}) }

// DeliverySource6 is the same by IPv6. It is added to lo.
func DeliverySource6() netip.Addr { return netip.AddrFrom16([16]byte{15: 6}) }

// Config is what is not captured, beyond what never is. The zero value is a
// plain sidecar.
type Config struct {
	// InboundPorts of the pod that are reached directly.
	InboundPorts []uint16
	// OutboundPorts and OutboundCIDRs of destinations that are reached directly.
	OutboundPorts []uint16
	OutboundCIDRs []netip.Prefix
	// UIDs whose processes reach every destination directly.
	UIDs []uint32
}
