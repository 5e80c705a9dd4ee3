package ca

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"github.com/meshd-io/meshd/pkg/identity"
)

// serverCertificate is a leaf of meshd's own. Its key never leaves the process.
type serverCertificate struct {
	cert *tls.Certificate
	due  time.Time
}

// ServerCertificate is meshd's own leaf for id, renewed at half-life.
func (a *Authority) ServerCertificate(id identity.ID) (*tls.Certificate, error) {
	a.mu.Lock()
	s := a.servers[id]
	a.mu.Unlock()
	if s != nil && a.clock.Now().Before(s.due) {
		return s.cert, nil
	}
	fresh, err := a.newServerCertificate(id)
	if err != nil {
		if s != nil && a.clock.Now().Before(s.cert.Leaf.NotAfter) {
			a.log.Error("own certificate is not renewed", "error", err, "notAfter", s.cert.Leaf.NotAfter.UTC())
			return s.cert, nil
		}
		return nil, err
	}
	a.mu.Lock()
	a.servers[id] = fresh
	a.mu.Unlock()
	return fresh.cert, nil
}

func (a *Authority) newServerCertificate(id identity.ID) (*serverCertificate, error) {
	key, _, err := newKey()
	if err != nil {
		return nil, err
	}
	issued, err := a.signKey(id, &key.PublicKey, 0)
	if err != nil {
		return nil, fmt.Errorf("own certificate: %w", err)
	}
	cert := &tls.Certificate{PrivateKey: key, Leaf: issued.Chain[0]}
	for _, c := range issued.Chain {
		cert.Certificate = append(cert.Certificate, c.Raw)
	}
	now := a.clock.Now()
	return &serverCertificate{cert: cert, due: now.Add(issued.NotAfter().Sub(now) / 2)}, nil
}

// renewServers renews those of meshd's own certificates that are due.
func (a *Authority) renewServers() {
	a.mu.Lock()
	ids := make([]identity.ID, 0, len(a.servers))
	for id := range a.servers {
		ids = append(ids, id)
	}
	a.mu.Unlock()
	for _, id := range ids {
		if _, err := a.ServerCertificate(id); err != nil {
			a.log.Error("own certificate is not renewed", "error", err)
		}
	}
}

// ServerTLS is the configuration of meshd's own gRPC server, which shows itself
// as id. Clients may come without a certificate (they bring a token); one that
// is shown must be an SVID of this trust domain. The interceptors of authn say
// which method needs what. No session is resumed: a peer proves its current
// certificate in each handshake.
func (a *Authority) ServerTLS(id identity.ID) (*tls.Config, error) {
	if _, err := a.ServerCertificate(id); err != nil {
		return nil, err
	}
	base := &tls.Config{
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{"h2"},
		SessionTicketsDisabled: true,
	}
	base.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		cert, err := a.ServerCertificate(id)
		if err != nil {
			return nil, err
		}
		roots := a.Roots()
		pool := x509.NewCertPool()
		for _, r := range roots {
			pool.AddCert(r)
		}
		return &tls.Config{
			MinVersion:             tls.VersionTLS13,
			NextProtos:             []string{"h2"},
			SessionTicketsDisabled: true,
			Time:                   a.clock.Now,
			Certificates:           []tls.Certificate{*cert},
			ClientAuth:             tls.VerifyClientCertIfGiven,
			ClientCAs:              pool,
			VerifyConnection:       a.verifyPeer(id, roots),
		}, nil
	}
	return base, nil
}

// verifyPeer checks a shown certificate by the SPIFFE standard, beyond what TLS checks.
func (a *Authority) verifyPeer(id identity.ID, roots []*x509.Certificate) func(tls.ConnectionState) error {
	return func(cs tls.ConnectionState) error {
		if len(cs.PeerCertificates) == 0 {
			return nil
		}
		td := id.SPIFFE().TrustDomain()
		bundle := x509bundle.FromX509Authorities(td, roots)
		peer, _, err := x509svid.Verify(cs.PeerCertificates, bundle, x509svid.WithTime(a.clock.Now()))
		if err != nil {
			return err
		}
		if !peer.MemberOf(td) {
			return errors.New("peer is of another trust domain")
		}
		return nil
	}
}
