package authn

import (
	"net"
	"time"

	"google.golang.org/grpc/credentials"
)

// Expiring ends a connection when the certificate that its peer has shown
// expires. Its calls would be refused from then on, and a peer that keeps
// connections (Envoy does) would not think of connecting again with its new one.
func Expiring(c credentials.TransportCredentials) credentials.TransportCredentials {
	return expiring{c}
}

type expiring struct {
	credentials.TransportCredentials
}

// ServerHandshake implements credentials.TransportCredentials.
func (e expiring) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, auth, err := e.TransportCredentials.ServerHandshake(raw)
	info, ok := auth.(credentials.TLSInfo)
	if err != nil || !ok || len(info.State.PeerCertificates) == 0 {
		return conn, auth, err
	}
	left := time.Until(info.State.PeerCertificates[0].NotAfter)
	return &bounded{conn, time.AfterFunc(left, func() { _ = conn.Close() })}, auth, nil
}

// Clone implements credentials.TransportCredentials.
func (e expiring) Clone() credentials.TransportCredentials {
	return expiring{e.TransportCredentials.Clone()}
}

// bounded is a connection with an end.
type bounded struct {
	net.Conn
	end *time.Timer
}

// Close implements net.Conn.
func (b *bounded) Close() error {
	b.end.Stop()
	return b.Conn.Close()
}
