package envoy

import (
	"slices"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/report"
)

const (
	// clientHeaders and clientIdle bound what strangers may hold open.
	clientHeaders = 30 * time.Second
	clientIdle    = time.Hour
	clientHello   = 10 * time.Second
)

// gateway is a proxy at the border. Without listeners it has nothing to do.
func (t *translation) gateway() {
	g := t.view.Gateway
	if g == nil {
		return
	}
	secrets := map[model.Name]bool{}
	for _, l := range g.Listeners {
		t.gatewayListener(g, l)
		for _, c := range l.Certificates {
			if !secrets[c.Name] {
				secrets[c.Name] = true
				t.put(SecretType, CertificateSecret(c.Name), certificate(c), []report.Origin{c.Origin}, c.Users)
			}
		}
	}
}

func (t *translation) gatewayListener(g *model.Gateway, l model.GatewayListener) {
	name := gatewayName(l.Port)
	routes, origins := t.gatewayRoutes(l)
	t.put(RouteType, name, routes, origins)
	out := &listenerv3.Listener{
		Name: name, Address: anyAddress(l.Port), TrafficDirection: corev3.TrafficDirection_INBOUND,
	}
	hcm := []*listenerv3.Filter{t.gatewayHTTP(l)}
	origins = slices.Clone(g.Origins)
	if !l.TLS {
		out.FilterChains = []*listenerv3.FilterChain{{Name: name, Filters: hcm}}
		t.put(ListenerType, name, out, origins)
		return
	}
	out.ListenerFilters = []*listenerv3.ListenerFilter{tlsInspector()}
	out.ListenerFiltersTimeout = seconds(clientHello)
	taken := map[string]model.Name{}
	for _, c := range l.Certificates {
		origins = append(origins, c.Origin)
		t.certificateChain(out, c, hcm, taken)
	}
	if len(out.FilterChains) == 0 && out.DefaultFilterChain == nil {
		return // no certificate that is whole: nobody gets a handshake
	}
	t.put(ListenerType, name, out, origins)
}

// certificateChain serves a certificate to those who ask for its hosts. A host
// that an earlier certificate has is left to it: two chains with one name
// would have Envoy refuse the whole listener.
func (t *translation) certificateChain(l *listenerv3.Listener, c model.GatewayCertificate, hcm []*listenerv3.Filter, taken map[string]model.Name) {
	chain := &listenerv3.FilterChain{
		Name: CertificateSecret(c.Name), Filters: hcm, TransportSocket: downstreamTLS(c.Name),
	}
	if len(c.Hosts) == 0 {
		if l.DefaultFilterChain == nil {
			l.DefaultFilterChain = chain
		}
		return
	}
	match := &listenerv3.FilterChainMatch{}
	for _, host := range c.Hosts {
		if first, found := taken[host]; found {
			t.findings = append(t.findings, report.Finding{
				Object: c.Origin.Object, Generation: c.Origin.Generation, Condition: report.Accepted, Reason: report.Conflict,
				Message: "host " + host + " is already served with the certificate of Secret " + first.String() + "; remove it from one of them",
			})
			continue
		}
		taken[host] = c.Name
		match.ServerNames = append(match.ServerNames, host)
	}
	if len(match.ServerNames) > 0 {
		chain.FilterChainMatch = match
		l.FilterChains = append(l.FilterChains, chain)
	}
}

func downstreamTLS(secret model.Name) *corev3.TransportSocket {
	return tlsSocket(&tlsv3.DownstreamTlsContext{CommonTlsContext: &tlsv3.CommonTlsContext{
		TlsParams:     &tlsv3.TlsParameters{TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_2},
		AlpnProtocols: []string{"h2", "http/1.1"},
		TlsCertificateSdsSecretConfigs: []*tlsv3.SdsSecretConfig{{
			Name: CertificateSecret(secret), SdsConfig: adsSource(listenerSecretWait),
		}},
	}})
}

func certificate(c model.GatewayCertificate) *tlsv3.Secret {
	return &tlsv3.Secret{Name: CertificateSecret(c.Name), Type: &tlsv3.Secret_TlsCertificate{
		TlsCertificate: &tlsv3.TlsCertificate{CertificateChain: inlineString(c.Chain), PrivateKey: inlineString(c.Key)},
	}}
}

// gatewayHTTP takes the client's address from the connection, and appends it to
// x-forwarded-for, where workloads that trust the gateway find it.
func (t *translation) gatewayHTTP(l model.GatewayListener) *listenerv3.Filter {
	hcm := t.passingHTTP(gatewayName(l.Port))
	hcm.UseRemoteAddress = yes()
	hcm.AccessLog = t.httpSourceLog()
	hcm.StreamIdleTimeout = seconds(clientIdle)
	hcm.RequestHeadersTimeout = seconds(clientHeaders)
	hcm.ForwardClientCertDetails = hcmv3.HttpConnectionManager_SANITIZE
	normalise(hcm, false)
	hcm.HttpFilters = []*hcmv3.HttpFilter{routerFilter()}
	hcm.RouteSpecifier = &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{
		ConfigSource: adsSource(0), RouteConfigName: gatewayName(l.Port),
	}}
	return networkFilter(hcmName, hcm)
}

// gatewayRoutes answer 404 where no host or path matches.
func (t *translation) gatewayRoutes(l model.GatewayListener) (*routev3.RouteConfiguration, []report.Origin) {
	out := &routev3.RouteConfiguration{Name: gatewayName(l.Port), IgnorePortInHostMatching: true}
	var origins []report.Origin
	for _, h := range l.Hosts {
		routes := t.routes(h.Routes)
		if h.OneLabel {
			routes = append(ofAuthority(h.Host, false, routes), ofAuthority(h.Host, true, t.otherwise(l.Hosts))...)
		}
		out.VirtualHosts = append(out.VirtualHosts, &routev3.VirtualHost{Name: h.Host, Domains: []string{h.Host}, Routes: routes})
		origins = append(origins, routeOrigins(h.Routes)...)
	}
	return out, origins
}

// otherwise are the routes of names that no other host covers.
func (t *translation) otherwise(hosts []model.VirtualHost) []*routev3.Route {
	for _, h := range hosts {
		if h.Host == "*" {
			return t.routes(h.Routes)
		}
	}
	return nil
}

// ofAuthority narrows routes to names with exactly one label in place of a
// "*", or with any number of them but one: Envoy's own "*" covers both.
func ofAuthority(host string, other bool, routes []*routev3.Route) []*routev3.Route {
	for _, r := range routes {
		r.Match.Headers = append(r.Match.Headers, &routev3.HeaderMatcher{
			Name: ":authority", InvertMatch: other, HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{
				StringMatch: fully(`(?i)[^.]+` + quoted(strings.TrimPrefix(host, "*")) + `(?::[0-9]+)?`),
			},
		})
	}
	return routes
}
