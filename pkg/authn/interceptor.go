package authn

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/meshd-io/meshd/internal/clock"
	"github.com/meshd-io/meshd/pkg/ca/refusal"
)

// Requirement is what a method wants to see.
type Requirement string

// The requirements.
const (
	// Certificate: an SVID of this trust domain, shown in the TLS handshake.
	Certificate Requirement = "Certificate"
	// Token: a service-account token in the call's metadata; a certificate does not count.
	Token Requirement = "Token"
	// Either: a certificate, or else a token.
	Either Requirement = "Either"
	// None: anybody; the context has no peer.
	None Requirement = "None"
)

// Rules name for each full method ("/package.Service/Method") what it wants. A
// method that is not listed is refused.
type Rules map[string]Requirement

// Attestor proves who a token's bearer is. Its refusals carry a gRPC status
// whose message is safe to send.
type Attestor interface {
	Attest(ctx context.Context, token string) (Peer, error)
}

// Config of an Authenticator.
type Config struct {
	TrustDomain string
	Rules       Rules
	// Attestor may be nil if no rule wants a token.
	Attestor Attestor
	// Clock; nil is the system's.
	Clock clock.Clock
	// Log of refusals; nil is slog.Default.
	Log *slog.Logger
}

// Authenticator gives the interceptors.
type Authenticator struct {
	cfg Config
}

// New checks the rules.
func New(cfg Config) (*Authenticator, error) {
	for method, want := range cfg.Rules {
		switch want {
		case Certificate, None:
		case Token, Either:
			if cfg.Attestor == nil {
				return nil, fmt.Errorf("method %s wants a token, but there is no attestor", method)
			}
		default:
			return nil, fmt.Errorf("method %s has the unknown requirement %q", method, want)
		}
	}
	if cfg.Clock == nil {
		cfg.Clock = clock.System{}
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	return &Authenticator{cfg: cfg}, nil
}

// Unary authenticates each call.
func (a *Authenticator) Unary() grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		ctx, err := a.authenticate(ctx, info.FullMethod)
		if err != nil {
			return nil, err
		}
		return handler(ctx, req)
	}
}

// Stream authenticates each stream when it begins.
func (a *Authenticator) Stream() grpc.StreamServerInterceptor {
	return func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		ctx, err := a.authenticate(ss.Context(), info.FullMethod)
		if err != nil {
			return err
		}
		return handler(srv, &stream{ServerStream: ss, ctx: ctx})
	}
}

// Connection authenticates a stream that is not gRPC's own, by what its
// connection's TLS handshake has shown. Errors carry a gRPC status.
func (a *Authenticator) Connection(method string, from net.Addr, shown *tls.ConnectionState) (Peer, error) {
	p := &peer.Peer{Addr: from}
	if shown != nil {
		p.AuthInfo = credentials.TLSInfo{State: *shown}
	}
	ctx, err := a.authenticate(peer.NewContext(context.Background(), p), method)
	if err != nil {
		return Peer{}, err
	}
	proven, _ := FromContext(ctx)
	return proven, nil
}

// stream carries the context with the peer.
type stream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *stream) Context() context.Context { return s.ctx }

// authenticate gives the context with the proven peer, or the error for the wire.
func (a *Authenticator) authenticate(ctx context.Context, method string) (context.Context, error) {
	p, proven, err := a.prove(ctx, method)
	if err != nil {
		return nil, a.refuse(ctx, method, err)
	}
	if !proven {
		return ctx, nil
	}
	return WithPeer(ctx, p), nil
}

func (a *Authenticator) prove(ctx context.Context, method string) (p Peer, proven bool, err error) {
	switch want := a.cfg.Rules[method]; want {
	case None:
		return Peer{}, false, nil
	case Certificate:
		p, err = a.certificate(ctx)
	case Token:
		p, err = a.token(ctx)
	case Either:
		p, err = a.certificate(ctx)
		if refusal.ReasonOf(err) == refusal.NoCredential {
			p, err = a.token(ctx)
		}
	default:
		err = refusal.New(refusal.MethodNotListed, "nobody may call this method", "")
	}
	return p, err == nil, err
}

// refuse writes the audit line. What is no refusal is meshd's own failure, and its words stay here.
func (a *Authenticator) refuse(ctx context.Context, method string, err error) error {
	from := ""
	if p, ok := peer.FromContext(ctx); ok && p.Addr != nil {
		from = p.Addr.String()
	}
	var r *refusal.Error
	if errors.As(err, &r) {
		a.cfg.Log.WarnContext(ctx, "call refused", "method", method, "from", from,
			"reason", string(r.Reason), "detail", r.Detail)
		return r.GRPCStatus().Err()
	}
	a.cfg.Log.ErrorContext(ctx, "authentication failed", "method", method, "from", from, "error", err)
	return status.Error(codes.Unavailable, "meshd cannot authenticate now; its log says why")
}
