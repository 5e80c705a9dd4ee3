package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/meshd-io/meshd/internal/clock"
	"github.com/meshd-io/meshd/pkg/authn"
	"github.com/meshd-io/meshd/pkg/ca"
	"github.com/meshd-io/meshd/pkg/compile"
	"github.com/meshd-io/meshd/pkg/crds"
	"github.com/meshd-io/meshd/pkg/identity"
	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/report"
	"github.com/meshd-io/meshd/pkg/telemetry"
	"github.com/meshd-io/meshd/pkg/xds/acks"
	"github.com/meshd-io/meshd/pkg/xds/cache"
	"github.com/meshd-io/meshd/pkg/xds/server"
	"github.com/meshd-io/meshd/pkg/xds/wire"
)

// serveFlags is all of meshd's configuration that is no object.
type serveFlags struct {
	config, stateDir         string
	grpcAddress, httpAddress string
	adminSocket              string
	tokenIssuer, tokenJWKS   string
	cidrs                    []string
	namespace                string
	trustDomain              string
	logLevel                 string
	cluster                  clusterFlags
}

func newServeCommand() *cobra.Command {
	var f serveFlags
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "The control plane; with --config from files, otherwise from the cluster",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return serve(cmd.Context(), f) },
	}
	fs := cmd.Flags()
	fs.StringVar(&f.config, "config", "", "file or folder of Kubernetes YAML, watched; without it the cluster is")
	fs.StringVar(&f.stateDir, "state-dir", "/var/lib/meshd", "where the CA's root is kept (0700); with --config only")
	fs.StringVar(&f.grpcAddress, "grpc-address", "[::]:15012", "xDS and CA, by TLS")
	fs.StringVar(&f.httpAddress, "http-address", "[::]:15014", "healthz, readyz and metrics, in plaintext")
	fs.StringVar(&f.adminSocket, "admin-socket", DefaultAdminSocket, "Unix socket for the operator's tools")
	fs.StringVar(&f.tokenIssuer, "token-issuer", "", "issuer of the workloads' service-account tokens; with --config only")
	fs.StringVar(&f.tokenJWKS, "token-jwks", "", "file with the issuer's keys (JWKS); with --config only")
	fs.StringSliceVar(&f.cidrs, "cidrs", nil, "CIDRs of services and pods, where MeshConfig does not say")
	fs.StringVar(&f.namespace, "namespace", "meshd-system", "meshd's own namespace")
	fs.StringVar(&f.trustDomain, "trust-domain", "", "the mesh's trust domain; without it, what MeshConfig says when meshd starts")
	fs.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	f.cluster.register(fs)
	return cmd
}

// source is where objects come from: files or a cluster.
type source interface {
	// Load gives the first snapshot, and not before everything is known.
	Load(context.Context) (*crds.Snapshot, []report.Finding, error)
	// Run gives every snapshot until the context ends.
	Run(context.Context, func(*crds.Snapshot, []report.Finding)) error
	rescanner
}

// home is what differs between a meshd that serves from files and one in a cluster.
type home interface {
	// Open gives what the daemon is made from; the trust domain is known from the first snapshot on.
	Open(ctx context.Context, d *daemon, trustDomain string) (ca.Store, authn.Attestor, error)
	// Services are more gRPC services, for callers with a certificate of the mesh.
	Services(d *daemon, self identity.ID) []func(grpc.ServiceRegistrar)
	// Parts are what runs beside the daemon's own parts.
	Parts(ctx context.Context, d *daemon) ([]part, error)
	// Findings are more findings about a snapshot.
	Findings(d *daemon, snapshot *crds.Snapshot) []report.Finding
}

// part is something that runs until its context ends or it fails.
type part struct {
	name string
	run  func(context.Context) error
}

// serve wires the stages; see docs/architecture.md for the picture. Nothing
// here decides anything: it starts what there is and stops it in reverse.
func serve(ctx context.Context, f serveFlags) error {
	log, err := telemetry.NewLogger(os.Stderr, f.logLevel)
	if err != nil {
		return err
	}
	slog.SetDefault(log)
	setCollector()
	// The collector then works harder instead of the kernel ending the process; GOMEMLIMIT in the environment wins.
	if _, err := memlimit.Set(); err != nil {
		log.Info("no memory limit is known", "detail", err)
	}
	d := &daemon{flags: f, log: log, metrics: telemetry.New()}
	if d.cidrs, err = prefixes(f.cidrs); err != nil {
		return err
	}
	if f.config != "" {
		d.home, d.source = files{}, fileSource{crds.NewFileSource(f.config, crds.FileOptions{})}
	} else {
		c, err := newCluster(f, log)
		if err != nil {
			return err
		}
		d.home, d.source = c, c.source
	}
	return d.run(ctx)
}

// daemon is everything that runs in `meshd serve`.
type daemon struct {
	flags     serveFlags
	cidrs     []netip.Prefix
	log       *slog.Logger
	metrics   *telemetry.Metrics
	source    source
	home      home
	authority *ca.Authority
	pipeline  *pipeline
	cache     *cache.Cache
	book      *acks.Book
	state     *stater
	wire      *wire.Server
	grpc      *grpc.Server
	hesitant  *hesitant
	xds       *server.Server
	follows   following

	taking    sync.Mutex
	taken     *crds.Snapshot
	found     []report.Finding
	snapshots broadcast // raised when taken has changed

	// settled waits until every live proxy has acknowledged everything.
	settled func(context.Context) error

	// serving is the pipeline once there is one, until meshd is told to stop.
	serving atomic.Pointer[pipeline]
}

