package wire

import (
	"context"
	"errors"
	"net"
	"sync"

	"google.golang.org/grpc/credentials"
)

// others is a listener of connections that are handed over.
type others struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newOthers() *others { return &others{conns: make(chan net.Conn), done: make(chan struct{})} }

func (o *others) take(c net.Conn) error {
	select {
	case o.conns <- c:
		return errHanded
	case <-o.done:
		return net.ErrClosed
	}
}

// Accept implements net.Listener.
func (o *others) Accept() (net.Conn, error) {
	select {
	case c := <-o.conns:
		return c, nil
	case <-o.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (o *others) Close() error {
	o.close()
	return nil
}

func (o *others) close() { o.once.Do(func() { close(o.done) }) }

// Addr implements net.Listener.
func (o *others) Addr() net.Addr { return &net.UnixAddr{Name: "handed over", Net: "unix"} }

// Credentials are of the grpc.Server behind Server.Others: the TLS handshake is
// made already, and its result is the call's credentials.TLSInfo.
func Credentials() credentials.TransportCredentials { return handed{} }

type handed struct{}

// ServerHandshake implements credentials.TransportCredentials.
func (handed) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	r, ok := c.(*replay)
	if !ok {
		return nil, nil, errors.New("not a connection that was handed over")
	}
	state := r.state()
	if state == nil {
		return r, nil, nil
	}
	return r, credentials.TLSInfo{
		State: *state, CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}}, nil
}

// ClientHandshake implements credentials.TransportCredentials.
func (handed) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("these credentials are a server's")
}

// Info implements credentials.TransportCredentials.
func (handed) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

// Clone implements credentials.TransportCredentials.
func (handed) Clone() credentials.TransportCredentials { return handed{} }

// OverrideServerName implements credentials.TransportCredentials.
func (handed) OverrideServerName(string) error { return nil }
