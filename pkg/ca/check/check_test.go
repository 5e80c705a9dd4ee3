package check_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/meshd-io/meshd/pkg/ca/check"
	"github.com/meshd-io/meshd/pkg/ca/template"
	"github.com/meshd-io/meshd/pkg/identity"
)

const td = "cluster.local"

// pki is a root and an issuer by the templates, and what a leaf should be.
type pki struct {
	root, issuer *x509.Certificate
	rootKey, key *ecdsa.PrivateKey
	want         check.Want
	validity     template.Validity
}

func newPKI(t *testing.T) *pki {
	t.Helper()
	now := time.Now().Truncate(time.Second)
	p := &pki{rootKey: newKey(t), key: newKey(t), validity: template.Validity{NotBefore: now.Add(-time.Minute), NotAfter: now.Add(time.Hour)}}
	long := template.Validity{NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour)}
	root := template.Root(td, big.NewInt(1), long)
	p.root = sign(t, root, root, p.rootKey.Public(), p.rootKey)
	p.issuer = sign(t, template.Issuer(td, big.NewInt(2), long), p.root, p.key.Public(), p.rootKey)
	id, err := identity.New(td, "shop", "accounts")
	if err != nil {
		t.Fatal(err)
	}
	p.want = check.Want{ID: id, Key: &newKey(t).PublicKey, Now: now, TTL: time.Hour, Skew: time.Minute}
	return p
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t *testing.T, tmpl, parent *x509.Certificate, pub crypto.PublicKey, key *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, pub, key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (p *pki) leaf() *x509.Certificate {
	return template.Leaf(p.want.ID, big.NewInt(3), p.validity)
}

// proven has verified the issuer by one leaf.
func (p *pki) proven(t *testing.T) *check.Leaves {
	t.Helper()
	leaves := &check.Leaves{}
	good := sign(t, p.leaf(), p.issuer, p.want.Key, p.key)
	if err := leaves.Leaf([]*x509.Certificate{good, p.issuer}, []*x509.Certificate{p.root}, p.want); err != nil {
		t.Fatal(err)
	}
	return leaves
}

func TestGoodLeaf(t *testing.T) {
	p := newPKI(t)
	c := sign(t, p.leaf(), p.issuer, p.want.Key, p.key)
	var leaves check.Leaves
	for _, time := range []string{"first", "second"} {
		if err := leaves.Leaf([]*x509.Certificate{c, p.issuer}, []*x509.Certificate{p.root}, p.want); err != nil {
			t.Errorf("%s: %v", time, err)
		}
	}
}

