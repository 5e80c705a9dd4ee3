package agent

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// SVID is a certificate that has been checked against its key and its roots.
type SVID struct {
	ID spiffeid.ID
	// Chain is the leaf and its issuer.
	Chain []*x509.Certificate
	Key   *ecdsa.PrivateKey
	// Roots of the trust domain.
	Roots []*x509.Certificate
	// Since is when it was received.
	Since time.Time
}

// NotAfter is the expiry of the leaf.
func (s *SVID) NotAfter() time.Time { return s.Chain[0].NotAfter }

// checkSVID judges what meshd has signed before anybody is given it: Envoy
// refuses a pair that does not match, and then silently keeps an old trust bundle.
func checkSVID(chain, roots [][]byte, key *ecdsa.PrivateKey, td spiffeid.TrustDomain, now time.Time) (*SVID, error) {
	certs, err := parseAll(chain)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	trusted, err := parseAll(roots)
	if err != nil {
		return nil, fmt.Errorf("roots: %w", err)
	}
	pub, ok := certs[0].PublicKey.(*ecdsa.PublicKey)
	if !ok || !pub.Equal(key.Public()) {
		return nil, errors.New("certificate is not for the key that was sent")
	}
	id, _, err := x509svid.Verify(certs, x509bundle.FromX509Authorities(td, trusted), x509svid.WithTime(now))
	if err != nil {
		return nil, fmt.Errorf("certificate does not verify: %w", err)
	}
	return &SVID{ID: id, Chain: certs, Key: key, Roots: trusted, Since: now}, nil
}

func parseAll(ders [][]byte) ([]*x509.Certificate, error) {
	if len(ders) == 0 {
		return nil, errors.New("none was given")
	}
	out := make([]*x509.Certificate, len(ders))
	for i, der := range ders {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		out[i] = c
	}
	return out, nil
}

// parsePEM wants certificates and nothing else.
func parsePEM(raw []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for {
		var block *pem.Block
		block, raw = pem.Decode(raw)
		if block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("unexpected %q block", block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	if len(bytes.TrimSpace(raw)) > 0 {
		return nil, errors.New("has bytes that are not PEM")
	}
	if len(out) == 0 {
		return nil, errors.New("has no certificate")
	}
	return out, nil
}

// Secrets are what the agent serves at one moment; a value, never changed.
type Secrets struct {
	// SVID is nil until the first certificate is there.
	SVID *SVID
	// Anchor is the trust anchor for meshd in PEM, nil until its file is there.
	Anchor []byte
}

// board holds the current Secrets and wakes those who wait for the next.
type board struct {
	mu      sync.Mutex
	now     Secrets
	changed chan struct{}
}

func newBoard() *board { return &board{changed: make(chan struct{})} }

// get gives the secrets and a channel that is closed when they change.
func (b *board) get() (Secrets, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.now, b.changed
}

func (b *board) setSVID(s *SVID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now.SVID = s
	b.wake()
}

func (b *board) setAnchor(pem []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if bytes.Equal(pem, b.now.Anchor) {
		return
	}
	b.now.Anchor = pem
	b.wake()
}

// wake tells the waiters. b.mu is held.
func (b *board) wake() {
	close(b.changed)
	b.changed = make(chan struct{})
}
