package envoy

import (
	"strconv"
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/report"
)

// How long the first bytes of a connection may take to tell what it is. A peer
// that is starved of CPU must not be taken for a stranger, so there is plenty of
// time, except where a plaintext server may speak first: there each of its
// connections pays the wait (EXPERIMENTS.md B5 has 0.3 s; on a busy machine
// that refused one mesh connection in three).
const (
	inspectWait            = 15 * time.Second
	inspectWaitServerFirst = time.Second
)

// opaqueChain is the part of the name of the chain that takes bytes over mesh TLS.
const opaqueChain = "mtls-tcp"

// deniedHeader names the policy that refused a request.
const deniedHeader = "x-meshd-denied-by"

// inbound is everything that carries what arrives for the application.
func (t *translation) inbound() {
	v := t.view
	local := originalDstCluster(LocalCluster)
	local.UpstreamBindConfig = ownSource()
	local.TypedExtensionProtocolOptions = httpOptions(sameProtocol())
	t.put(ClusterType, LocalCluster, local)

	in := &listenerv3.Listener{
		Name:                             InListener,
		Address:                          anyAddress(InboundPort),
		TrafficDirection:                 corev3.TrafficDirection_INBOUND,
		ListenerFilters:                  []*listenerv3.ListenerFilter{originalDst(), t.inspector()},
		ListenerFiltersTimeout:           seconds(t.inspection()),
		ContinueOnListenerFiltersTimeout: true,
		AccessLog:                        t.refusedLog(),
	}
	origins := []report.Origin(nil)
	for _, p := range v.Inbound {
		in.FilterChains = append(in.FilterChains, t.portChains(p)...)
		origins = append(origins, p.Origins...)
	}
	rest := v.Rest
	rest.Port, rest.Protocol = 0, model.TCP
	in.FilterChains = append(in.FilterChains, t.portChains(rest)...)
	t.put(ListenerType, InListener, in, append(origins, rest.Origins...))
}

func (t *translation) inspection() time.Duration {
	for _, p := range append([]model.InboundPort{t.view.Rest}, t.view.Inbound...) {
		if p.Mode == model.Permissive && !p.Protocol.IsHTTP() {
			return inspectWaitServerFirst
		}
	}
	return inspectWait
}

// inspector looks for TLS, except on ports without any where a server may speak first.
func (t *translation) inspector() *listenerv3.ListenerFilter {
	f := tlsInspector()
	var skip []*listenerv3.ListenerFilterChainMatchPredicate
	for _, p := range t.view.Inbound {
		if p.Mode == model.Disable {
			skip = append(skip, &listenerv3.ListenerFilterChainMatchPredicate{
				Rule: &listenerv3.ListenerFilterChainMatchPredicate_DestinationPortRange{
					DestinationPortRange: &typev3.Int32Range{Start: int32(p.Port), End: int32(p.Port) + 1},
				},
			})
		}
	}
	switch len(skip) {
	case 0:
	case 1:
		f.FilterDisabled = skip[0]
	default:
		f.FilterDisabled = &listenerv3.ListenerFilterChainMatchPredicate{
			Rule: &listenerv3.ListenerFilterChainMatchPredicate_OrMatch{
				OrMatch: &listenerv3.ListenerFilterChainMatchPredicate_MatchSet{Rules: skip},
			},
		}
	}
	return f
}

// portChains are the filter chains of one port. The sender says the protocol
// by ALPN, nothing is sniffed; a port that is opaque takes all of them as bytes.
func (t *translation) portChains(p model.InboundPort) []*listenerv3.FilterChain {
	t.rbac(p)
	if p.Mode == model.Disable {
		return []*listenerv3.FilterChain{t.chain(p, "plain", &listenerv3.FilterChainMatch{}, t.plainFilter(p), nil)}
	}
	var out []*listenerv3.FilterChain
	opaque := []string{alpnTCP}
	if p.Protocol.MayBeHTTP() {
		out = append(out,
			t.chain(p, "mtls-h1", overTLS(alpnHTTP1, alpnHTTP10), t.inboundHTTP(p, hcmv3.HttpConnectionManager_HTTP1, true), []string{alpnHTTP1, alpnHTTP10}),
			t.chain(p, "mtls-h2", overTLS(alpnHTTP2), t.inboundHTTP(p, hcmv3.HttpConnectionManager_HTTP2, true), []string{alpnHTTP2}))
	} else {
		opaque = append(opaque, alpnHTTP1, alpnHTTP10, alpnHTTP2)
	}
	out = append(out, t.chain(p, opaqueChain, overTLS(opaque...), t.inboundTCP(p, LocalCluster), opaque))
	t.portTrust(p)
	if p.Mode == model.Permissive {
		out = append(out,
			t.chain(p, "app-tls", overTLS(), t.inboundTCP(p, plaintextTarget(p)), nil),
			t.chain(p, "plain", &listenerv3.FilterChainMatch{TransportProtocol: "raw_buffer"}, t.plainFilter(p), nil))
	}
	return out
}

func overTLS(alpn ...string) *listenerv3.FilterChainMatch {
	return &listenerv3.FilterChainMatch{TransportProtocol: "tls", ApplicationProtocols: alpn}
}

