package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/meshd-io/meshd/pkg/authn"
	"github.com/meshd-io/meshd/pkg/ca/cav1"
	"github.com/meshd-io/meshd/pkg/ca/service"
	"github.com/meshd-io/meshd/pkg/identity"
	"github.com/meshd-io/meshd/pkg/xds/server"
)

// openGRPC puts xDS and the CA behind one authentication layer.
func (d *daemon) openGRPC(trustDomain string, attestor authn.Attestor, more func(*daemon, identity.ID) []func(grpc.ServiceRegistrar)) error {
	self, err := identity.New(trustDomain, d.flags.namespace, "meshd")
	if err != nil {
		return fmt.Errorf("own identity: %w", err)
	}
	config, err := d.authority.ServerTLS(self)
	if err != nil {
		return err
	}
	rules := authn.Rules{}
	services := append([]func(grpc.ServiceRegistrar){d.xds.Register}, more(d, self)...)
	for _, register := range services {
		register(certificateOnly(rules))
	}
	if attestor != nil {
		rules[cav1.CertificateService_Sign_FullMethodName] = authn.Token
	}
	layer, err := authn.New(authn.Config{TrustDomain: trustDomain, Rules: rules, Attestor: attestor, Log: d.log})
	if err != nil {
		return err
	}
	options := append(server.Options(server.Transport{}),
		grpc.Creds(authn.Expiring(credentials.NewTLS(config))),
		grpc.ChainUnaryInterceptor(layer.Unary()), grpc.ChainStreamInterceptor(layer.Stream()))
	d.grpc = grpc.NewServer(options...)
	for _, register := range services {
		register(d.grpc)
	}
	if attestor != nil {
		cav1.RegisterCertificateServiceServer(d.grpc, service.New(service.Config{Signer: countingSigner{d.authority, d.metrics}, Log: d.log}))
	}
	return nil
}

// sendBuffer is what the kernel may hold for a peer that does not read, in
// bytes; Linux doubles it. Left to itself it grows to megabytes a connection.
const sendBuffer = 32 << 10

// listenGRPC accepts connections with small buffers: they inherit the listener's.
func (d *daemon) listenGRPC(ctx context.Context) (net.Listener, error) {
	c := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var failed error
		err := raw.Control(func(fd uintptr) {
			failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, sendBuffer)
		})
		return errors.Join(err, failed)
	}}
	return c.Listen(ctx, "tcp", d.flags.grpcAddress)
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

// drainTime is what proxies have to go to another replica after they are told to (GOAWAY).
const drainTime = 5 * time.Second

// drain tells every peer to go elsewhere, and takes no new one. Streams that
// are still there after drainTime are ended by who calls.
func (d *daemon) drain() {
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		d.grpc.GracefulStop()
	}()
	select {
	case <-gone:
	case <-time.After(drainTime):
	}
}