// TestBadLeaf signs templates that went wrong: the check catches each.
func TestBadLeaf(t *testing.T) {
	p := newPKI(t)
	proven := p.proven(t)
	at := func(s string) *url.URL {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	for _, tc := range []struct {
		name, want string
		spoil      func(l *x509.Certificate)
	}{
		{"other identity", "exactly", func(l *x509.Certificate) { l.URIs[0] = at("spiffe://cluster.local/ns/shop/sa/admin") }},
		{"second URI", "exactly", func(l *x509.Certificate) { l.URIs = append(l.URIs, at("spiffe://cluster.local/x")) }},
		{"no URI", "exactly", func(l *x509.Certificate) { l.URIs = nil }},
		{"DNS", "names beside", func(l *x509.Certificate) { l.DNSNames = []string{"x"} }},
		{"IP", "names beside", func(l *x509.Certificate) { l.IPAddresses = []net.IP{{1, 2, 3, 4}} }},
		{"email", "names beside", func(l *x509.Certificate) { l.EmailAddresses = []string{"a@b.c"} }},
		{"subject", "subject", func(l *x509.Certificate) { l.Subject = pkix.Name{CommonName: "x"} }},
		{"CA", "non-CA", func(l *x509.Certificate) { l.IsCA = true }},
		{"no basic constraints", "non-CA", func(l *x509.Certificate) { l.BasicConstraintsValid = false }},
		{"certSign", "key usage", func(l *x509.Certificate) { l.KeyUsage |= x509.KeyUsageCertSign }},
		{"no key usage", "key usage", func(l *x509.Certificate) { l.KeyUsage = 0 }},
		{"code signing", "extended key usage", func(l *x509.Certificate) { l.ExtKeyUsage = append(l.ExtKeyUsage, x509.ExtKeyUsageCodeSigning) }},
		{"any usage", "extended key usage", func(l *x509.Certificate) { l.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }},
		{"server only", "extended key usage", func(l *x509.Certificate) { l.ExtKeyUsage = l.ExtKeyUsage[:1] }},
		{"unknown extension", "not in the template", func(l *x509.Certificate) {
			l.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Value: []byte{5, 0}}}
		}},
		{"CRL", "not in the template", func(l *x509.Certificate) { l.CRLDistributionPoints = []string{"http://x"} }},
		{"outlives its issuer", "outlives", func(l *x509.Certificate) { l.NotAfter = p.issuer.NotAfter.Add(time.Second) }},
		{"too long", "longer than", func(l *x509.Certificate) { l.NotAfter = l.NotAfter.Add(time.Minute) }},
		{"backdated too far", "ago", func(l *x509.Certificate) { l.NotBefore = l.NotBefore.Add(-time.Hour) }},
		{"expired", "expired already", func(l *x509.Certificate) { l.NotAfter = p.want.Now }},
		{"in the future", "verify", func(l *x509.Certificate) { l.NotBefore = p.want.Now.Add(time.Minute) }},
	} {
		l := p.leaf()
		tc.spoil(l)
		c := sign(t, l, p.issuer, p.want.Key, p.key)
		for which, leaves := range map[string]*check.Leaves{"first": {}, "later": proven} {
			err := leaves.Leaf([]*x509.Certificate{c, p.issuer}, []*x509.Certificate{p.root}, p.want)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s, %s: %v, want %q", tc.name, which, err, tc.want)
			}
		}
	}
}

func TestBadChain(t *testing.T) {
	p, other := newPKI(t), newPKI(t)
	proven := p.proven(t)
	good := sign(t, p.leaf(), p.issuer, p.want.Key, p.key)
	foreignKey := sign(t, p.leaf(), p.issuer, other.want.Key, p.key)
	forged := sign(t, p.leaf(), other.issuer, p.want.Key, other.key)
	for _, tc := range []struct {
		name         string
		chain, roots []*x509.Certificate
	}{
		{"no issuer", []*x509.Certificate{good}, []*x509.Certificate{p.root}},
		{"nothing", nil, []*x509.Certificate{p.root}},
		{"key of another", []*x509.Certificate{foreignKey, p.issuer}, []*x509.Certificate{p.root}},
		{"issuer of another CA", []*x509.Certificate{forged, other.issuer}, []*x509.Certificate{p.root}},
		{"issuer does not fit", []*x509.Certificate{good, other.issuer}, []*x509.Certificate{p.root, other.root}},
		{"no roots", []*x509.Certificate{good, p.issuer}, nil},
		{"order", []*x509.Certificate{p.issuer, good}, []*x509.Certificate{p.root}},
	} {
		for which, leaves := range map[string]*check.Leaves{"first": {}, "later": proven} {
			if err := leaves.Leaf(tc.chain, tc.roots, p.want); err == nil {
				t.Errorf("%s, %s: passes", tc.name, which)
			}
		}
	}
}

// TestConstraints: what a stolen issuer signs outside of its trust domain, or as a CA, verifies nowhere.
func TestConstraints(t *testing.T) {
	p := newPKI(t)
	foreign, err := identity.New("other.domain", "shop", "accounts")
	if err != nil {
		t.Fatal(err)
	}
	roots, issuers := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(p.root)
	issuers.AddCert(p.issuer)
	opts := x509.VerifyOptions{Roots: roots, Intermediates: issuers, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
	leaf := sign(t, template.Leaf(foreign, big.NewInt(9), p.validity), p.issuer, p.want.Key, p.key)
	if _, err := leaf.Verify(opts); err == nil {
		t.Error("a name of another trust domain verifies")
	}
	sub := newKey(t)
	ca := sign(t, template.Issuer(td, big.NewInt(10), p.validity), p.issuer, sub.Public(), p.key)
	below := sign(t, p.leaf(), ca, p.want.Key, sub)
	issuers.AddCert(ca)
	if _, err := below.Verify(opts); err == nil {
		t.Error("a CA below the issuer verifies")
	}
}
