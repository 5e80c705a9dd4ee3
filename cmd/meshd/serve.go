package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/meshd-io/meshd/pkg/authn"
	"github.com/meshd-io/meshd/pkg/ca"
	"github.com/meshd-io/meshd/pkg/ca/attest"
	"github.com/meshd-io/meshd/pkg/ca/cav1"
	"github.com/meshd-io/meshd/pkg/ca/service"
	"github.com/meshd-io/meshd/pkg/ca/store"
	"github.com/meshd-io/meshd/pkg/compile"
	"github.com/meshd-io/meshd/pkg/console"
	"github.com/meshd-io/meshd/pkg/crds"
	"github.com/meshd-io/meshd/pkg/identity"
	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/report"
	"github.com/meshd-io/meshd/pkg/telemetry"
	"github.com/meshd-io/meshd/pkg/xds/acks"
	"github.com/meshd-io/meshd/pkg/xds/cache"
	"github.com/meshd-io/meshd/pkg/xds/server"
)

// serveFlags is all of meshd's configuration that is no object.
type serveFlags struct {
	config, stateDir         string
	grpcAddress, httpAddress string
	adminSocket              string
	tokenIssuer, tokenJWKS   string
	cidrs                    []string
	namespace                string
	logLevel                 string
}

func newServeCommand() *cobra.Command {
	var f serveFlags
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "The control plane; with --config from files",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return serve(cmd.Context(), f) },
	}
	fs := cmd.Flags()
	fs.StringVar(&f.config, "config", "", "file or folder of Kubernetes YAML, watched")
	fs.StringVar(&f.stateDir, "state-dir", "/var/lib/meshd", "where the CA's root is kept (0700)")
	fs.StringVar(&f.grpcAddress, "grpc-address", "[::]:15012", "xDS and CA, by TLS")
	fs.StringVar(&f.httpAddress, "http-address", "[::]:15014", "healthz, readyz and metrics, in plaintext")
	fs.StringVar(&f.adminSocket, "admin-socket", DefaultAdminSocket, "Unix socket for the operator's tools")
	fs.StringVar(&f.tokenIssuer, "token-issuer", "", "issuer of the workloads' service-account tokens")
	fs.StringVar(&f.tokenJWKS, "token-jwks", "", "file with the issuer's keys (JWKS)")
	fs.StringSliceVar(&f.cidrs, "cidrs", nil, "CIDRs of services and pods, where MeshConfig does not say")
	fs.StringVar(&f.namespace, "namespace", "meshd-system", "meshd's own namespace")
	fs.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	return cmd
}

// serve wires the stages; see docs/architecture.md for the picture. Nothing
// here decides anything: it starts what there is and stops it in reverse.
func serve(ctx context.Context, f serveFlags) error {
	log, err := telemetry.NewLogger(os.Stderr, f.logLevel)
	if err != nil {
		return err
	}
	if f.config == "" {
		return errors.New("serve: --config DIR is needed: this version reads from files only")
	}
	d, err := newDaemon(f, log)
	if err != nil {
		return err
	}
	return d.run(ctx)
}

// daemon is everything that runs in `meshd serve`.
type daemon struct {
	flags     serveFlags
	log       *slog.Logger
	metrics   *telemetry.Metrics
	source    *crds.FileSource
	authority *ca.Authority
	pipeline  *pipeline
	state     *stater
	grpc      *grpc.Server
	xds       *server.Server
	lifetimes ca.Lifetimes
}

func newDaemon(f serveFlags, log *slog.Logger) (*daemon, error) {
	d := &daemon{flags: f, log: log, metrics: telemetry.New()}
	cidrs, err := prefixes(f.cidrs)
	if err != nil {
		return nil, err
	}
	d.source = crds.NewFileSource(f.config, crds.FileOptions{})
	snapshot, _, err := d.source.Load()
	if err != nil {
		return nil, fmt.Errorf("serve: %w", err)
	}
	first, _ := compile.Compile(snapshot, compile.Config{SystemNamespace: f.namespace, CIDRs: cidrs})
	trustDomain := first.Settings.TrustDomain
	if err := d.openAuthority(trustDomain, snapshot); err != nil {
		return nil, err
	}
	book, published := acks.NewBook(), cache.New()
	d.pipeline = newPipeline(compile.Config{
		Trust: model.Trust{Bundle: d.authority.Bundle()}, TrustDomain: trustDomain, SystemNamespace: f.namespace, CIDRs: cidrs,
	}, published, book, d.metrics, log)
	d.state = &stater{pipeline: d.pipeline, book: book, cache: published, source: d.source, authority: d.authorityStatus}
	xds := server.New(server.Config{
		Cache: published, Keyer: d.pipeline, Demander: d.pipeline,
		Recorder: recorder{book: book, log: log, metrics: d.metrics}, Log: log,
	})
	d.pipeline.rekey, d.xds = xds.Rekey, xds
	return d, d.openGRPC(trustDomain, xds)
}

func (d *daemon) openAuthority(trustDomain string, snapshot *crds.Snapshot) error {
	d.lifetimes = lifetimes(snapshot, ca.DefaultLifetimes())
	authority, err := ca.New(ca.Config{
		TrustDomain: trustDomain, Store: store.File{Dir: d.flags.stateDir}, Lifetimes: d.lifetimes, Log: d.log,
	})
	if err != nil {
		return fmt.Errorf("certificate authority: %w", err)
	}
	d.authority = authority
	// What workloads trust meshd by: not secret, and needed by whoever distributes it.
	anchor := filepath.Join(d.flags.stateDir, "root.crt")
	if err := os.WriteFile(anchor, []byte(authority.Bundle()), 0o644); err != nil { // certificates are public
		return fmt.Errorf("trust anchor: %w", err)
	}
	return nil
}

