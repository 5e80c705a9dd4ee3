package envoy

import (
	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	statev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/set_filter_state/v3"
	httpstatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/set_filter_state/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	earlyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/early_header_mutation/header_mutation/v3"
)

const (
	// untrustedHeaders would steer the proxy (retries, timeouts, hedging) if a client sent them.
	untrustedHeaders = "x-envoy-"
	// ownHeaders are meshd's.
	ownHeaders = "x-meshd-"
)

// passingHTTP is what all connection managers have in common: what passes is
// left as it is, as far as Envoy can, and clients cannot steer the proxy.
func (t *translation) passingHTTP(stat string, mutations ...*mutationv3.HeaderMutation) *hcmv3.HttpConnectionManager {
	mutations = append([]*mutationv3.HeaderMutation{removeHeaders(untrustedHeaders), removeHeaders(ownHeaders)}, mutations...)
	return &hcmv3.HttpConnectionManager{
		StatPrefix: stat,
		CodecType:  hcmv3.HttpConnectionManager_AUTO,
		EarlyHeaderMutationExtensions: []*corev3.TypedExtensionConfig{
			extension("envoy.http.early_header_mutation.header_mutation", &earlyv3.HeaderMutation{Mutations: mutations}),
		},
		HttpProtocolOptions:        &corev3.Http1ProtocolOptions{AcceptHttp_10: true},
		Http2ProtocolOptions:       http2Options(),
		UpgradeConfigs:             []*hcmv3.HttpConnectionManager_UpgradeConfig{{UpgradeType: "websocket"}},
		GenerateRequestId:          no(),
		PreserveExternalRequestId:  true,
		ServerHeaderTransformation: hcmv3.HttpConnectionManager_PASS_THROUGH,
		StreamIdleTimeout:          seconds(0),
	}
}

// outboundHTTP finds a request's routes by the address that its connection was
// going to. The application cannot write that header: it is overwritten always.
func (t *translation) outboundHTTP() *listenerv3.Filter {
	hcm := t.passingHTTP("out", setHeader(destinationHeader, "%DOWNSTREAM_LOCAL_ADDRESS%"))
	hcm.AccessLog = t.httpSourceLog()
	hcm.HttpFilters = []*hcmv3.HttpFilter{sayProtocol(), routerFilter()}
	hcm.RouteSpecifier = &hcmv3.HttpConnectionManager_ScopedRoutes{ScopedRoutes: &hcmv3.ScopedRoutes{
		Name: scopesName,
		ScopeKeyBuilder: &hcmv3.ScopedRoutes_ScopeKeyBuilder{Fragments: []*hcmv3.ScopedRoutes_ScopeKeyBuilder_FragmentBuilder{{
			Type: &hcmv3.ScopedRoutes_ScopeKeyBuilder_FragmentBuilder_HeaderValueExtractor_{
				HeaderValueExtractor: &hcmv3.ScopedRoutes_ScopeKeyBuilder_FragmentBuilder_HeaderValueExtractor{
					Name:        destinationHeader,
					ExtractType: &hcmv3.ScopedRoutes_ScopeKeyBuilder_FragmentBuilder_HeaderValueExtractor_Index{Index: 0},
				},
			},
		}}},
		RdsConfigSource: adsSource(0),
		ConfigSpecifier: &hcmv3.ScopedRoutes_ScopedRds{ScopedRds: &hcmv3.ScopedRds{ScopedRdsConfigSource: adsSource(0)}},
	}}
	return networkFilter(hcmName, hcm)
}

// sayProtocol tells the receiver by ALPN what a request's connection carries.
func sayProtocol() *hcmv3.HttpFilter {
	return httpFilter("meshd.protocol", &httpstatev3.Config{OnRequestHeaders: []*statev3.FilterStateValue{{
		Key:                &statev3.FilterStateValue_ObjectKey{ObjectKey: "envoy.network.application_protocols"},
		Value:              &statev3.FilterStateValue_FormatString{FormatString: inline(alpnPrefix + "%PROTOCOL%")},
		SharedWithUpstream: statev3.FilterStateValue_ONCE,
	}}})
}

// normalise makes every spelling of a path the same before rules see it.
func normalise(hcm *hcmv3.HttpConnectionManager, pathRules bool) {
	hcm.NormalizePath = yes()
	hcm.MergeSlashes = true
	hcm.PathWithEscapedSlashesAction = hcmv3.HttpConnectionManager_KEEP_UNCHANGED
	if pathRules {
		hcm.PathWithEscapedSlashesAction = hcmv3.HttpConnectionManager_REJECT_REQUEST
	}
}

func prefixSlash() *routev3.RouteMatch {
	return &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}}
}
