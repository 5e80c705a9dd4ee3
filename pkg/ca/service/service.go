// Package service is the CA's door: the gRPC service meshd.ca.v1. It takes the
// identity from the authentication layer, never from the request.
package service

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"runtime"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/meshd-io/meshd/pkg/authn"
	"github.com/meshd-io/meshd/pkg/ca"
	"github.com/meshd-io/meshd/pkg/ca/cav1"
	"github.com/meshd-io/meshd/pkg/ca/refusal"
	"github.com/meshd-io/meshd/pkg/identity"
)

// Signer issues certificates; *ca.Authority is one.
type Signer interface {
	Sign(id identity.ID, csr []byte, ttl time.Duration) (ca.Issued, error)
}

// Config of a Server.
type Config struct {
	Signer Signer
	// Concurrency bounds how many requests are signed at once; 0 is the number of CPUs.
	Concurrency int
	// Queue bounds how many more may wait; 0 is 256. Beyond it callers are told to come again.
	Queue int
	// Log of all that was signed and refused; nil is slog.Default.
	Log *slog.Logger
}

const defaultQueue = 256

// Server implements cav1.CertificateServiceServer.
type Server struct {
	cav1.UnimplementedCertificateServiceServer
	signer Signer
	log    *slog.Logger
	// admitted counts those that sign or wait, signing those that sign.
	admitted, signing chan struct{}
}

// New gives a server. It must stand behind authn's interceptors.
func New(cfg Config) *Server {
	if cfg.Concurrency <= 0 {
		cfg.Concurrency = runtime.GOMAXPROCS(0)
	}
	if cfg.Queue <= 0 {
		cfg.Queue = defaultQueue
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	return &Server{
		signer: cfg.Signer, log: cfg.Log,
		admitted: make(chan struct{}, cfg.Concurrency+cfg.Queue),
		signing:  make(chan struct{}, cfg.Concurrency),
	}
}

// Sign issues a certificate to the proven peer.
func (s *Server) Sign(ctx context.Context, req *cav1.SignRequest) (*cav1.SignResponse, error) {
	peer, ok := authn.FromContext(ctx)
	if !ok {
		return nil, s.refuse(ctx, peer, refusal.New(refusal.NoIdentity, "no identity was proven", ""))
	}
	release, err := s.admit(ctx)
	if err != nil {
		return nil, s.refuse(ctx, peer, err)
	}
	defer release()
	ttl, err := wantedTTL(req)
	if err != nil {
		return nil, s.refuse(ctx, peer, err)
	}
	issued, err := s.signer.Sign(peer.Identity, req.GetCsr(), ttl)
	if err != nil {
		return nil, s.refuse(ctx, peer, err)
	}
	leaf := issued.Chain[0]
	s.log.InfoContext(ctx, "certificate signed", "identity", peer.Identity.String(), "pod", peer.Pod,
		"serial", leaf.SerialNumber.Text(16), "notAfter", leaf.NotAfter.UTC())
	return &cav1.SignResponse{
		Chain: raw(issued.Chain), Roots: raw(issued.Roots), NotAfter: timestamppb.New(leaf.NotAfter),
	}, nil
}

// admit bounds the work: signing is CPU, and more at once than CPUs serves nobody sooner.
func (s *Server) admit(ctx context.Context) (release func(), err error) {
	select {
	case s.admitted <- struct{}{}:
	default:
		return nil, refusal.New(refusal.Busy, "too many requests wait", "%d wait or are signed", cap(s.admitted))
	}
	select {
	case s.signing <- struct{}{}:
		return func() { <-s.signing; <-s.admitted }, nil
	case <-ctx.Done():
		<-s.admitted
		return nil, ctx.Err()
	}
}

// wantedTTL is 0 where the caller has no wish.
func wantedTTL(req *cav1.SignRequest) (time.Duration, error) {
	d := req.GetTtl()
	if d == nil {
		return 0, nil
	}
	// AsDuration saturates: what does not fit becomes the largest duration, and is refused as too long.
	ttl := d.AsDuration()
	if err := d.CheckValid(); err != nil || ttl <= 0 {
		return 0, refusal.New(refusal.Lifetime, "the wanted lifetime is not a positive duration", "%s", ttl)
	}
	return ttl, nil
}

// refuse writes the audit line and gives the error for the wire.
func (s *Server) refuse(ctx context.Context, peer authn.Peer, err error) error {
	var r *refusal.Error
	switch {
	case errors.As(err, &r):
		s.log.WarnContext(ctx, "signing refused", "reason", string(r.Reason), "detail", r.Detail,
			"identity", peer.Identity.String(), "pod", peer.Pod)
		return r.GRPCStatus().Err()
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return status.FromContextError(err).Err()
	}
	s.log.ErrorContext(ctx, "signing failed", "error", err, "identity", peer.Identity.String(), "pod", peer.Pod)
	return status.Error(codes.Internal, "the CA failed; its log says why")
}

func raw(certs []*x509.Certificate) [][]byte {
	out := make([][]byte, len(certs))
	for i, c := range certs {
		out[i] = c.Raw
	}
	return out
}
