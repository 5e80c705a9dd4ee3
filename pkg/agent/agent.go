package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"google.golang.org/grpc"

	"github.com/meshd-io/meshd/internal/clock"
)

// socketMode lets every container of the pod use the Workload API, whatever its user.
const socketMode = 0o666

// stopGrace bounds how long the end of the streams may take.
const stopGrace = 2 * time.Second

// Config of an Agent.
type Config struct {
	// Meshd is the gRPC address of meshd (host:port).
	Meshd string
	// MeshdID is the exact SPIFFE ID that meshd must show.
	MeshdID string
	// TrustFile has the trust anchor for meshd in PEM. It may come late and change.
	TrustFile string
	// TokenFile has the service-account token. It may come late and change.
	TokenFile string
	// Socket is the path of the Unix socket to serve on.
	Socket string
	// Clock; nil is the system's.
	Clock clock.Clock
	// Rand gives numbers in [0, 1) for jitter; nil is math/rand.
	Rand func() float64
	// Log; nil is slog.Default.
	Log *slog.Logger
}

// Agent is one workload's agent.
type Agent struct {
	cfg   Config
	board *board
	meshd *meshd

	// complaint is the last failure that was logged, by renew's goroutine alone.
	complaint    string
	complainedAt time.Time
}

// New checks the configuration. Nothing is contacted before Run.
func New(cfg Config) (*Agent, error) {
	if cfg.Meshd == "" || cfg.TrustFile == "" || cfg.TokenFile == "" || cfg.Socket == "" {
		return nil, errors.New("meshd's address, trust file, token file and socket are needed")
	}
	if cfg.Clock == nil {
		cfg.Clock = clock.System{}
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Float64
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	m, err := newMeshd(cfg)
	if err != nil {
		return nil, err
	}
	return &Agent{cfg: cfg, board: newBoard(), meshd: m}, nil
}

// Run serves until ctx ends. It serves before the first certificate is there:
// clients wait for it on their streams.
func (a *Agent) Run(ctx context.Context) error {
	lis, err := listen(ctx, a.cfg.Socket)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	srv := grpc.NewServer(
		grpc.ReadBufferSize(0), grpc.WriteBufferSize(4<<10), grpc.MaxConcurrentStreams(64),
		grpc.InitialWindowSize(64<<10), grpc.InitialConnWindowSize(64<<10),
		grpc.UnaryInterceptor(workloadUnary), grpc.StreamInterceptor(workloadStream),
	)
	(&sds{board: a.board, log: a.cfg.Log, stop: ctx.Done()}).register(srv)
	workload.RegisterSpiffeWorkloadAPIServer(srv, &workloadAPI{board: a.board, stop: ctx.Done()})

	var loops sync.WaitGroup
	loops.Go(func() {
		defer a.meshd.close()
		a.renew(ctx)
	})
	loops.Go(func() { a.watchAnchor(ctx) })
	loops.Go(func() {
		<-ctx.Done()
		// The streams end with ctx; only a client that does not read can hold one up.
		timer := time.AfterFunc(stopGrace, srv.Stop)
		defer timer.Stop()
		srv.GracefulStop()
	})
	a.cfg.Log.Info("serving", "socket", a.cfg.Socket, "meshd", a.cfg.Meshd)
	err = srv.Serve(lis)
	if errors.Is(err, grpc.ErrServerStopped) { // before it began
		err = nil
	}
	cancel()
	loops.Wait()
	return err
}

// listen takes over a socket that a killed agent has left.
func listen(ctx context.Context, path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("socket: %w", err)
	}
	lis, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	if err := os.Chmod(path, socketMode); err != nil {
		return nil, errors.Join(fmt.Errorf("socket: %w", err), lis.Close())
	}
	return lis, nil
}
