package peer

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/meshd-io/meshd/internal/clock"
	"github.com/meshd-io/meshd/pkg/identity"
	"github.com/meshd-io/meshd/pkg/peer/peerv1"
	"github.com/meshd-io/meshd/pkg/report"
	"github.com/meshd-io/meshd/pkg/xds/demand"
)

const (
	maxMessageBytes = 16 << 20
	longestRetry    = 5 * time.Second
)

// Peer is another replica.
type Peer struct {
	// Name of its pod.
	Name string
	// Address of its gRPC server, HOST:PORT.
	Address string
}

// Authority gives meshd's own certificate and what it trusts.
type Authority interface {
	ServerCertificate(identity.ID) (*tls.Certificate, error)
	Roots() []*x509.Certificate
}

// WatcherConfig of a Watcher.
type WatcherConfig struct {
	// Self is the identity of this and of every other replica.
	Self      identity.ID
	Authority Authority
	// Peers are the other replicas that live now.
	Peers func() []Peer
	// Changed gives a channel that is closed when Peers may give something new.
	Changed func() <-chan struct{}
	// Told is called when States gives something new. It must not block.
	Told func()
	// Learn takes what another replica knows to be in use. It must not block.
	Learn func([]demand.Use)
	Log   *slog.Logger
}

// Watcher knows what the other replicas know.
type Watcher struct {
	cfg WatcherConfig

	mu     sync.Mutex
	states map[Peer]State
}

// NewWatcher knows nobody.
func NewWatcher(cfg WatcherConfig) *Watcher {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	return &Watcher{cfg: cfg, states: map[Peer]State{}}
}

// States has one for every live replica, known or not, sorted by name. What a
// replica has told stays while it is only out of reach: of a new generation it
// says nothing, so that nothing is held to be done that is not.
func (w *Watcher) States() []State {
	peers := w.cfg.Peers()
	w.mu.Lock()
	defer w.mu.Unlock()
	out := make([]State, 0, len(peers))
	for _, p := range peers {
		s := w.states[p]
		s.Name = p.Name
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b State) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// Run watches the peers until ctx ends.
func (w *Watcher) Run(ctx context.Context) {
	var group sync.WaitGroup
	defer group.Wait()
	running := map[Peer]context.CancelFunc{}
	for ctx.Err() == nil {
		changed := w.cfg.Changed()
		live := w.cfg.Peers()
		for p, stop := range running {
			if !slices.Contains(live, p) {
				stop()
				delete(running, p)
				w.forget(p)
			}
		}
		for _, p := range live {
			if running[p] == nil {
				one, stop := context.WithCancel(ctx)
				running[p] = stop
				group.Go(func() { w.watch(one, p) })
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
	for p, stop := range running {
		stop()
		w.forget(p)
	}
}

// watch follows one peer until ctx ends.
func (w *Watcher) watch(ctx context.Context, p Peer) {
	log := w.cfg.Log.With("replica", p.Name, "address", p.Address)
	conn, err := grpc.NewClient("passthrough:///"+p.Address,
		grpc.WithTransportCredentials(credentials.NewTLS(w.tls())),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{
			BaseDelay: 200 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: longestRetry}, MinConnectTimeout: longestRetry}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 15 * time.Second, Timeout: 10 * time.Second}),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true), grpc.MaxCallRecvMsgSize(maxMessageBytes)))
	if err != nil {
		log.Error("replica cannot be watched", "error", err)
		return
	}
	defer func() { _ = conn.Close() }()
	client := peerv1.NewPeerServiceClient(conn)
	var group sync.WaitGroup
	defer group.Wait()
	group.Go(func() { again(ctx, log, "reports", func() error { return w.follow(ctx, p, client) }) })
	group.Go(func() { again(ctx, log, "demand", func() error { return w.followDemand(ctx, client) }) })
}

// again calls f, which follows a stream, until ctx ends.
func again(ctx context.Context, log *slog.Logger, what string, f func() error) {
	for ctx.Err() == nil {
		err := f()
		if ctx.Err() != nil {
			return
		}
		wait := longestRetry/10 + rand.N(longestRetry/10)
		if grpcstatus.Code(err) == codes.Unimplemented { // an older meshd, which an upgrade is about to end
			wait = longestRetry
		}
		log.Info("replica does not tell any more; trying again", "what", what, "error", err)
		clock.Pause(ctx, wait)
	}
}

// follow takes in what one stream tells.
func (w *Watcher) follow(ctx context.Context, p Peer, client peerv1.PeerServiceClient) error {
	stream, err := client.Watch(ctx, &peerv1.WatchRequest{})
	if err != nil {
		return err
	}
	objects := map[report.Object]Object{}
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		for _, o := range m.GetObjects() {
			decoded := decodeObject(o)
			objects[decoded.Object] = decoded
		}
		for _, o := range m.GetRemoved() {
			delete(objects, decodeName(o))
		}
		if m.GetComplete() {
			w.set(ctx, p, State{
				Known: true, objects: maps.Clone(objects), Issuers: decodeIssuers(m.GetIssuers()), Proxies: int(m.GetProxies()), Trust: m.GetTrust(),
			})
		}
	}
}

func (w *Watcher) set(ctx context.Context, p Peer, s State) {
	w.mu.Lock()
	if ctx.Err() == nil { // else it has been forgotten
		w.states[p] = s
	}
	w.mu.Unlock()
	w.cfg.Told()
}

// forget is called when the context of p's watch has ended: nothing is set after it.
func (w *Watcher) forget(p Peer) {
	w.mu.Lock()
	delete(w.states, p)
	w.mu.Unlock()
	w.cfg.Told()
}

// tls shows meshd's own certificate and wants to see the same identity.
func (w *Watcher) tls() *tls.Config {
	c := tlsconfig.TLSClientConfig(w, tlsconfig.AuthorizeID(w.cfg.Self.SPIFFE()))
	c.MinVersion = tls.VersionTLS13
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return w.cfg.Authority.ServerCertificate(w.cfg.Self)
	}
	return c
}

// GetX509BundleForTrustDomain implements x509bundle.Source: the mesh's roots as they are now.
func (w *Watcher) GetX509BundleForTrustDomain(td spiffeid.TrustDomain) (*x509bundle.Bundle, error) {
	if td != w.cfg.Self.SPIFFE().TrustDomain() {
		return nil, fmt.Errorf("trust domain %s is not the mesh's", td)
	}
	return x509bundle.FromX509Authorities(td, w.cfg.Authority.Roots()), nil
}
