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

	"github.com/meshd-io/meshd/pkg/authn"
	"github.com/meshd-io/meshd/pkg/ca/cav1"
	"github.com/meshd-io/meshd/pkg/ca/service"
	"github.com/meshd-io/meshd/pkg/identity"
	"github.com/meshd-io/meshd/pkg/xds/wire"
)

// openGRPC puts xDS and the CA behind one authentication layer and one port:
// the streams of proxies have a transport of their own, calls have gRPC's.
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
	services := more(d, self)
	for _, register := range services {
		register(certificateOnly(rules))
	}
	if attestor != nil {
		rules[cav1.CertificateService_Sign_FullMethodName] = authn.Token
	}
	var layer *authn.Authenticator
	streams := d.xds.Streams(func(r *wire.Request) (authn.Peer, error) { return layer.Connection(r.Method, r.From, r.TLS) })
	for method := range streams {
		rules[method] = authn.Certificate
	}
	layer, err = authn.New(authn.Config{TrustDomain: trustDomain, Rules: rules, Attestor: attestor, Log: d.log})
	if err != nil {
		return err
	}
	d.wire = wire.New(wire.Config{TLS: config, Streams: streams, Log: d.log})
	options := append(wire.OtherOptions(),
		grpc.Creds(authn.Expiring(wire.Credentials())),
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

// How dead peers are found: their streams count as live proxies until then.
const (
	// userTimeout is how long what is sent may stay unacknowledged, by a peer's kernel.
	userTimeout = 40 * time.Second
	// A silent peer's kernel is asked after idleTime, and then each probeTime, three times.
	idleTime, probeTime = 30 * time.Second, 10 * time.Second
)

// listenGRPC accepts connections with small buffers, by which dead peers are
// noticed: they inherit the listener's options.
func (d *daemon) listenGRPC(ctx context.Context) (net.Listener, error) {
	c := net.ListenConfig{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: idleTime, Interval: probeTime, Count: 3},
		Control: func(_, _ string, raw syscall.RawConn) error {
			var failed error
			err := raw.Control(func(fd uintptr) {
				failed = errors.Join(
					unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, sendBuffer),
					unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(userTimeout.Milliseconds())))
			})
			return errors.Join(err, failed)
		},
	}
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
// are still there after drainTime are ended by stopGRPC.
func (d *daemon) drain() {
	ctx, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		d.grpc.GracefulStop()
	}()
	d.wire.Drain(ctx, drainTime/2)
	select {
	case <-gone:
	case <-ctx.Done():
	}
}

// serveGRPC accepts until stopGRPC.
func (d *daemon) serveGRPC(l net.Listener) error {
	calls := make(chan error, 1)
	go func() { calls <- d.grpc.Serve(d.wire.Others()) }()
	err := d.wire.Serve(l)
	d.wire.Others().Close()
	if ended := <-calls; !errors.Is(ended, net.ErrClosed) {
		err = errors.Join(err, ended)
	}
	return err
}

// stopGRPC ends everything that is connected.
func (d *daemon) stopGRPC() {
	d.wire.Close()
	d.grpc.Stop()
}
