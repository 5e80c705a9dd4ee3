package ca

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"github.com/meshd-io/meshd/pkg/ca/check"
	"github.com/meshd-io/meshd/pkg/ca/template"
	"github.com/meshd-io/meshd/pkg/identity"
)

// serverName is what one of meshd's own certificates says: an identity, or DNS names.
type serverName struct {
	id  identity.ID
	dns string // comma-separated
}

// serverCertificate is a leaf of meshd's own. Its key never leaves the process.
type serverCertificate struct {
	cert *tls.Certificate
	due  time.Time
}

// ServerCertificate is meshd's own leaf for id, renewed at half-life.
func (a *Authority) ServerCertificate(id identity.ID) (*tls.Certificate, error) {
	return a.serverCertificate(serverName{id: id})
}

func (a *Authority) serverCertificate(n serverName) (*tls.Certificate, error) {
	a.mu.Lock()
	s := a.servers[n]
	fresh := s != nil && a.clock.Now().Before(s.due)
	a.mu.Unlock()
	if fresh {
		return s.cert, nil
	}
	next, err := a.newServerCertificate(n)
	if err != nil {
		if s != nil && a.clock.Now().Before(s.cert.Leaf.NotAfter) {
			a.log.Error("own certificate is not renewed", "error", err, "notAfter", s.cert.Leaf.NotAfter.UTC())
			return s.cert, nil
		}
		return nil, err
	}
	a.mu.Lock()
	a.servers[n] = next
	a.mu.Unlock()
	return next.cert, nil
}

func (a *Authority) newServerCertificate(n serverName) (*serverCertificate, error) {
	st, err := a.state()
	if err != nil {
		return nil, fmt.Errorf("own certificate: %w", err)
	}
	cert, err := a.certify(st, n)
	if err != nil {
		return nil, fmt.Errorf("own certificate: %w", err)
	}
	now := a.clock.Now()
	return &serverCertificate{cert: cert, due: now.Add(cert.Leaf.NotAfter.Sub(now) / 2)}, nil
}

// certify signs a certificate of meshd's own.
func (a *Authority) certify(st state, n serverName) (*tls.Certificate, error) {
	key, serial, err := newKey()
	if err != nil {
		return nil, err
	}
	var issued Issued
	if n.dns == "" {
		issued, err = a.signLeaf(st, n.id, &key.PublicKey, term{life: st.lifetimes.Leaf})
	} else {
		issued, err = a.signDNS(st, strings.Split(n.dns, ","), serial, &key.PublicKey)
	}
	if err != nil {
		return nil, err
	}
	cert := &tls.Certificate{PrivateKey: key, Leaf: issued.Chain[0]}
	for _, c := range issued.Chain {
		cert.Certificate = append(cert.Certificate, c.Raw)
	}
	return cert, nil
}

// signDNS signs for DNS names. Only meshd's own certificates have any: nothing that comes from a CSR leads here.
func (a *Authority) signDNS(st state, names []string, serial *big.Int, key *ecdsa.PublicKey) (Issued, error) {
	now := a.clock.Now()
	v, err := template.Between(now, st.lifetimes.Leaf, a.skew, st.by.Certificate)
	if err != nil {
		return Issued{}, fmt.Errorf("leaf: issuer: %w", err)
	}
	leaf, err := sign(template.Server(names, serial, v), st.by.Certificate, key, st.by.Key)
	if err != nil {
		return Issued{}, fmt.Errorf("leaf: %w", err)
	}
	issued := Issued{Chain: append([]*x509.Certificate{leaf}, st.tail...), Roots: st.roots}
	if err := check.Server(issued.Chain, issued.Roots, names, now); err != nil {
		return Issued{}, fmt.Errorf("signed leaf does not pass: %w", err)
	}
	return issued, nil
}

// renewServers renews those of meshd's own certificates that are due.
func (a *Authority) renewServers() {
	a.mu.Lock()
	names := make([]serverName, 0, len(a.servers))
	for n := range a.servers {
		names = append(names, n)
	}
	a.mu.Unlock()
	for _, n := range names {
		if _, err := a.serverCertificate(n); err != nil {
			a.log.Error("own certificate is not renewed", "error", err)
		}
	}
}

// WebhookTLS is the configuration of the server that the API server calls by
// DNS name: a certificate of the CA in force, renewed at half-life. Callers need
// none. Fails where a given CA's name constraints leave the names out.
func (a *Authority) WebhookTLS(dnsNames ...string) (*tls.Config, error) {
	if len(dnsNames) == 0 {
		return nil, errors.New("no DNS name is given")
	}
	n := serverName{dns: strings.Join(dnsNames, ",")}
	if _, err := a.serverCertificate(n); err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return a.serverCertificate(n)
		},
	}, nil
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
		pool := x509.NewCertPool()
		for _, r := range a.Roots() {
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
			VerifyConnection:       verifyPeer(id.SPIFFE().TrustDomain()),
			// Small records first help browsers to render early; here they would be fifty writes for a new proxy's answers.
			DynamicRecordSizingDisabled: true,
		}, nil
	}
	return base, nil
}

// verifyPeer checks a shown certificate by the SPIFFE standard (X509-SVID, 5),
// beyond what TLS checks: that has verified the chain already, by the same roots
// and clock and for a client, so that it is not verified once more.
func verifyPeer(td spiffeid.TrustDomain) func(tls.ConnectionState) error {
	return func(cs tls.ConnectionState) error {
		if len(cs.PeerCertificates) == 0 {
			return nil
		}
		if len(cs.VerifiedChains) == 0 {
			return errors.New("the certificate is not verified")
		}
		leaf := cs.PeerCertificates[0]
		switch id, err := x509svid.IDFromCert(leaf); {
		case err != nil:
			return err
		case leaf.IsCA, leaf.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0:
			return errors.New("the certificate is a CA's")
		case !id.MemberOf(td):
			return errors.New("peer is of another trust domain")
		}
		return nil
	}
}
