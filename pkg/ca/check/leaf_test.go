package check_test

import (
	"crypto/x509"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/meshd-io/meshd/pkg/ca/check"
	"github.com/meshd-io/meshd/pkg/ca/template"
	"github.com/meshd-io/meshd/pkg/identity"
)

// TestLaterLeaf: after a good leaf one is still refused whose issuer is not
// the one that was verified, and all that was verified with it is judged anew
// when it has changed.
func TestLaterLeaf(t *testing.T) {
	p, other := newPKI(t), newPKI(t)
	long := template.Validity{NotBefore: p.issuer.NotBefore, NotAfter: p.issuer.NotAfter}
	sameKey := sign(t, template.Issuer(td, big.NewInt(7), long), p.root, p.key.Public(), p.rootKey)
	sameName := sign(t, template.Issuer(td, big.NewInt(2), long), other.root, other.key.Public(), other.rootKey)
	foreign, err := identity.New("other.domain", "shop", "accounts")
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := p.want
	elsewhere.ID = foreign
	sha384 := p.leaf()
	sha384.SignatureAlgorithm = x509.ECDSAWithSHA384
	good := sign(t, p.leaf(), p.issuer, p.want.Key, p.key)
	proven := p.proven(t)
	for _, tc := range []struct {
		name         string
		chain, roots []*x509.Certificate
		asked        check.Want
	}{
		{"by another key under the issuer's name", certs(sign(t, p.leaf(), sameName, p.want.Key, other.key), p.issuer), certs(p.root), p.want},
		{"by the issuer's key under another name", certs(sign(t, p.leaf(), sameKey, p.want.Key, p.key), p.issuer), certs(p.root), p.want},
		{"by another key and algorithm", certs(sign(t, sha384, impostor(p.issuer, other), p.want.Key, other.key), p.issuer), certs(p.root), p.want},
		{"shown with another issuer", certs(good, sameName), certs(p.root, other.root), p.want},
		{"shown without its issuer", certs(good), certs(p.root), p.want},
		{"its root is no longer trusted", certs(good, p.issuer), certs(other.root), p.want},
		{
			"of a trust domain that the issuer is not for",
			certs(sign(t, template.Leaf(foreign, big.NewInt(3), p.validity), p.issuer, p.want.Key, p.key), p.issuer), certs(p.root), elsewhere,
		},
	} {
		if err := proven.Leaf(tc.chain, tc.roots, tc.asked); err == nil || !strings.Contains(err.Error(), "verify") {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
	if err := proven.Leaf(certs(good, p.issuer), certs(other.root, p.root), p.want); err != nil {
		t.Errorf("a root beside its own: %v", err)
	}
}

// impostor is the issuer's certificate with another key behind it.
func impostor(issuer *x509.Certificate, other *pki) *x509.Certificate {
	c := *issuer
	c.PublicKey = other.key.Public()
	return &c
}

// TestIssuersWithoutKeyID: their names do not tell them apart, so that each leaf is verified.
func TestIssuersWithoutKeyID(t *testing.T) {
	p, other := newPKI(t), newPKI(t)
	p.issuer.SubjectKeyId = nil
	proven := p.proven(t)
	leaf := sign(t, p.leaf(), impostor(p.issuer, other), p.want.Key, other.key)
	if err := proven.Leaf(certs(leaf, p.issuer), certs(p.root), p.want); err == nil {
		t.Error("a leaf by another key passes")
	}
}

// TestRootsThatSign: with nothing above the leaf, the next one may be another root's.
func TestRootsThatSign(t *testing.T) {
	p, other := newPKI(t), newPKI(t)
	var leaves check.Leaves
	for _, by := range []*pki{p, other, p} {
		leaf := sign(t, p.leaf(), by.root, p.want.Key, by.rootKey)
		if err := leaves.Leaf(certs(leaf), certs(p.root, other.root), p.want); err != nil {
			t.Error(err)
		}
	}
}

// TestRootEnds: a leaf and an issuer that outlive their root are refused from its end on.
func TestRootEnds(t *testing.T) {
	p := newPKI(t)
	end := p.root.NotAfter
	after := template.Validity{NotBefore: p.issuer.NotBefore, NotAfter: end.Add(24 * time.Hour)}
	issuer := sign(t, template.Issuer(td, big.NewInt(2), after), p.root, p.key.Public(), p.rootKey)
	p.validity.NotAfter = end.Add(time.Hour)
	chain := certs(sign(t, p.leaf(), issuer, p.want.Key, p.key), issuer)
	p.want.TTL, p.want.Skew = 48*time.Hour, 48*time.Hour
	var leaves check.Leaves
	if err := leaves.Leaf(chain, certs(p.root), p.want); err != nil {
		t.Fatal(err)
	}
	p.want.Now = end.Add(time.Second)
	if err := leaves.Leaf(chain, certs(p.root), p.want); err == nil || !strings.Contains(err.Error(), "verify") {
		t.Errorf("after the root's end: %v", err)
	}
}

func certs(c ...*x509.Certificate) []*x509.Certificate { return c }
