package peer

import (
	"context"
	"log/slog"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/meshd-io/meshd/internal/clock"
	"github.com/meshd-io/meshd/pkg/authn"
	"github.com/meshd-io/meshd/pkg/identity"
	"github.com/meshd-io/meshd/pkg/peer/peerv1"
	"github.com/meshd-io/meshd/pkg/report"
	"github.com/meshd-io/meshd/pkg/status"
)

// chunk is how many objects one message carries at the most.
const chunk = 500

// ServerConfig of a Server.
type ServerConfig struct {
	// Self is meshd's own identity: nobody else is told anything.
	Self identity.ID
	// Report is what this replica knows; ok is false while it knows nothing for certain.
	Report func() (r Report, ok bool)
	// Changed gives a channel that is closed when Report may give something new.
	Changed func() <-chan struct{}
	// Demand is what this replica knows to be in use.
	Demand Demand
	Log    *slog.Logger
}

// Server tells the other replicas. Its methods are for callers with a certificate of the mesh
// (authn.Certificate), of whom it lets in meshd itself.
type Server struct {
	peerv1.UnimplementedPeerServiceServer
	cfg ServerConfig
}

// NewServer makes a Server.
func NewServer(cfg ServerConfig) *Server {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	return &Server{cfg: cfg}
}

// Register adds the service to a grpc server.
func (s *Server) Register(to grpc.ServiceRegistrar) { peerv1.RegisterPeerServiceServer(to, s) }

// Watch implements peerv1.PeerServiceServer.
func (s *Server) Watch(_ *peerv1.WatchRequest, stream grpc.ServerStreamingServer[peerv1.WatchResponse]) error {
	ctx := stream.Context()
	if err := s.admit(ctx, peerv1.PeerService_Watch_FullMethodName); err != nil {
		return err
	}
	return s.report(ctx, stream.Send)
}

// report tells what is new until ctx ends; what comes while it pauses is told at once.
func (s *Server) report(ctx context.Context, send func(*peerv1.WatchResponse) error) error {
	t := teller{send: send, sent: map[report.Object]*peerv1.ObjectProgress{}}
	var pace status.Pace
	for {
		changed, began := s.cfg.Changed(), time.Now()
		r, ok := s.cfg.Report()
		told := false
		if ok {
			var err error
			if told, err = t.tell(r); err != nil {
				return err
			}
		}
		if !clock.Pause(ctx, time.Until(pace.Next(began, told || !ok))) {
			return ctx.Err()
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// admit lets meshd itself in.
func (s *Server) admit(ctx context.Context, method string) error {
	caller, ok := authn.FromContext(ctx)
	if !ok || caller.Identity != s.cfg.Self {
		s.cfg.Log.WarnContext(ctx, "call refused", "method", method, "identity", caller.Identity.String())
		return grpcstatus.Error(codes.PermissionDenied, "this is for meshd itself")
	}
	return nil
}

// teller knows what one stream has been told.
type teller struct {
	send func(*peerv1.WatchResponse) error
	sent map[report.Object]*peerv1.ObjectProgress
	// last is the newest complete message without its objects; nil before the first.
	last *peerv1.WatchResponse
}

// tell sends what is new, in chunks; told is false if there is nothing.
func (t *teller) tell(r Report) (told bool, err error) {
	there := make(map[report.Object]bool, len(r.Objects))
	next := &peerv1.WatchResponse{}
	for _, o := range r.Objects {
		there[o.Object] = true
		now := encodeObject(o)
		if proto.Equal(t.sent[o.Object], now) {
			continue
		}
		t.sent[o.Object] = now
		if len(next.Objects) == chunk {
			if err := t.send(next); err != nil {
				return true, err
			}
			next = &peerv1.WatchResponse{}
		}
		next.Objects = append(next.Objects, now)
	}
	for o := range t.sent {
		if !there[o] {
			delete(t.sent, o)
			next.Removed = append(next.Removed, encodeName(o))
		}
	}
	last := &peerv1.WatchResponse{Issuers: encodeIssuers(r.Issuers), Proxies: int32(r.Proxies), Trust: r.Trust, Complete: true} // a count
	if len(next.Objects)+len(next.Removed) == 0 && proto.Equal(last, t.last) {
		return false, nil
	}
	t.last = last
	next.Issuers, next.Proxies, next.Trust, next.Complete = last.Issuers, last.Proxies, last.Trust, true
	return true, t.send(next)
}