func (t *translation) plainFilter(p model.InboundPort) []*listenerv3.Filter {
	if p.Protocol.IsHTTP() {
		return t.inboundHTTP(p, hcmv3.HttpConnectionManager_AUTO, false)
	}
	return t.inboundTCP(p, plaintextTarget(p))
}

// portTrust decides in the handshake who may connect to an opaque port at all.
// It comes by SDS, so that a policy's change ends no connection.
func (t *translation) portTrust(p model.InboundPort) {
	if t.view.Trust.Bundle == "" {
		return
	}
	name := PortTrust(p.Port)
	t.put(SecretType, name, namedTrust(name, t.view.Trust, handshakeNames(p)), authzOrigins(p.Authz))
}

// plaintextTarget refuses at once where no policy could let such a peer in.
func plaintextTarget(p model.InboundPort) string {
	if plaintextMayPass(p) {
		return LocalCluster
	}
	return BlockedCluster
}

// chain is mesh TLS where alpn is set.
func (t *translation) chain(
	p model.InboundPort, part string, match *listenerv3.FilterChainMatch, filters []*listenerv3.Filter, alpn []string,
) *listenerv3.FilterChain {
	c := &listenerv3.FilterChain{Name: inChain(p.Port, part), FilterChainMatch: match, Filters: filters}
	if p.Port != 0 {
		match.DestinationPort = number(uint32(p.Port))
	}
	if alpn != nil {
		trust := TrustSecret
		if part == opaqueChain {
			trust = PortTrust(p.Port)
		}
		c.TransportSocket = downstreamMeshTLS(t.own, trust, alpn)
	}
	return c
}

func (t *translation) inboundTCP(p model.InboundPort, cluster string) []*listenerv3.Filter {
	tcp := tcpProxy(inStat(p), cluster)
	tcp.AccessLog = t.tcpDestinationLog()
	filters := []*listenerv3.Filter{}
	for _, part := range tcpRBACParts() {
		filters = append(filters, &listenerv3.Filter{
			Name:       rbacName(p.Port, part),
			ConfigType: &listenerv3.Filter_ConfigDiscovery{ConfigDiscovery: fromECDS(tcpRBACType)},
		})
	}
	return append(filters, networkFilter(tcpName, tcp))
}

// inboundHTTP hands requests to the application in the protocol that they came in.
func (t *translation) inboundHTTP(p model.InboundPort, codec hcmv3.HttpConnectionManager_CodecType, mtls bool) []*listenerv3.Filter {
	hcm := t.passingHTTP(inStat(p))
	hcm.CodecType = codec
	hcm.AccessLog = t.httpDestinationLog()
	hcm.LocalReplyConfig = denials()
	hcm.ForwardClientCertDetails = hcmv3.HttpConnectionManager_SANITIZE
	if mtls {
		hcm.ForwardClientCertDetails = hcmv3.HttpConnectionManager_SANITIZE_SET
		hcm.SetCurrentClientCertDetails = &hcmv3.HttpConnectionManager_SetCurrentClientCertDetails{Uri: true}
	}
	normalise(hcm, hasPathRules(p.Authz))
	for _, part := range httpRBACParts() {
		hcm.HttpFilters = append(hcm.HttpFilters, &hcmv3.HttpFilter{
			Name:       rbacName(p.Port, part),
			ConfigType: &hcmv3.HttpFilter_ConfigDiscovery{ConfigDiscovery: fromECDS(httpRBACType)},
		})
	}
	hcm.HttpFilters = append(hcm.HttpFilters, routerFilter())
	hcm.RouteSpecifier = &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: &routev3.RouteConfiguration{
		Name: inStat(p),
		VirtualHosts: []*routev3.VirtualHost{{Name: "local", Domains: []string{"*"}, Routes: []*routev3.Route{{
			Name: "local", Match: prefixSlash(), Action: &routev3.Route_Route{Route: &routev3.RouteAction{
				ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: LocalCluster}, Timeout: seconds(0),
			}},
		}}}},
	}}
	return []*listenerv3.Filter{networkFilter(hcmName, hcm)}
}

func inStat(p model.InboundPort) string {
	if p.Port == 0 {
		return "in_rest"
	}
	return "in_" + strconv.Itoa(int(p.Port))
}

// denials make a 403 of ours name the policy, in a header and in the body.
func denials() *hcmv3.LocalReplyConfig {
	return &hcmv3.LocalReplyConfig{Mappers: []*hcmv3.ResponseMapper{{
		Filter:             status(accesslogv3.ComparisonFilter_EQ, 403),
		HeadersToAdd:       []*corev3.HeaderValueOption{overwrite(deniedHeader, "%RESPONSE_CODE_DETAILS%")},
		BodyFormatOverride: inline("denied: %RESPONSE_CODE_DETAILS% (source " + downstreamPeer + ")\n"),
	}}}
}

// refusedLog tells of connections that no chain takes: plaintext under Strict.
func (t *translation) refusedLog() []*accesslogv3.AccessLog {
	if t.view.Settings.Telemetry.AccessLog == model.AccessLogOff {
		return nil
	}
	logs := t.tcpDestinationLog()
	last := logs[len(logs)-1]
	last.Filter = &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_ResponseFlagFilter{
		ResponseFlagFilter: &accesslogv3.ResponseFlagFilter{Flags: []string{"NR"}},
	}}
	return []*accesslogv3.AccessLog{last}
}
