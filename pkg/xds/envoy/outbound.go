package envoy

import (
	"net/netip"
	"time"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"

	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/report"
	"github.com/meshd-io/meshd/pkg/xds/scope"
)

// The ports that traffic is captured to.
const (
	OutboundPort = 15001
	DetectPort   = 15003
	InboundPort  = 15006
)

const (
	hopSocket    = RunDir + "/in-http.sock"
	egressSocket = RunDir + "/egress.sock"

	// hopWait is for the few bytes that the proxy itself writes.
	hopWait = 5 * time.Second
	// detectWait is what a server that speaks first pays where its port is undeclared.
	detectWait = 500 * time.Millisecond
)

// outbound is everything that carries what the application sends.
func (t *translation) outbound() {
	v := t.view
	hcm := t.outboundHTTP()
	settings := []report.Origin(nil)
	if v.Settings.Origin.Name != "" {
		settings = []report.Origin{v.Settings.Origin}
	}
	passthrough := originalDstCluster(PassthroughName)
	passthrough.TypedExtensionProtocolOptions = httpOptions(sameProtocol())
	t.put(ClusterType, PassthroughName, passthrough, settings)
	t.put(ListenerType, OutListener, t.outListener(hcm), settings)
	t.put(ListenerType, HopListener, hopListener(hcm), settings)
	t.put(ListenerType, DetectListener, t.detectListener(hcm), settings)
	t.egress(settings)
}

// backend is a cluster of the ADS stream, without its endpoints.
func (t *translation) backend(b *model.Backend, how carrier) {
	t.put(ClusterType, how.name, t.backendCluster(b, how), b.Origins, b.Traffic.Origins)
}

// destination is what the gate's question for an address is answered with, and
// what the proxy must hold before.
func (t *translation) destination(d *scope.Destination) {
	name := GateCluster(d.Address)
	gate := Resource{Name: name}
	backend := t.backends[d.Backend]
	switch {
	case d.Kind == scope.HTTPDestination:
		gate.Proto = hopCluster(name, pipe(hopSocket))
		t.routed(&gate, d)
	case d.Kind == scope.DetectDestination && backend != nil:
		gate.Proto = hopCluster(name, socket(netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), DetectPort)))
		opaque := DetectedTCP(d.Address)
		t.backend(backend, carrier{name: opaque, alpn: []string{alpnTCP}})
		gate.After = append(gate.After, Ref{ClusterType, opaque})
		t.routed(&gate, d)
	case d.Kind == scope.TCPDestination && backend != nil:
		gate.Proto = t.backendCluster(backend, carrier{name: name, alpn: []string{alpnTCP}})
		gate.Origins = joined(backend.Origins, backend.Traffic.Origins)
	case d.Kind == scope.PassDestination:
		gate.Proto = originalDstCluster(name)
	default:
		gate.Proto = emptyCluster(name)
	}
	t.add(OnDemandType, gate)
	requests, copies := t.targets(d.Routes)
	for _, b := range requests {
		t.backend(b, carrier{name: OutCluster(b.Ref), http: sameProtocol()})
	}
	for _, b := range copies {
		// A copy is Envoy's own request: nothing of the client's says what it carries.
		http, alpn := declaredProtocol(b.Protocol)
		t.backend(b, carrier{name: MirrorCluster(b.Ref), alpn: []string{alpn}, http: http})
	}
}

// routed adds the destination's routes, and what must be there before its first request.
func (t *translation) routed(gate *Resource, d *scope.Destination) {
	origins := joined(routeOrigins(d.Routes), d.Attached)
	t.put(ScopedRouteType, Scope(d.Address), t.scopedRoutes(d), origins)
	requests, copies := t.targets(d.Routes)
	for _, b := range requests {
		gate.After = append(gate.After, Ref{ClusterType, OutCluster(b.Ref)})
	}
	for _, b := range copies {
		gate.After = append(gate.After, Ref{ClusterType, MirrorCluster(b.Ref)})
	}
	gate.After = append(gate.After, Ref{ScopedRouteType, Scope(d.Address)})
	gate.Origins = origins
}

// hopListener takes HTTP connections from the gate.
func hopListener(hcm *listenerv3.Filter) *listenerv3.Listener {
	return &listenerv3.Listener{
		Name:                   HopListener,
		Address:                pipe(hopSocket),
		TrafficDirection:       outboundDirection,
		ListenerFilters:        []*listenerv3.ListenerFilter{hopProtocol()},
		ListenerFiltersTimeout: seconds(hopWait),
		FilterChains:           []*listenerv3.FilterChain{{Name: "http", Filters: []*listenerv3.Filter{hcm}}},
	}
}

// detectListener tells HTTP from the rest by the first bytes. Only the proxy's
// own user may connect to it; capture sees to that.
func (t *translation) detectListener(hcm *listenerv3.Filter) *listenerv3.Listener {
	tcp := tcpProxy("detect", "unset")
	tcp.AccessLog = t.tcpSourceLog()
	return &listenerv3.Listener{
		Name:                             DetectListener,
		Address:                          socket(netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), DetectPort)),
		TrafficDirection:                 outboundDirection,
		ListenerFilters:                  []*listenerv3.ListenerFilter{hopProtocol(), httpInspector()},
		ListenerFiltersTimeout:           seconds(detectWait),
		ContinueOnListenerFiltersTimeout: true,
		FilterChains: []*listenerv3.FilterChain{{
			Name:             "http",
			FilterChainMatch: &listenerv3.FilterChainMatch{ApplicationProtocols: httpProtocols()},
			Filters:          []*listenerv3.Filter{hcm},
		}},
		DefaultFilterChain: &listenerv3.FilterChain{Name: "tcp", Filters: []*listenerv3.Filter{
			setConnectionState(perConnection, string(DetectedTCPName)+"|%DOWNSTREAM_LOCAL_ADDRESS%"),
			networkFilter(tcpName, tcp),
		}},
	}
}

// httpProtocols are what the HTTP inspector finds.
func httpProtocols() []string { return []string{"http/1.0", "http/1.1", "h2c"} }
