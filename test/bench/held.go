package main

import (
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"maps"
	"math/bits"
	"net/netip"
	"slices"
	"strings"
	"sync"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/meshd-io/meshd/pkg/xds/envoy"
)

// held is what a proxy holds and has asked for. It is immutable and shared: proxies
// that have received the same have the same pointer.
type held struct {
	id        uint64                       // from the contents, whatever the way to them
	versions  map[envoy.Type]table[string] // by name
	asked     map[envoy.Type][]string      // sorted; endpoints and routes
	endpoints table[assignment]            // by name
	marker    int                          // of the newest change that is held
	settled   bool                         // everything that was asked for is there
}

// assignment is where a service's endpoints are.
type assignment struct {
	marker    int
	addresses string // sorted
}

// String counts what is held and asked for, by type.
func (p *held) String() string {
	if p == nil {
		return "nothing"
	}
	var out []string
	for typ, list := range p.versions {
		out = append(out, fmt.Sprintf("%d of %s", list.size, typ))
	}
	for typ, list := range p.asked {
		out = append(out, fmt.Sprintf("%d asked of %s", len(list), typ))
	}
	return strings.Join(out, ", ")
}

// step is what one response does to a proxy that holds something.
type step struct {
	next      *held
	typeURL   string // of the response
	asks      []byte // the gRPC message of what is asked for next; nil is nothing
	resources int
	moves     []move
	moved     bool // the newest marker
}

// move is a service's new marker.
type move struct{ service, from, to int }

// holder computes each step once, however many proxies take it.
type holder struct {
	mu           sync.Mutex
	seed         maphash.Seed
	steps        map[stepKey]step
	states       map[uint64]*held
	account      string
	destinations []netip.AddrPort // asked for on demand; none where everything is sent
	assignments  int              // that a settled proxy has at least
}

type stepKey struct {
	held    uint64
	gate    bool
	content uint64 // of the response
}

// maxSteps bounds the memory of a holder.
const maxSteps = 1 << 14

func newHolder(account string, destinations []netip.AddrPort, assignments int) *holder {
	return &holder{
		seed: maphash.MakeSeed(), steps: map[stepKey]step{}, states: map[uint64]*held{},
		account: account, destinations: destinations, assignments: assignments,
	}
}

// take gives what a response does, and the answer to it: gRPC messages, the
// acknowledgement first. It keeps nothing of message.
func (h *holder) take(from *held, gate bool, message []byte) (step, []byte, error) {
	content, nonce, err := h.digest(message)
	if err != nil {
		return step{}, nil, err
	}
	s, err := h.step(from, stepKey{from.id, gate, content}, message)
	if err != nil {
		return step{}, nil, err
	}
	answer, err := encode(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: s.typeURL, ResponseNonce: nonce})
	return s, append(answer, s.asks...), err
}

// digest is a hash of a response but for its nonce, which counts the responses of a stream: streams
// that have received more or fewer before take the same step.
func (h *holder) digest(message []byte) (content uint64, nonce string, err error) {
	const field = 5 // DeltaDiscoveryResponse.nonce
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeField(message)
		if n < 0 {
			return 0, "", protowire.ParseError(n)
		}
		if number == field && kind == protowire.BytesType {
			_, _, tag := protowire.ConsumeTag(message)
			value, _ := protowire.ConsumeString(message[tag:n])
			nonce = value
		} else {
			content = bits.RotateLeft64(content, 1) ^ maphash.Bytes(h.seed, message[:n])
		}
		message = message[n:]
	}
	return content, nonce, nil
}

func (h *holder) step(from *held, k stepKey, message []byte) (step, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s, ok := h.steps[k]; ok {
		return s, nil
	}
	s, err := h.compute(from, k.gate, message)
	if err != nil {
		return step{}, err
	}
	if len(h.steps) >= maxSteps {
		clear(h.steps)
		clear(h.states)
	}
	if known := h.states[s.next.id]; known != nil {
		s.next = known
	}
	h.states[s.next.id], h.steps[k] = s.next, s
	return s, nil
}

func (h *holder) compute(from *held, gate bool, message []byte) (step, error) {
	var resp discoveryv3.DeltaDiscoveryResponse
	if err := proto.Unmarshal(message, &resp); err != nil {
		return step{}, err
	}
	typ := envoy.Type(resp.GetTypeUrl())
	if gate {
		typ = envoy.OnDemandType
	}
	to := &held{id: from.id, versions: maps.Clone(from.versions), asked: maps.Clone(from.asked), marker: from.marker}
	if to.versions == nil {
		to.versions, to.asked = map[envoy.Type]table[string]{}, map[envoy.Type][]string{}
	}
	versions, endpoints := from.versions[typ].change(), from.endpoints.change()
	out := step{next: to, typeURL: resp.GetTypeUrl(), resources: len(resp.GetResources())}
	var of envoy.Type
	var names []string
	for _, r := range resp.GetResources() {
		name := r.GetName()
		before, _ := versions.get(name)
		to.id ^= h.sum(typ, name, before) ^ h.sum(typ, name, r.GetVersion())
		versions.set(name, r.GetVersion())
		wants, wanted, err := reads(typ, r)
		if err != nil {
			return step{}, err
		}
		if wanted != "" {
			of, names = wants, append(names, wanted)
		}
		if typ != envoy.EndpointType {
			continue
		}
		a, err := assigned(r)
		if err != nil {
			return step{}, err
		}
		if b, _ := endpoints.get(name); a.marker > b.marker {
			out.moves = append(out.moves, move{serviceOf(name), b.marker, a.marker})
		}
		endpoints.set(name, a)
		to.marker = max(to.marker, a.marker)
	}
	for _, name := range resp.GetRemovedResources() {
		before, _ := versions.get(name)
		to.id ^= h.sum(typ, name, before)
		versions.remove(name)
		if typ == envoy.EndpointType {
			endpoints.remove(name)
		}
	}
	to.versions[typ], to.endpoints = versions.table, endpoints.table
	var err error
	fresh := without(names, to.asked[of])
	if len(fresh) > 0 {
		for _, name := range fresh {
			to.id ^= h.sum(of, name, "asked")
		}
		to.asked[of] = slices.Sorted(slices.Values(slices.Concat(to.asked[of], fresh)))
		out.asks, err = encode(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: string(of), ResourceNamesSubscribe: fresh})
	}
	to.settled = from.settled && len(fresh)+len(resp.GetRemovedResources()) == 0 || h.settled(to)
	out.moved = to.marker > from.marker
	return out, err
}

