package envoy

import (
	"net/netip"
	"slices"
	"strconv"
	"time"

	xdscore "github.com/cncf/xds/go/xds/core/v3"
	matcherxds "github.com/cncf/xds/go/xds/type/matcher/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	inputv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/common_inputs/network/v3"
	ipv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/input_matchers/ip/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// The filter chains of the outbound listener.
const (
	chainGate     = "gate"
	chainHTTP     = "http"
	chainExternal = "external"
	chainPass     = "pass"
)

// gateWait must exceed a restart of meshd: connections are held meanwhile.
const gateWait = 10 * time.Second

const outboundDirection = corev3.TrafficDirection_OUTBOUND

// outListener is where all that the application sends arrives. Everything but
// its chains and their matcher is frozen: a change would drain all connections.
//
// It does not hand connections over to listeners of their original port
// (use_original_dst): those are other people's ports.
func (t *translation) outListener(hcm *listenerv3.Filter) *listenerv3.Listener {
	return &listenerv3.Listener{
		Name:             OutListener,
		Address:          anyAddress(OutboundPort),
		TrafficDirection: outboundDirection,
		ListenerFilters:  []*listenerv3.ListenerFilter{originalDst()},
		FilterChains: append([]*listenerv3.FilterChain{
			{Name: chainGate, Filters: t.gateFilters()},
			{Name: chainHTTP, Filters: []*listenerv3.Filter{hcm}},
		}, t.externalChains()...),
		FilterChainMatcher: t.chainMatcher(),
	}
}

// gateFilters hold the connection until meshd has said what is behind its
// address. The question has a stream of its own: on ADS it would wait for
// every warming cluster.
func (t *translation) gateFilters() []*listenerv3.Filter {
	tcp := tcpProxy("gate", "unset")
	tcp.AccessLog = t.tcpSourceLog()
	tcp.OnDemand = &tcpv3.TcpProxy_OnDemand{
		Timeout: seconds(gateWait),
		OdcdsConfig: &corev3.ConfigSource{
			ResourceApiVersion: corev3.ApiVersion_V3,
			ConfigSourceSpecifier: &corev3.ConfigSource_ApiConfigSource{
				ApiConfigSource: deltaSource(meshdCluster, 100*time.Millisecond, time.Second),
			},
		},
	}
	return []*listenerv3.Filter{
		setConnectionState(perConnection, string(GateName)+"|%DOWNSTREAM_LOCAL_ADDRESS%"),
		networkFilter(tcpName, tcp),
	}
}

// chainMatcher sends promoted destinations to HTTP directly, the rest of the
// mesh's addresses to the gate, and everything else out.
func (t *translation) chainMatcher() *matcherxds.Matcher {
	ports := map[string]*matcherxds.Matcher_OnMatch{}
	for port, addresses := range t.promoted() {
		ports[strconv.Itoa(int(port))] = nested(&matcherxds.Matcher{
			MatcherType: matcherList(ipIn(addresses, chain(chainHTTP))),
			OnNoMatch:   t.unpromoted(),
		})
	}
	if len(ports) == 0 {
		return t.unpromotedMatcher()
	}
	return &matcherxds.Matcher{
		MatcherType: &matcherxds.Matcher_MatcherTree_{MatcherTree: &matcherxds.Matcher_MatcherTree{
			Input: input("DestinationPortInput", &inputv3.DestinationPortInput{}),
			TreeType: &matcherxds.Matcher_MatcherTree_ExactMatchMap{
				ExactMatchMap: &matcherxds.Matcher_MatcherTree_MatchMap{Map: ports},
			},
		}},
		OnNoMatch: t.unpromoted(),
	}
}

// promoted are the addresses of destinations that have been promoted, by port.
func (t *translation) promoted() map[uint16][]netip.Prefix {
	out := map[uint16][]netip.Prefix{}
	for _, a := range t.view.Promoted {
		out[a.Port()] = append(out[a.Port()], netip.PrefixFrom(a.Addr(), a.Addr().BitLen()))
	}
	return out
}

func (t *translation) unpromoted() *matcherxds.Matcher_OnMatch { return nested(t.unpromotedMatcher()) }

func (t *translation) unpromotedMatcher() *matcherxds.Matcher {
	s := t.view.Settings
	var list []*matcherxds.Matcher_MatcherList_FieldMatcher
	if len(s.CIDRs) > 0 {
		list = append(list, ipIn(s.CIDRs, chain(chainGate)))
	}
	if s.Egress.Deny && len(s.Egress.CIDRs) > 0 {
		list = append(list, ipIn(s.Egress.CIDRs, chain(chainPass)))
	}
	if len(list) == 0 {
		// A matcher must have something to match: no address is unspecified here.
		list = append(list, ipIn([]netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 32)}, chain(chainExternal)))
	}
	return &matcherxds.Matcher{MatcherType: matcherList(list...), OnNoMatch: chain(chainExternal)}
}

func matcherList(list ...*matcherxds.Matcher_MatcherList_FieldMatcher) *matcherxds.Matcher_MatcherList_ {
	return &matcherxds.Matcher_MatcherList_{MatcherList: &matcherxds.Matcher_MatcherList{Matchers: list}}
}

// ipIn matches connections to one of the prefixes.
func ipIn(prefixes []netip.Prefix, then *matcherxds.Matcher_OnMatch) *matcherxds.Matcher_MatcherList_FieldMatcher {
	set := &ipv3.Ip{StatPrefix: "ip"}
	sorted := slices.Clone(prefixes)
	slices.SortFunc(sorted, netip.Prefix.Compare)
	for _, p := range slices.Compact(sorted) {
		set.CidrRanges = append(set.CidrRanges, cidrRange(p))
	}
	return &matcherxds.Matcher_MatcherList_FieldMatcher{
		Predicate: &matcherxds.Matcher_MatcherList_Predicate{
			MatchType: &matcherxds.Matcher_MatcherList_Predicate_SinglePredicate_{
				SinglePredicate: &matcherxds.Matcher_MatcherList_Predicate_SinglePredicate{
					Input:   input("DestinationIPInput", &inputv3.DestinationIPInput{}),
					Matcher: &matcherxds.Matcher_MatcherList_Predicate_SinglePredicate_CustomMatch{CustomMatch: input("ip", set)},
				},
			},
		},
		OnMatch: then,
	}
}

func nested(m *matcherxds.Matcher) *matcherxds.Matcher_OnMatch {
	return &matcherxds.Matcher_OnMatch{OnMatch: &matcherxds.Matcher_OnMatch_Matcher{Matcher: m}}
}

// chain is a filter chain, by name.
func chain(name string) *matcherxds.Matcher_OnMatch {
	return &matcherxds.Matcher_OnMatch{OnMatch: &matcherxds.Matcher_OnMatch_Action{
		Action: input(name, wrapperspb.String(name)),
	}}
}

func input(name string, m proto.Message) *xdscore.TypedExtensionConfig {
	return &xdscore.TypedExtensionConfig{Name: name, TypedConfig: pack(m)}
}
