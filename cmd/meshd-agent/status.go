package main

import (
	"context"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
)

func status(args []string) error {
	fs := flag.NewFlagSet("status", flag.ContinueOnError)
	socket := fs.String("socket", "/run/meshd/agent.sock", "`path` of the agent's Unix socket")
	wait := fs.Duration("wait", 2*time.Second, "how `long` to wait for a certificate")
	if err := fs.Parse(args); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), *wait)
	defer cancel()
	return printStatus(ctx, *socket, os.Stdout)
}

// printStatus says whose certificate the agent serves and when it expires.
func printStatus(ctx context.Context, socket string, out io.Writer) error {
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	ctx = metadata.AppendToOutgoingContext(ctx, "workload.spiffe.io", "true")
	stream, err := workload.NewSpiffeWorkloadAPIClient(conn).FetchX509SVID(ctx, &workload.X509SVIDRequest{})
	if err != nil {
		return err
	}
	resp, err := stream.Recv()
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return errors.New("the agent has no certificate yet; its log says what it waits for")
	case err != nil:
		return err
	case len(resp.GetSvids()) == 0:
		return errors.New("the agent answers without a certificate")
	}
	svid := resp.GetSvids()[0]
	chain, err := x509.ParseCertificates(svid.GetX509Svid())
	if err != nil {
		return err
	}
	until := chain[0].NotAfter
	_, err = fmt.Fprintf(out, "%s\ncertificate expires %s (in %s)\n", svid.GetSpiffeId(), until.UTC().Format(time.RFC3339), time.Until(until).Round(time.Second))
	return err
}