// sum of a version of a resource; of none it is 0.
func (h *holder) sum(typ envoy.Type, name, version string) uint64 {
	if version == "" {
		return 0
	}
	return maphash.String(h.seed, string(typ)+" "+name+" "+version)
}

func (h *holder) settled(p *held) bool {
	for typ, names := range p.asked {
		for _, name := range names {
			if _, has := p.versions[typ].get(name); !has {
				return false
			}
		}
	}
	return p.versions[envoy.OnDemandType].size >= len(h.destinations) && p.versions[envoy.ListenerType].size > 0 &&
		p.versions[envoy.EndpointType].size >= h.assignments && p.versions[envoy.ScopedRouteType].size >= h.assignments
}

// reads gives what a resource makes an Envoy ask for.
func reads(typ envoy.Type, r *discoveryv3.Resource) (of envoy.Type, name string, err error) {
	switch typ {
	case envoy.ClusterType:
		var m clusterv3.Cluster
		if err = r.GetResource().UnmarshalTo(&m); err == nil && m.GetType() == clusterv3.Cluster_EDS {
			return envoy.EndpointType, m.GetName(), nil
		}
	case envoy.ScopedRouteType:
		var m routev3.ScopedRouteConfiguration
		err = r.GetResource().UnmarshalTo(&m)
		return envoy.RouteType, m.GetRouteConfigurationName(), err
	}
	return "", "", err
}

func assigned(r *discoveryv3.Resource) (assignment, error) {
	var m endpointv3.ClusterLoadAssignment
	if err := r.GetResource().UnmarshalTo(&m); err != nil {
		return assignment{}, err
	}
	var out assignment
	var addresses []string
	for _, l := range m.GetEndpoints() {
		for _, e := range l.GetLbEndpoints() {
			a := e.GetEndpoint().GetAddress().GetSocketAddress().GetAddress()
			addresses, out.marker = append(addresses, a), max(out.marker, markerOf(a))
		}
	}
	slices.Sort(addresses)
	out.addresses = strings.Join(addresses, " ")
	return out, nil
}

func without(names, known []string) []string {
	if len(names) == 0 {
		return nil
	}
	has := map[string]bool{}
	for _, n := range known {
		has[n] = true
	}
	return slices.DeleteFunc(slices.Clone(names), func(n string) bool { return has[n] })
}

// encode gives messages with gRPC's prefix.
func encode(requests ...*discoveryv3.DeltaDiscoveryRequest) ([]byte, error) {
	var out []byte
	for _, r := range requests {
		raw, err := proto.Marshal(r)
		if err != nil {
			return nil, err
		}
		out = append(binary.BigEndian.AppendUint32(append(out, 0), uint32(len(raw))), raw...)
	}
	return out, nil
}

// greeting is the first requests of a proxy on both of its streams; the gate's are empty where it asks for nothing.
func (h *holder) greeting(node int, from *held) (ads, gate []byte, err error) {
	who := nodeOf(node, h.account)
	var requests []*discoveryv3.DeltaDiscoveryRequest
	for i, t := range []envoy.Type{
		envoy.ClusterType, envoy.EndpointType, envoy.ScopedRouteType, envoy.RouteType, envoy.ListenerType,
	} {
		if len(from.asked[t]) == 0 && (t == envoy.EndpointType || t == envoy.RouteType) {
			continue
		}
		r := &discoveryv3.DeltaDiscoveryRequest{
			TypeUrl: string(t), ResourceNamesSubscribe: from.asked[t], InitialResourceVersions: maps.Collect(from.versions[t].all()),
		}
		if i == 0 {
			r.Node = who
		}
		requests = append(requests, r)
	}
	if ads, err = encode(requests...); err != nil || len(h.destinations) == 0 {
		return ads, nil, err
	}
	r := &discoveryv3.DeltaDiscoveryRequest{
		TypeUrl: string(envoy.ClusterType), Node: who, InitialResourceVersions: maps.Collect(from.versions[envoy.OnDemandType].all()),
	}
	for _, d := range h.destinations {
		r.ResourceNamesSubscribe = append(r.ResourceNamesSubscribe, envoy.GateCluster(d))
	}
	gate, err = encode(r)
	return ads, gate, err
}

// markerAddress is an endpoint whose address says the change's number, 1 to 6249.
func markerAddress(change int) string {
	return netip.AddrFrom4([4]byte{10, 244, byte(230 + change/250), byte(change%250 + 1)}).String()
}

// markerOf is the change that an address says; 0 for another address.
func markerOf(address string) int {
	a, err := netip.ParseAddr(address)
	if err != nil || !a.Is4() {
		return 0
	}
	if b := a.As4(); b[0] == 10 && b[1] == 244 && b[2] >= 230 {
		return (int(b[2])-230)*250 + int(b[3]) - 1
	}
	return 0
}
