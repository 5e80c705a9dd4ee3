package authn

import (
	"context"
	"strings"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/meshd-io/meshd/pkg/ca/refusal"
	"github.com/meshd-io/meshd/pkg/identity"
)

const bearer = "Bearer "

// certificate reads the peer of a chain that the handshake has verified. Only
// its expiry is judged again: the connection may be older than the certificate's end.
func (a *Authenticator) certificate(ctx context.Context) (Peer, error) {
	none := refusal.New(refusal.NoCredential, "a certificate of the mesh is needed", "")
	p, ok := peer.FromContext(ctx)
	if !ok {
		return Peer{}, none
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.PeerCertificates) == 0 {
		return Peer{}, none
	}
	if len(info.State.VerifiedChains) == 0 || len(info.State.VerifiedChains[0]) == 0 {
		return Peer{}, refusal.New(refusal.CertificateInvalid, "the certificate is not verified", "")
	}
	leaf := info.State.VerifiedChains[0][0]
	if len(leaf.URIs) != 1 {
		return Peer{}, refusal.New(refusal.CertificateInvalid, "the certificate has no single SPIFFE ID", "%d URIs", len(leaf.URIs))
	}
	id, err := identity.Parse(leaf.URIs[0].String())
	if err != nil {
		return Peer{}, refusal.New(refusal.CertificateInvalid, "the certificate's SPIFFE ID is not a service account's", "%v", err)
	}
	if id.TrustDomain() != a.cfg.TrustDomain {
		return Peer{}, refusal.New(refusal.ForeignTrustDomain, "the certificate is of another trust domain", "%s", id)
	}
	if !a.cfg.Clock.Now().Before(leaf.NotAfter) {
		return Peer{}, refusal.New(refusal.CertificateExpired, "the certificate has expired; connect again",
			"%s at %s", id, leaf.NotAfter.UTC())
	}
	return Peer{Identity: id, NotAfter: leaf.NotAfter}, nil
}

// token wants exactly one "authorization: Bearer TOKEN".
func (a *Authenticator) token(ctx context.Context) (Peer, error) {
	values := metadata.ValueFromIncomingContext(ctx, "authorization")
	switch {
	case len(values) == 0:
		return Peer{}, refusal.New(refusal.NoCredential, "a service-account token is needed", "")
	case len(values) > 1:
		return Peer{}, refusal.New(refusal.TokenMalformed, "more than one token", "%d", len(values))
	}
	token, ok := strings.CutPrefix(values[0], bearer)
	if !ok {
		return Peer{}, refusal.New(refusal.TokenMalformed, "the authorization is not a bearer token", "")
	}
	p, err := a.cfg.Attestor.Attest(ctx, token)
	if err != nil {
		return Peer{}, err
	}
	if p.Identity.TrustDomain() != a.cfg.TrustDomain {
		return Peer{}, refusal.New(refusal.ForeignTrustDomain, "the token is of another trust domain", "%s", p.Identity)
	}
	return p, nil
}
