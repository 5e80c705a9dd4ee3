package authn

import (
	"context"
	"time"

	"github.com/meshd-io/meshd/pkg/identity"
)

// Peer is what a caller has proven.
type Peer struct {
	Identity identity.ID
	// NotAfter of the certificate or token that proved it.
	NotAfter time.Time
	// Pod and PodUID are bound into a token; "" with a certificate.
	Pod, PodUID string
}

type peerKey struct{}

// WithPeer gives a context that carries the proven peer.
func WithPeer(ctx context.Context, p Peer) context.Context {
	return context.WithValue(ctx, peerKey{}, p)
}

// FromContext is the proven peer of a call; ok is false where nothing was proven.
func FromContext(ctx context.Context) (p Peer, ok bool) {
	p, ok = ctx.Value(peerKey{}).(Peer)
	return p, ok
}
