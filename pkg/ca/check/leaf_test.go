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
	proven := p.proven(t)
	long := template.Validity{NotBefore: p.issuer.NotBefore, NotAfter: p.issuer.NotAfter}
	sameKey := sign(t, template.Issuer(td, big.NewInt(7), long), p.root, p.key.Public(), p.rootKey)
	sameName := sign(t, template.Issuer(td, big.NewInt(2), long), other.root, other.key.Public(), other.rootKey)
	foreign, err := identity.New("other.domain", "shop", "accounts")
	if err != nil {
		t.Fatal(err)
	}
	leafBy := func(issuer *x509.Certificate) *x509.Certificate { return sign(t, p.leaf(), issuer, p.want.Key, p.key) }
	elsewhere := p.want
	elsewhere.ID = foreign
	sha384 := p.leaf()
	sha384.SignatureAlgorithm = x509.ECDSAWithSHA384
	good := leafBy(p.issuer)
	for _, tc := range []struct {
		name, want string
		leaf       *x509.Certificate
		above      []*x509.Certificate
		roots      []*x509.Certificate
		asked      check.Want
	}{
		{"by another key under the issuer's name", "issuer's key", sign(t, p.leaf(), sameName, p.want.Key, other.key), certs(p.issuer), certs(p.root), p.want},
		{"by the issuer's key under another name", "is issued by", leafBy(sameKey), certs(p.issuer), certs(p.root), p.want},
		{"by another algorithm", "ECDSA-SHA384", sign(t, sha384, p.issuer, p.want.Key, p.key), certs(p.issuer), certs(p.root), p.want},
		{"shown with another issuer", "verify", good, certs(sameName), certs(p.root, other.root), p.want},
		{"shown without its issuer", "verify", good, nil, certs(p.root), p.want},
		{"its root is no longer trusted", "verify", good, certs(p.issuer), certs(other.root), p.want},
		{"of a trust domain that the issuer is not for", "verify", sign(t, template.Leaf(foreign, big.NewInt(3), p.validity), p.issuer, p.want.Key, p.key), certs(p.issuer), certs(p.root), elsewhere},
	} {
		err := proven.Leaf(append(certs(tc.leaf), tc.above...), tc.roots, tc.asked)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
	}
	if err := proven.Leaf(certs(good, p.issuer), certs(other.root, p.root), p.want); err != nil {
		t.Errorf("a root beside its own: %v", err)
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
