package envoy

import (
	"time"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"

	"github.com/meshd-io/meshd/pkg/report"
)

// nameWait is how long a connection may say nothing before it is taken for one without a name.
const nameWait = time.Second

// externalChains carry what is going out of the mesh.
//
// Under Deny it is refused at once, except for addresses that are let out
// (chain pass) and, where there are names, for connections whose first bytes
// name one of them: those take a hop to a listener that looks. A name is what
// the application claims; the connection goes to the address it was opened to.
func (t *translation) externalChains() []*listenerv3.FilterChain {
	e := t.view.Settings.Egress
	if !e.Deny {
		return []*listenerv3.FilterChain{t.externalChain(chainExternal, PassthroughName)}
	}
	out := []*listenerv3.FilterChain{}
	if len(e.CIDRs) > 0 {
		out = append(out, t.externalChain(chainPass, PassthroughName))
	}
	if len(e.Hosts) > 0 {
		return append(out, t.externalChain(chainExternal, egressHop))
	}
	return append(out, t.externalChain(chainExternal, BlockedCluster))
}

func (t *translation) externalChain(name, cluster string) *listenerv3.FilterChain {
	tcp := tcpProxy(name, cluster)
	tcp.AccessLog = t.tcpSourceLog()
	return &listenerv3.FilterChain{Name: name, Filters: []*listenerv3.Filter{networkFilter(tcpName, tcp)}}
}

// egress is the hop of connections whose name decides.
func (t *translation) egress(origins []report.Origin) {
	e := t.view.Settings.Egress
	if !e.Deny || len(e.Hosts) == 0 {
		return
	}
	t.put(ClusterType, egressHop, hopCluster(egressHop, pipe(egressSocket)), origins)
	t.put(ListenerType, EgressListener, t.egressListener(), origins)
}

func (t *translation) egressListener() *listenerv3.Listener {
	blocked := t.externalChain("blocked", BlockedCluster)
	named := t.externalChain("tls", PassthroughName)
	named.FilterChainMatch = &listenerv3.FilterChainMatch{
		TransportProtocol: "tls", ServerNames: t.view.Settings.Egress.Hosts,
	}
	return &listenerv3.Listener{
		Name:                             EgressListener,
		Address:                          pipe(egressSocket),
		TrafficDirection:                 outboundDirection,
		ListenerFilters:                  []*listenerv3.ListenerFilter{hopProtocol(), tlsInspector(), httpInspector()},
		ListenerFiltersTimeout:           seconds(nameWait),
		ContinueOnListenerFiltersTimeout: true,
		FilterChains: []*listenerv3.FilterChain{named, {
			Name: "http",
			FilterChainMatch: &listenerv3.FilterChainMatch{
				TransportProtocol: "raw_buffer", ApplicationProtocols: httpProtocols(),
			},
			Filters: []*listenerv3.Filter{t.egressHTTP()},
		}},
		DefaultFilterChain: blocked,
	}
}

// egressHTTP looks at each request's Host, not only at the first one's.
func (t *translation) egressHTTP() *listenerv3.Filter {
	pass := &routev3.RouteAction{
		ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: PassthroughName}, Timeout: seconds(0),
	}
	blocked := &routev3.DirectResponseAction{
		Status: 403, Body: inlineString("this host is not let out by MeshConfig.spec.egress\n"),
	}
	hcm := t.passingHTTP("egress")
	hcm.HttpFilters = []*hcmv3.HttpFilter{routerFilter()}
	hcm.AccessLog = t.httpSourceLog()
	hcm.RouteSpecifier = &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: &routev3.RouteConfiguration{
		Name:                     "egress",
		IgnorePortInHostMatching: true,
		VirtualHosts: []*routev3.VirtualHost{
			{Name: "let-out", Domains: t.view.Settings.Egress.Hosts, Routes: []*routev3.Route{{
				Name: "let-out", Match: prefixSlash(), Action: &routev3.Route_Route{Route: pass},
			}}},
			{Name: "blocked", Domains: []string{"*"}, Routes: []*routev3.Route{{
				Name: "blocked", Match: prefixSlash(), Action: &routev3.Route_DirectResponse{DirectResponse: blocked},
			}}},
		},
	}}
	return networkFilter(hcmName, hcm)
}
