package main

import (
	"context"
	"flag"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"

	"github.com/meshd-io/meshd/pkg/agent"
)

// The agent holds a few KB that live; the collector's defaults would let the heap double several times over.
const (
	gcPercent   = 30
	memoryLimit = 12 << 20
)

func run(args []string) error {
	var cfg agent.Config
	fs := flag.NewFlagSet("run", flag.ContinueOnError)
	fs.StringVar(&cfg.Meshd, "meshd", "meshd.meshd-system.svc:15012", "meshd's gRPC `address`")
	fs.StringVar(&cfg.MeshdID, "meshd-id", "spiffe://cluster.local/ns/meshd-system/sa/meshd", "the exact SPIFFE `ID` that meshd must show")
	fs.StringVar(&cfg.TrustFile, "trust", "/var/run/meshd/trust/ca.crt", "`file` with the trust anchor for meshd, in PEM")
	fs.StringVar(&cfg.TokenFile, "token", "/var/run/meshd/token/token", "`file` with the service-account token")
	fs.StringVar(&cfg.Socket, "socket", "/run/meshd/agent.sock", "`path` of the Unix socket for SDS and the SPIFFE Workload API")
	if err := fs.Parse(args); err != nil {
		return err
	}
	// One thread of Go code is plenty, and caches per thread would grow with the cores of the node.
	runtime.GOMAXPROCS(1)
	debug.SetGCPercent(gcPercent)
	debug.SetMemoryLimit(memoryLimit)
	cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	a, err := agent.New(cfg)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	return a.Run(ctx)
}
