package main

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"

	"github.com/meshd-io/meshd/internal/version"
	"github.com/meshd-io/meshd/pkg/ca"
	"github.com/meshd-io/meshd/pkg/console"
)

// introduced is a state with what meshd says of itself: its version and what it signs with.
type introduced struct {
	console.Source
	authority *ca.Authority
}

// State implements console.Source.
func (s introduced) State() console.State {
	out := s.Source.State()
	out.Version = version.Version
	out.Authority = &console.Authority{Roots: []console.Certificate{}, Issuer: consoleCertificate(s.authority.Issuer())}
	for _, root := range s.authority.Roots() {
		out.Authority.Roots = append(out.Authority.Roots, consoleCertificate(root))
	}
	return out
}

func consoleCertificate(c *x509.Certificate) console.Certificate {
	sum := sha256.Sum256(c.Raw)
	return console.Certificate{Fingerprint: hex.EncodeToString(sum[:]), NotBefore: c.NotBefore.UTC(), NotAfter: c.NotAfter.UTC()}
}
