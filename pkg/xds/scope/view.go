package scope

import (
	"net/netip"

	"github.com/meshd-io/meshd/pkg/identity"
	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/report"
)

// Key names a kind of proxy: all replicas of one workload.
type Key = model.WorkloadKey

// Node is what a proxy says of itself, beside what it has proven.
type Node struct {
	// ID is the Envoy node id: sidecar~NAMESPACE/POD or gateway~NAMESPACE/POD.
	ID string
	// Identity is proven by the stream's certificate.
	Identity identity.ID
}

// Demand is the set of destinations that a workload's proxies have asked for.
// It is immutable: With gives a new one.
type Demand struct {
	addresses []netip.AddrPort // sorted, distinct
	promoted  []netip.AddrPort // those of addresses that Promote has moved, sorted
}

// DestinationKind says how connections to a destination are carried.
type DestinationKind uint8

// The kinds of destination.
const (
	// Refused: the address is meshd's own, or there is nothing that may be reached.
	Refused DestinationKind = iota
	// HTTPDestination: declared HTTP; promoted.
	HTTPDestination
	// TCPDestination: declared TCP, stays at the gate.
	TCPDestination
	// DetectDestination: undeclared; detected by the sidecar.
	DetectDestination
	// PassDestination: inside of the mesh's CIDRs but nothing that the mesh knows: carried as it is.
	PassDestination
)

// Destination is a demanded address, resolved, with all that its traffic needs.
// It is the same for every proxy, but for those of namespaces that have routes
// of their own to it.
type Destination struct {
	Address netip.AddrPort
	Kind    DestinationKind
	// Backend that TCP is sent to (TCP and Detect), and that Routes name.
	Backend model.BackendRef
	Routes  []model.Route
	// Attached are the objects that Routes are of, where there are any, sorted.
	Attached []report.Origin
	// Backends are what Backend and Routes refer to, as far as it exists, sorted by reference.
	Backends []*model.Backend
}

// View is everything that one kind of proxy may see.
type View struct {
	Key      Key
	Identity string // SPIFFE ID of the proxies of this Key
	Settings model.Settings
	Trust    model.Trust

	// Inbound and Rest are a sidecar's own ports.
	Inbound []model.InboundPort
	Rest    model.InboundPort

	// Destinations are what a sidecar has asked for, sorted by address.
	Destinations []*Destination
	// Promoted are the HTTP destinations to which the listener sends connections
	// straight; to others they go by the gate. Sorted.
	Promoted []netip.AddrPort

	// Gateway is set for gateways.
	Gateway *model.Gateway
	// Backends are what Gateway refers to, as far as it exists, sorted by reference.
	Backends []*model.Backend
}
