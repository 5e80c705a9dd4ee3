package check

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// Leaves judges leaves. The zero value is ready, and safe for concurrent use.
// What one issuer's leaves have in common, its way to a root, is verified with
// the first of them, and again when a leaf comes that this does not cover.
type Leaves struct {
	last atomic.Pointer[proof]
}

// proof is what the verification of one leaf has shown of those that come after it.
type proof struct {
	// above are the certificates that were shown after the leaf.
	above       []*x509.Certificate
	trustDomain string
	algorithm   x509.SignatureAlgorithm
	// ways lead from the issuer to a root, both included.
	ways [][]*x509.Certificate
}

// Leaf judges chain (leaf, its issuer, what stands above it without the root)
// against what was wanted and the roots that peers trust.
//
// The leaf comes from x509.CreateCertificate, which refuses a key that is not
// the issuer's and verifies with it what it has signed. A second verification
// would compute the same function of the same bytes, and a peer's is a third.
// Only the first leaf of an issuer is verified here once more, by the issuer's
// certificate as peers have it.
func (l *Leaves) Leaf(chain, roots []*x509.Certificate, want Want) error {
	if len(chain) == 0 || len(chain) > MaxChain {
		return fmt.Errorf("chain has %d certificates, 1 to %d are wanted", len(chain), MaxChain)
	}
	leaf, above := chain[0], chain[1:]
	if err := shape(leaf, want); err != nil {
		return err
	}
	for _, issuer := range above {
		if leaf.NotAfter.After(issuer.NotAfter) {
			return errors.New("leaf outlives its issuer")
		}
	}
	if err := validity(leaf, want); err != nil {
		return err
	}
	if p := l.last.Load(); p != nil && p.covers(leaf, above, roots, want) {
		return nil
	}
	p, err := prove(chain, roots, want)
	if err != nil {
		return err
	}
	l.last.Store(p)
	return nil
}

// prove verifies all of the chain.
func prove(chain, roots []*x509.Certificate, want Want) (*proof, error) {
	bundle := x509bundle.FromX509Authorities(want.ID.SPIFFE().TrustDomain(), roots)
	id, verified, err := x509svid.Verify(chain, bundle, x509svid.WithTime(want.Now))
	if err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	if id != want.ID.SPIFFE() {
		return nil, fmt.Errorf("verified as %q, %q is wanted", id, want.ID)
	}
	p := &proof{above: slices.Clone(chain[1:]), trustDomain: want.ID.TrustDomain(), algorithm: chain[0].SignatureAlgorithm}
	for _, way := range verified {
		if len(way) > 1 {
			p.ways = append(p.ways, way[1:])
		}
	}
	if len(p.ways) == 0 {
		return nil, errors.New("no chain to a root")
	}
	return p, nil
}

// covers reports whether a peer will find of this leaf what was found of the
// first. Name constraints on URIs know hosts only (RFC 5280, 4.2.1.10), and the
// host of a leaf's one name is its trust domain: what they permit one leaf they
// permit the next.
func (p *proof) covers(leaf *x509.Certificate, above, roots []*x509.Certificate, want Want) bool {
	if p.trustDomain != want.ID.TrustDomain() || p.algorithm != leaf.SignatureAlgorithm || want.Now.Before(leaf.NotBefore) ||
		!slices.EqualFunc(p.above, above, (*x509.Certificate).Equal) {
		return false
	}
	return slices.ContainsFunc(p.ways, func(way []*x509.Certificate) bool {
		return good(way, want.Now) && issued(leaf, way[0]) && slices.ContainsFunc(roots, way[len(way)-1].Equal)
	})
}

func good(way []*x509.Certificate, now time.Time) bool {
	return !slices.ContainsFunc(way, func(c *x509.Certificate) bool {
		return now.Before(c.NotBefore) || now.After(c.NotAfter)
	})
}

// issued reports whether the leaf says that it is from this issuer. A name may be another CA's too, a key is not.
func issued(leaf, issuer *x509.Certificate) bool {
	return bytes.Equal(leaf.RawIssuer, issuer.RawSubject) &&
		len(issuer.SubjectKeyId) > 0 && bytes.Equal(leaf.AuthorityKeyId, issuer.SubjectKeyId)
}
