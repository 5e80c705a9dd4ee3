package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/meshd-io/meshd/pkg/console"
)

// serveHTTP runs a server until ctx ends.
func serveHTTP(name string, l net.Listener, s *http.Server) part {
	s.ReadHeaderTimeout = 10 * time.Second
	return part{name, func(ctx context.Context) error {
		defer context.AfterFunc(ctx, func() { _ = s.Close() })()
		serve := s.Serve
		if s.TLSConfig != nil {
			serve = func(l net.Listener) error { return s.ServeTLS(l, "", "") }
		}
		if err := serve(l); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	}}
}

// listenHTTP is health and metrics.
func (d *daemon) listenHTTP(ctx context.Context) (part, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", d.flags.httpAddress)
	if err != nil {
		return part{}, err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", d.metrics.Handler())
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if p := d.serving.Load(); p == nil || p.mesh.Load() == nil {
			http.Error(w, "the sources have not synced, or meshd stops", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
		if absent := d.absent(); len(absent) > 0 {
			fmt.Fprintln(w, "left out, since the cluster does not know them:", strings.Join(absent, ", "))
		}
	})
	return serveHTTP("http", l, &http.Server{Handler: mux}), nil
}

// absent are the kinds that the source knows nothing of.
func (d *daemon) absent() []string {
	if s, ok := d.source.(interface{ Absent() []string }); ok {
		return s.Absent()
	}
	return nil
}

// listenAdmin is for the operator's tools; it takes over the socket of a meshd that is gone.
func (d *daemon) listenAdmin(ctx context.Context) (part, error) {
	path := d.flags.adminSocket
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return part{}, fmt.Errorf("admin socket: %w", err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return part{}, fmt.Errorf("admin socket: %w", err)
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	if err != nil {
		return part{}, fmt.Errorf("admin socket: %w", err)
	}
	return serveHTTP("admin", l, &http.Server{Handler: d.forOperators()}), os.Chmod(path, 0o600)
}

// listenDebug serves the same, and profiles, to who can reach this pod's loopback: by a port-forward.
func (d *daemon) listenDebug(ctx context.Context, address string) (part, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return part{}, err
	}
	if ip, ok := l.Addr().(*net.TCPAddr); !ok || !ip.IP.IsLoopback() {
		return part{}, errors.Join(fmt.Errorf("--debug-address %s: it is not on loopback, and what is served there is for nobody else", address), l.Close())
	}
	return serveHTTP("debug", l, &http.Server{Handler: d.forOperators()}), nil
}

// forOperators is meshd's state, and profiles of itself.
func (d *daemon) forOperators() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", console.Handler(introduced{d.state, d.authority}))
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}