// run starts everything, and stops it in reverse when ctx ends or a part fails.
// Health is served from the first moment on, readiness when the sources have synced.
func (d *daemon) run(ctx context.Context) error {
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g := &group{ctx: work, failed: make(chan error, 1)}
	health, err := d.listenHTTP(ctx)
	if err != nil {
		return err
	}
	g.start(health)
	parts, err := d.open(ctx)
	if err != nil {
		stop()
		g.wait.Wait()
		if ctx.Err() != nil {
			return nil // asked to stop while it still waited
		}
		return err
	}
	d.serving.Store(d.pipeline)
	for _, p := range parts {
		g.start(p)
	}
	select {
	case <-ctx.Done():
		d.serving.Store(nil)
		if d.flags.config == "" { // there may be another replica
			d.drain()
		}
	case err = <-g.failed:
	}
	stop()
	d.stopGRPC()
	d.xds.Close()
	g.wait.Wait()
	return err
}

// group runs parts; the first that fails is told.
type group struct {
	ctx    context.Context
	wait   sync.WaitGroup
	failed chan error
}

func (g *group) start(p part) {
	g.wait.Go(func() {
		if err := p.run(g.ctx); err != nil && g.ctx.Err() == nil {
			select {
			case g.failed <- fmt.Errorf("%s: %w", p.name, err):
			default:
			}
		}
	})
}

// open makes the daemon's parts from the first snapshot on.
func (d *daemon) open(ctx context.Context) ([]part, error) {
	snapshot, _, err := d.source.Load(ctx)
	if err != nil {
		return nil, fmt.Errorf("serve: %w", err)
	}
	trustDomain := compile.Settings(snapshot, compile.Config{TrustDomain: d.flags.trustDomain}).TrustDomain
	store, attestor, err := d.home.Open(ctx, d, trustDomain)
	if err != nil {
		return nil, err
	}
	if err := d.openAuthority(snapshot, trustDomain, store); err != nil {
		return nil, err
	}
	d.book, d.cache = acks.NewBook(), cache.New()
	d.pipeline = newPipeline(compile.Config{TrustDomain: trustDomain, SystemNamespace: d.flags.namespace, CIDRs: d.cidrs},
		d.cache, d.book, d.metrics, d.log)
	d.settled = d.pipeline.Settled
	d.state = &stater{pipeline: d.pipeline, book: d.book, cache: d.cache, source: d.source, authority: d.authorityStatus}
	d.hesitant = newHesitant(d.pipeline, d.pipeline.mesh.Load, d.pipeline.Changed, clock.System{})
	d.xds = server.New(server.Config{
		Cache: d.cache, Keyer: d.pipeline, Demander: d.hesitant,
		Recorder: newRecorder(d.book, d.log, d.metrics), Log: d.log,
	})
	d.pipeline.proxies = d.xds
	if err := d.openGRPC(trustDomain, attestor, d.home.Services); err != nil {
		return nil, err
	}
	more, err := d.home.Parts(ctx, d)
	if err != nil {
		return nil, err
	}
	return d.parts(ctx, more)
}

// parts are what every daemon runs, and what its home adds.
func (d *daemon) parts(ctx context.Context, more []part) ([]part, error) {
	listener, err := d.listenGRPC(ctx)
	if err != nil {
		return nil, err
	}
	admin, err := d.listenAdmin(ctx)
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	d.log.Info("meshd serves", "grpc", listener.Addr().String(), "config", d.flags.config)
	return append([]part{
		{"pipeline", func(ctx context.Context) error { d.pipeline.Run(ctx); return nil }},
		{"unknown destinations", func(ctx context.Context) error { d.hesitant.Run(ctx); return nil }},
		{"source", func(ctx context.Context) error { return d.source.Run(ctx, d.take) }},
		{"certificate authority", d.authority.Run},
		{"trust", d.spreadTrust},
		{"grpc", func(context.Context) error { return d.serveGRPC(listener) }}, // run ends it
		admin,
		{"memory", giveBack},
	}, more...), nil
}

// take is where snapshots come in. Proxies come before everybody else who waits for one.
func (d *daemon) take(snapshot *crds.Snapshot, findings []report.Finding) {
	d.taking.Lock()
	d.taken, d.found = snapshot, findings
	d.offer()
	d.taking.Unlock()
	d.pipeline.Work()
	d.snapshots.raise()
}

// offer gives the pipeline what there is. d.taking is held.
func (d *daemon) offer() {
	found := slices.Concat(d.found, d.followAuthority(d.taken), d.home.Findings(d, d.taken))
	d.pipeline.Offer(input{snapshot: d.taken, findings: found, trust: model.Trust{Bundle: d.authority.Bundle(), Origin: d.follows.settings.Origin}})
}

// snapshot is the newest; nil before there is one.
func (d *daemon) snapshot() *crds.Snapshot {
	d.taking.Lock()
	defer d.taking.Unlock()
	return d.taken
}

func prefixes(texts []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, text := range texts {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("--cidrs: %w", err)
		}
		out = append(out, p.Masked())
	}
	return out, nil
}
