package envoy

import (
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rawv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/raw_buffer/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"

	"github.com/meshd-io/meshd/pkg/model"
)

// The protocols of mesh TLS. The sender says them in ALPN; the receiver has a
// filter chain for each and sniffs nothing.
const (
	alpnPrefix = "meshd-"
	alpnHTTP10 = "meshd-HTTP/1.0"
	alpnHTTP1  = "meshd-HTTP/1.1"
	alpnHTTP2  = "meshd-HTTP/2"
	alpnTCP    = "meshd-tcp"
)

// noIdentity is a URI that no certificate of the mesh can hold: a match on it
// refuses everybody, where an empty list would take everybody.
const noIdentity = "meshd:nobody"

// secretWait is how long new clusters and listeners wait for a secret; a
// missing one must not hold up everything behind it.
const secretWait = 500 * time.Millisecond

// listenerSecretWait is longer: a listener that opens without its secrets
// refuses everybody, and the proxy must not call itself ready before.
const listenerSecretWait = 15 * time.Second

// trustWait is one for everybody who asks ADS for the trust bundle: with
// another it would be another subscription, and a stream asks for a name once,
// so that the second one would stay without an answer.
const trustWait = listenerSecretWait

// tls13 needs both bounds: with the minimum alone every upstream connection fails.
func tls13() *tlsv3.TlsParameters {
	return &tlsv3.TlsParameters{
		TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_3,
		TlsMaximumProtocolVersion: tlsv3.TlsParameters_TLSv1_3,
	}
}

// agentSecret comes from the pod's own agent, by SDS.
func agentSecret(name string, wait time.Duration) *tlsv3.SdsSecretConfig {
	return &tlsv3.SdsSecretConfig{Name: name, SdsConfig: &corev3.ConfigSource{
		ResourceApiVersion:  corev3.ApiVersion_V3,
		InitialFetchTimeout: seconds(wait),
		ConfigSourceSpecifier: &corev3.ConfigSource_ApiConfigSource{
			ApiConfigSource: deltaSource(agentCluster, 100*time.Millisecond, time.Second),
		},
	}}
}

// meshTLS presents the pod's own certificate, checks the peer's against the
// mesh's trust bundle, and that it has one of the identities. nil identities
// are every identity of the bundle; an empty list is none. wait is for the
// pod's own certificate.
func meshTLS(own secretSource, identities []string, wait time.Duration) *tlsv3.CommonTlsContext {
	validation := &tlsv3.CertificateValidationContext{}
	if identities != nil && len(identities) == 0 {
		identities = []string{noIdentity}
	}
	for _, id := range identities {
		validation.MatchTypedSubjectAltNames = append(validation.MatchTypedSubjectAltNames, uriSAN(exactly(id)))
	}
	return &tlsv3.CommonTlsContext{
		TlsParams:                      tls13(),
		TlsCertificateSdsSecretConfigs: []*tlsv3.SdsSecretConfig{own.leaf(wait)},
		ValidationContextType: &tlsv3.CommonTlsContext_CombinedValidationContext{
			CombinedValidationContext: &tlsv3.CommonTlsContext_CombinedCertificateValidationContext{
				DefaultValidationContext: validation,
				ValidationContextSdsSecretConfig: &tlsv3.SdsSecretConfig{
					Name: TrustSecret, SdsConfig: adsSource(trustWait),
				},
			},
		},
	}
}

func upstreamMeshTLS(own secretSource, identities []string, alpn ...string) *corev3.TransportSocket {
	if identities == nil {
		identities = []string{}
	}
	common := meshTLS(own, identities, secretWait)
	common.AlpnProtocols = alpn
	return tlsSocket(&tlsv3.UpstreamTlsContext{CommonTlsContext: common})
}

// downstreamMeshTLS takes no resumed sessions: their certificate was not
// checked by this handshake, and RBAC would not see an authenticated peer.
func downstreamMeshTLS(own secretSource, trust string, alpn []string) *corev3.TransportSocket {
	common := meshTLS(own, nil, listenerSecretWait)
	common.GetCombinedValidationContext().ValidationContextSdsSecretConfig.Name = trust
	common.AlpnProtocols = alpn
	return tlsSocket(&tlsv3.DownstreamTlsContext{
		CommonTlsContext:         common,
		RequireClientCertificate: yes(),
		SessionTicketKeysType: &tlsv3.DownstreamTlsContext_DisableStatelessSessionResumption{
			DisableStatelessSessionResumption: true,
		},
		DisableStatefulSessionResumption: true,
	})
}

func uriSAN(m *matcherv3.StringMatcher) *tlsv3.SubjectAltNameMatcher {
	return &tlsv3.SubjectAltNameMatcher{SanType: tlsv3.SubjectAltNameMatcher_URI, Matcher: m}
}

func tlsSocket(context proto.Message) *corev3.TransportSocket {
	return &corev3.TransportSocket{
		Name:       "envoy.transport_sockets.tls",
		ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: pack(context)},
	}
}

func rawSocket() *corev3.TransportSocket {
	return &corev3.TransportSocket{
		Name:       "envoy.transport_sockets.raw_buffer",
		ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: pack(&rawv3.RawBuffer{})},
	}
}

// trustSecret is the trust bundle for traffic between workloads.
func trustSecret(t model.Trust) *tlsv3.Secret { return namedTrust(TrustSecret, t, nil) }

// namedTrust takes certificates of the bundle that have one of the names; no names = any.
func namedTrust(secret string, t model.Trust, names []*matcherv3.StringMatcher) *tlsv3.Secret {
	validation := &tlsv3.CertificateValidationContext{TrustedCa: inlineString(t.Bundle)}
	for _, n := range names {
		validation.MatchTypedSubjectAltNames = append(validation.MatchTypedSubjectAltNames, uriSAN(n))
	}
	return &tlsv3.Secret{Name: secret, Type: &tlsv3.Secret_ValidationContext{ValidationContext: validation}}
}