// openGRPC puts xDS and the CA behind one authentication layer.
func (d *daemon) openGRPC(trustDomain string, xds *server.Server) error {
	self, err := identity.New(trustDomain, d.flags.namespace, "meshd")
	if err != nil {
		return fmt.Errorf("own identity: %w", err)
	}
	config, err := d.authority.ServerTLS(self)
	if err != nil {
		return err
	}
	rules := authn.Rules{}
	xds.Register(certificateOnly(rules))
	ac := authn.Config{TrustDomain: trustDomain, Rules: rules, Log: d.log}
	if d.flags.tokenIssuer != "" {
		verifier, err := attest.New(attest.Config{
			TrustDomain: trustDomain, Issuer: d.flags.tokenIssuer, Keys: attest.NewFile(d.flags.tokenJWKS, d.log), Pods: d.pipeline,
		})
		if err != nil {
			return err
		}
		ac.Attestor = verifier
		rules[cav1.CertificateService_Sign_FullMethodName] = authn.Token
	}
	layer, err := authn.New(ac)
	if err != nil {
		return err
	}
	options := append(server.Options(server.Transport{}),
		grpc.Creds(credentials.NewTLS(config)),
		grpc.ChainUnaryInterceptor(layer.Unary()), grpc.ChainStreamInterceptor(layer.Stream()))
	d.grpc = grpc.NewServer(options...)
	xds.Register(d.grpc)
	if ac.Attestor != nil {
		cav1.RegisterCertificateServiceServer(d.grpc, service.New(service.Config{Signer: countingSigner{d.authority, d.metrics}, Log: d.log}))
	}
	return nil
}

// certificateOnly notes the methods of services that are for mesh certificates only.
type certificateOnly authn.Rules

// RegisterService implements grpc.ServiceRegistrar.
func (r certificateOnly) RegisterService(desc *grpc.ServiceDesc, _ any) {
	for _, m := range desc.Methods {
		r["/"+desc.ServiceName+"/"+m.MethodName] = authn.Certificate
	}
	for _, s := range desc.Streams {
		r["/"+desc.ServiceName+"/"+s.StreamName] = authn.Certificate
	}
}

// run starts everything, and stops it in reverse when ctx ends or a part fails.
func (d *daemon) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	listen := net.ListenConfig{}
	grpcListener, err := listen.Listen(ctx, "tcp", d.flags.grpcAddress)
	if err != nil {
		return err
	}
	httpListener, err := listen.Listen(ctx, "tcp", d.flags.httpAddress)
	if err != nil {
		return err
	}
	adminListener, err := listenAdmin(ctx, d.flags.adminSocket)
	if err != nil {
		return err
	}
	web := &http.Server{Handler: d.webHandler(), ReadHeaderTimeout: 10 * time.Second}
	admin := &http.Server{Handler: console.Handler(d.state), ReadHeaderTimeout: 10 * time.Second}

	var group sync.WaitGroup
	failed := make(chan error, 8)
	start := func(what string, work func() error) {
		group.Go(func() {
			if err := work(); err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, grpc.ErrServerStopped) && ctx.Err() == nil {
				failed <- fmt.Errorf("%s: %w", what, err)
			}
		})
	}
	start("pipeline", func() error { d.pipeline.Run(ctx); return nil })
	start("source", func() error { return d.source.Run(ctx, d.take) })
	start("certificate authority", func() error { return d.authority.Run(ctx) })
	start("grpc", func() error { return d.grpc.Serve(grpcListener) })
	start("http", func() error { return web.Serve(httpListener) })
	start("admin", func() error { return admin.Serve(adminListener) })
	d.log.Info("meshd serves", "grpc", grpcListener.Addr().String(), "http", httpListener.Addr().String(), "config", d.flags.config)

	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	cancel()
	d.grpc.Stop()
	d.xds.Close()
	err = errors.Join(err, web.Close(), admin.Close())
	group.Wait()
	return err
}

// take is where snapshots come in.
func (d *daemon) take(snapshot *crds.Snapshot, findings []report.Finding) {
	if next := lifetimes(snapshot, d.lifetimes); next != d.lifetimes {
		if err := d.authority.SetLifetimes(next); err != nil {
			findings = append(findings, report.Finding{
				Object: report.Object{Kind: "CertificateAuthority", Name: "default"}, Condition: report.Accepted,
				Reason: report.Invalid, Field: "spec.lifetimes", Message: err.Error() + "; the former lifetimes stay in force",
			})
		} else {
			d.lifetimes = next
			d.log.Info("lifetimes changed", "root", next.Root, "issuer", next.Issuer, "leaf", next.Leaf)
		}
	}
	d.pipeline.Offer(snapshot, findings)
}

func (d *daemon) webHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", d.metrics.Handler())
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if d.pipeline.mesh.Load() == nil {
			http.Error(w, "the sources have not synced", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	return mux
}

// listenAdmin takes over the socket of a meshd that is gone.
func listenAdmin(ctx context.Context, path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("admin socket: %w", err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("admin socket: %w", err)
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("admin socket: %w", err)
	}
	return l, os.Chmod(path, 0o600)
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
