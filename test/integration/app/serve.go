package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

// server answers on one listener until the listener is closed.
type server func(net.Listener) error

func servers(kind string) (server, error) {
	switch kind {
	case "http":
		return serveHTTP, nil
	case "https":
		return func(l net.Listener) error {
			cert, err := selfSigned()
			if err != nil {
				return err
			}
			return serveHTTP(tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}))
		}, nil
	case "grpc":
		return serveGRPC, nil
	case "echo", "count", "banner", "talker":
		return tcpServer(kind), nil
	}
	return nil, fmt.Errorf("%q is no kind of server", kind)
}

// serve runs servers until the process is told to end.
func serve(specs []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	failed := make(chan error, len(specs))
	for _, spec := range specs {
		kind, port, ok := strings.Cut(spec, ":")
		if !ok {
			return fmt.Errorf("%q is not KIND:PORT", spec)
		}
		s, err := servers(kind)
		if err != nil {
			return err
		}
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", ":"+port)
		if err != nil {
			return err
		}
		go func() { failed <- s(l) }()
	}
	select {
	case err := <-failed:
		return errors.Join(errors.New("a server ended"), err)
	case <-ctx.Done():
		return nil
	}
}

func hostname() string {
	h, err := os.Hostname()
	if err != nil {
		return err.Error()
	}
	return h
}
