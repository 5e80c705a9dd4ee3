package ca_test

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/meshd-io/meshd/internal/clock/clocktest"
	"github.com/meshd-io/meshd/pkg/ca"
	"github.com/meshd-io/meshd/pkg/ca/catest"
)

// givenCA is a kind of CA that cert-manager makes.
type givenCA struct {
	name string
	s    secret
	// chain is how many certificates are shown: one more where meshd may have an issuer of its own below it.
	chain int
}

func givenCAs(t testing.TB, now time.Time) []givenCA {
	root := outside{}.sign(t, authorityTemplate("root", now.Add(-time.Hour)), ecKey(t, elliptic.P384()))
	below := func(o outside, pathLen int, key crypto.Signer) outside {
		tmpl := authorityTemplate("intermediate", now)
		tmpl.MaxPathLen, tmpl.MaxPathLenZero = pathLen, pathLen == 0
		return o.sign(t, tmpl, key)
	}
	p256, p384, rsa2048 := below(root, -1, ecKey(t, elliptic.P256())), below(root, 1, ecKey(t, elliptic.P384())), below(root, 0, rsaKey(t, 2048))
	under := p256.sign(t, authorityTemplate("second intermediate", now), ecKey(t, elliptic.P256()))
	limited := authorityTemplate("root", now)
	limited.MaxPathLen = 1
	limitedRoot := outside{}.sign(t, limited, ecKey(t, elliptic.P256()))
	underLimited := below(limitedRoot, -1, ecKey(t, elliptic.P256()))
	leavesOnly := authorityTemplate("root", now)
	leavesOnly.MaxPathLen, leavesOnly.MaxPathLenZero = 0, true
	single := outside{}.sign(t, leavesOnly, rsaKey(t, 2048))
	return []givenCA{
		{"P-256 in SEC 1", secret{certPEM(p256), keyPEM(t, p256.key, "EC PRIVATE KEY"), certPEM(root)}, 3},
		{"P-384 in PKCS 8", secret{certPEM(p384), keyPEM(t, p384.key, "PRIVATE KEY"), certPEM(root)}, 3},
		{"RSA in PKCS 1, leaves only", secret{certPEM(rsa2048), keyPEM(t, rsa2048.key, "RSA PRIVATE KEY"), certPEM(root)}, 2},
		{"self-signed", secret{certPEM(root), keyPEM(t, root.key, "PRIVATE KEY"), certPEM(root)}, 2},
		{"self-signed, leaves only", secret{certPEM(single), keyPEM(t, single.key, "PRIVATE KEY"), certPEM(single)}, 1},
		{"chain that ends in the root", secret{certPEM(under, p256, root), keyPEM(t, under.key, "PRIVATE KEY"), nil}, 4},
		{"two levels", secret{certPEM(under, p256), keyPEM(t, under.key, "PRIVATE KEY"), certPEM(limitedRoot, root)}, 4},
		{"the root allows one level", secret{certPEM(underLimited), keyPEM(t, underLimited.key, "PRIVATE KEY"), certPEM(limitedRoot)}, 2},
	}
}

// TestGivenCA: each kind signs what go-spiffe verifies.
func TestGivenCA(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	for _, tc := range givenCAs(t, now) {
		t.Run(tc.name, func(t *testing.T) {
			in, err := tc.s.parse()
			if err != nil {
				t.Fatal(err)
			}
			a, err := ca.New(ca.Config{TrustDomain: catest.TrustDomain, Intermediate: &in, Clock: clocktest.New(now)})
			if err != nil {
				t.Fatal(err)
			}
			issued := issue(t, a, now, 0)
			if len(issued.Chain) != tc.chain {
				t.Errorf("%d certificates are shown, want %d", len(issued.Chain), tc.chain)
			}
			if got := issued.NotAfter().Sub(now); got != time.Hour {
				t.Errorf("the leaf lives for %s", got)
			}
			if _, err := a.WebhookTLS("meshd.meshd-system.svc"); err != nil {
				t.Error(err)
			}
			for _, r := range a.Roots() {
				if !bytes.Equal(r.RawSubject, r.RawIssuer) {
					t.Errorf("%s is no root", r.Subject)
				}
			}
		})
	}
}

// TestBadGivenCA: what cannot serve is refused with the key of the Secret that
// is wrong, and the CA before it stays in force.
func TestBadGivenCA(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	root := outside{}.sign(t, authorityTemplate("root", now.Add(-time.Hour)), ecKey(t, elliptic.P256()))
	foreign := outside{}.sign(t, authorityTemplate("root", now.Add(-time.Hour)), ecKey(t, elliptic.P256()))
	good := root.sign(t, authorityTemplate("intermediate", now), ecKey(t, elliptic.P256()))
	with := func(change func(*x509.Certificate)) secret {
		tmpl := authorityTemplate("intermediate", now)
		change(tmpl)
		c := root.sign(t, tmpl, ecKey(t, elliptic.P256()))
		return secret{certPEM(c), keyPEM(t, c.key, "PRIVATE KEY"), certPEM(root)}
	}
	keyed := func(key crypto.Signer) secret {
		c := root.sign(t, authorityTemplate("intermediate", now), key)
		return secret{certPEM(c), keyPEM(t, key, "PRIVATE KEY"), certPEM(root)}
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sameName := root.sign(t, authorityTemplate("root", now), ecKey(t, elliptic.P256()))
	goodKey, goodRoot := keyPEM(t, good.key, "PRIVATE KEY"), certPEM(root)
	t.Setenv("GODEBUG", "rsa1024min=0")
	for _, tc := range []struct {
		name string
		s    secret
		want string
	}{
		{"empty", secret{}, "tls.crt and tls.key are needed"},
		{"no certificate", secret{[]byte("x"), goodKey, goodRoot}, "tls.crt: has bytes that are not PEM"},
		{"key among the certificates", secret{append(certPEM(good), goodKey...), goodKey, goodRoot}, "tls.crt: unexpected"},
		{"no key", secret{certPEM(good), certPEM(good), goodRoot}, "tls.key: unexpected"},
		{"two keys", secret{certPEM(good), append(goodKey, goodKey...), goodRoot}, "tls.key: holds more than one"},
		{"broken key", secret{certPEM(good), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("top secret")}), goodRoot}, "tls.key: the private key cannot be parsed"},
		{"another's key", secret{certPEM(good), keyPEM(t, root.key, "PRIVATE KEY"), goodRoot}, "tls.key: it is not the key"},
		{"no root", secret{certPEM(good), goodKey, nil}, "ca.crt: there is no self-signed root"},
		{"an intermediate as root", secret{certPEM(good), goodKey, certPEM(good)}, "ca.crt: there is no self-signed root"},
		{"another root of the same name", secret{certPEM(good), goodKey, certPEM(foreign)}, "does not lead to a root"},
		{"too long", secret{certPEM(good, good, good, good, good), goodKey, goodRoot}, "tls.crt: it holds 5"},
		{"Ed25519", keyed(edKey), "tls.key: key is a ed25519"},
		{"P-521", keyed(ecKey(t, elliptic.P521())), "P-521"},
		{"RSA 1024", keyed(rsaKey(t, 1024)), "1024 bits"},
		{"expired", with(func(c *x509.Certificate) { c.NotBefore, c.NotAfter = now.Add(-time.Hour), now.Add(-time.Minute) }), "it expired at"},
		{"not yet", with(func(c *x509.Certificate) { c.NotBefore = now.Add(time.Minute) }), "not valid before"},
		{"no CA", with(func(c *x509.Certificate) { c.IsCA, c.MaxPathLen = false, 0 }), "not a CA"},
		{"may not sign", with(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature }), "does not allow signing"},
		{"constrained elsewhere", with(func(c *x509.Certificate) { c.PermittedURIDomains = []string{"other.domain"} }), "not permitted by any constraint"},
		{"excluded", with(func(c *x509.Certificate) { c.ExcludedURIDomains = []string{catest.TrustDomain} }), "excluded by constraint"},
		{"for code", with(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning} }), "incompatible key usage"},
		{"the name of its issuer", secret{certPEM(sameName), keyPEM(t, sameName.key, "PRIVATE KEY"), goodRoot}, "same name"},
		{"for clients", with(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }), "incompatible key usage"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := catest.New(t, ca.Lifetimes{}, clocktest.New(now))
			before, bundle := c.Authority.Issuer(), c.Authority.Bundle()
			in, err := tc.s.parse()
			if err == nil {
				err = c.Authority.SetIntermediate(in)
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v, want %q", err, tc.want)
			}
			if err != nil && strings.Contains(err.Error(), "top secret") {
				t.Error("the error quotes the key")
			}
			if !c.Authority.Issuer().Equal(before) || c.Authority.Bundle() != bundle || c.Authority.Waiting() != nil {
				t.Error("a refused CA changed something")
			}
			if err == nil {
				return
			}
			if _, err := ca.New(ca.Config{TrustDomain: catest.TrustDomain, Intermediate: &in}); err == nil {
				t.Error("taken at the start")
			}
		})
	}
}

// TestConstrainedDNS: a CA that may not name the webhook does not replace one under which it is served.
func TestConstrainedDNS(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	root := outside{}.sign(t, authorityTemplate("root", now), ecKey(t, elliptic.P256()))
	tmpl := authorityTemplate("intermediate", now)
	tmpl.PermittedDNSDomains = []string{"example.com"}
	c := root.sign(t, tmpl, ecKey(t, elliptic.P256()))
	in, err := ca.ParseIntermediate(certPEM(c), keyPEM(t, c.key, "PRIVATE KEY"), certPEM(root))
	if err != nil {
		t.Fatal(err)
	}
	own := catest.New(t, ca.Lifetimes{}, clocktest.New(now))
	if err := own.Authority.SetIntermediate(in); err != nil {
		t.Errorf("without a webhook: %v", err)
	}
	own = catest.New(t, ca.Lifetimes{}, clocktest.New(now))
	if _, err := own.Authority.WebhookTLS("meshd.meshd-system.svc"); err != nil {
		t.Fatal(err)
	}
	if err := own.Authority.SetIntermediate(in); err == nil || !strings.Contains(err.Error(), "meshd.meshd-system.svc") {
		t.Errorf("with a webhook: %v", err)
	}
}

// TestChangeOfSource: another root joins the bundle first, signs after Promote,
// and the former stays trusted; a renewal below a trusted root signs at once.
func TestChangeOfSource(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	c := catest.New(t, ca.Lifetimes{}, clocktest.New(now))
	a := c.Authority
	own, old := a.Roots()[0], issue(t, a, now, 0)
	server, err := a.ServerCertificate(catest.MeshdID(t))
	if err != nil {
		t.Fatal(err)
	}
	root := outside{}.sign(t, authorityTemplate("root", now), ecKey(t, elliptic.P256()))
	given := func() ca.Intermediate {
		tmpl := authorityTemplate("intermediate", now)
		tmpl.SerialNumber = big.NewInt(time.Now().UnixNano())
		i := root.sign(t, tmpl, ecKey(t, elliptic.P256()))
		in, err := ca.ParseIntermediate(certPEM(i), keyPEM(t, i.key, "PRIVATE KEY"), certPEM(root))
		if err != nil {
			t.Fatal(err)
		}
		return in
	}
	changed := a.Changed()
	first := given()
	if err := a.SetIntermediate(first); err != nil {
		t.Fatal(err)
	}
	select {
	case <-changed:
	default:
		t.Error("nobody is told of the new bundle")
	}
	if len(a.Roots()) != 2 || !a.Waiting().Equal(first.Chain[0]) {
		t.Fatalf("%d roots, waiting %v", len(a.Roots()), a.Waiting())
	}
	if signedBelow(issue(t, a, now, 0), root.cert, now) {
		t.Fatal("signs below a root that proxies do not trust yet")
	}
	if err := a.Promote(own); err != nil || a.Waiting() == nil {
		t.Fatalf("another than waits was promoted (%v)", err)
	}
	if err := a.Promote(a.Waiting()); err != nil {
		t.Fatal(err)
	}
	if a.Waiting() != nil || len(a.Roots()) != 2 {
		t.Errorf("after promotion: %d roots, waiting %v", len(a.Roots()), a.Waiting())
	}
	issued := issue(t, a, now, 0)
	if !signedBelow(issued, root.cert, now) || signedBelow(issued, own, now) {
		t.Error("does not sign below the new root")
	}
	verify(t, ca.Issued{Chain: old.Chain, Roots: issued.Roots}, now) // what was signed before stays good
	if next, err := a.ServerCertificate(catest.MeshdID(t)); err != nil || !next.Leaf.Equal(server.Leaf) {
		t.Errorf("meshd shows a certificate that agents may not trust yet (%v)", err)
	}

	renewed := given()
	bundle := a.Bundle()
	if err := a.SetIntermediate(renewed); err != nil || a.Waiting() != nil || a.Bundle() != bundle {
		t.Fatalf("renewal: %v, waiting %v", err, a.Waiting())
	}
	if got := issue(t, a, now, 0).Chain[2]; !got.Equal(renewed.Chain[0]) {
		t.Errorf("signs below %s", got.SerialNumber)
	}
	issuer := a.Issuer()
	if err := a.SetIntermediate(renewed); err != nil || !a.Issuer().Equal(issuer) {
		t.Errorf("the same CA once more made another issuer (%v)", err)
	}
	if err := a.SetSelfSigned(); err != nil || a.Waiting() != nil || !signedBelow(issue(t, a, now, 0), own, now) {
		t.Errorf("back to a root that is still trusted: %v", err)
	}
	if a.Bundle() != bundle {
		t.Error("equal trust is not equal bytes")
	}
}

// TestWithdrawnCA: one that waits is forgotten when the CA in force is set again.
func TestWithdrawnCA(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	a := catest.New(t, ca.Lifetimes{}, clocktest.New(now)).Authority
	bundle := a.Bundle()
	root := outside{}.sign(t, authorityTemplate("root", now), ecKey(t, elliptic.P256()))
	in, err := ca.ParseIntermediate(certPEM(root), keyPEM(t, root.key, "PRIVATE KEY"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.SetIntermediate(in); err != nil || a.Waiting() == nil {
		t.Fatalf("%v, waiting %v", err, a.Waiting())
	}
	if err := a.SetSelfSigned(); err != nil || a.Waiting() != nil || a.Bundle() != bundle {
		t.Errorf("%v, waiting %v", err, a.Waiting())
	}
}

// TestExpiredCAIsReplacedAtOnce: nothing can be signed meanwhile.
func TestExpiredCAIsReplacedAtOnce(t *testing.T) {
	clk := clocktest.New(time.Now().Truncate(time.Second))
	in := func() ca.Intermediate {
		root := outside{}.sign(t, authorityTemplate("root", clk.Now()), ecKey(t, elliptic.P256()))
		in, err := ca.ParseIntermediate(certPEM(root), keyPEM(t, root.key, "PRIVATE KEY"), nil)
		if err != nil {
			t.Fatal(err)
		}
		return in
	}
	first := in()
	a, err := ca.New(ca.Config{TrustDomain: catest.TrustDomain, Intermediate: &first, Clock: clk})
	if err != nil {
		t.Fatal(err)
	}
	clk.Advance(1001 * time.Hour)
	_, csr := catest.CSR(t, &x509.CertificateRequest{})
	if _, err := a.Sign(accounts(t), csr, 0); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("below an expired CA: %v", err)
	}
	if err := a.SetIntermediate(first); err == nil || !strings.Contains(err.Error(), "it expired at") {
		t.Errorf("the expired one again: %v", err)
	}
	second := in()
	if err := a.SetIntermediate(second); err != nil || a.Waiting() != nil {
		t.Fatalf("%v, waiting %v", err, a.Waiting())
	}
	issue(t, a, clk.Now(), 0)
	if len(a.Roots()) != 1 {
		t.Errorf("%d roots: an expired one is trusted", len(a.Roots()))
	}
}

// FuzzIntermediate: whatever a Secret holds, what passes fits together, and no error quotes the key.
func FuzzIntermediate(f *testing.F) {
	root := outside{}.sign(f, authorityTemplate("root", time.Now()), ecKey(f, elliptic.P256()))
	key := keyPEM(f, root.key, "PRIVATE KEY")
	f.Add(certPEM(root), key, certPEM(root))
	f.Add(certPEM(root, root), key, []byte{})
	f.Add([]byte("-----BEGIN CERTIFICATE-----"), []byte("x"), []byte("y"))
	f.Fuzz(func(t *testing.T, crt, key, roots []byte) {
		in, err := ca.ParseIntermediate(crt, key, roots)
		switch {
		case err != nil:
			if len(key) > 40 && strings.Contains(err.Error(), string(key)) {
				t.Error("the error quotes the key")
			}
		case len(in.Chain) == 0 || in.Key == nil || len(in.Roots) == 0:
			t.Errorf("%d certificates, %d roots", len(in.Chain), len(in.Roots))
		}
	})
}

// TestOwnRootBesideGiven: after a restart with a given CA the root of the store is trusted, and none is made where there is none.
func TestOwnRootBesideGiven(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	root := outside{}.sign(t, authorityTemplate("root", now), ecKey(t, elliptic.P256()))
	in, err := ca.ParseIntermediate(certPEM(root), keyPEM(t, root.key, "PRIVATE KEY"), nil)
	if err != nil {
		t.Fatal(err)
	}
	store := &memory{}
	cfg := ca.Config{TrustDomain: catest.TrustDomain, Store: store, Intermediate: &in}
	a, err := ca.New(cfg)
	if err != nil || len(a.Roots()) != 1 || store.pair != nil {
		t.Fatalf("%v, store %v", err, store.pair)
	}
	own, err := ca.New(ca.Config{TrustDomain: catest.TrustDomain, Store: store})
	if err != nil {
		t.Fatal(err)
	}
	if a, err = ca.New(cfg); err != nil || len(a.Roots()) != 2 {
		t.Fatalf("%v, %d roots", err, len(a.Roots()))
	}
	verify(t, ca.Issued{Chain: issue(t, own, now, 0).Chain, Roots: a.Roots()}, time.Now())
}

// memory is a store.
type memory struct{ pair *ca.Pair }

func (m *memory) Root(create func() (ca.Pair, error)) (ca.Pair, error) {
	if m.pair == nil {
		pair, err := create()
		if err != nil {
			return pair, err
		}
		m.pair = &pair
	}
	return *m.pair, nil
}

// signedBelow reports whether the root alone verifies it.
func signedBelow(issued ca.Issued, root *x509.Certificate, now time.Time) bool {
	roots, above := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(root)
	for _, c := range issued.Chain[1:] {
		above.AddCert(c)
	}
	_, err := issued.Chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: above, CurrentTime: now})
	return err == nil
}

// TestSignWithin: the whole validity is the leaf lifetime, brought into the bounds.
func TestSignWithin(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	for _, tc := range []struct{ leaf, most, want time.Duration }{
		{time.Hour, 24 * time.Hour, time.Hour + ca.DefaultSkew},
		{time.Hour, time.Hour, time.Hour},
		{10 * time.Minute, 24 * time.Hour, time.Hour}, // Kubernetes takes none shorter
		{100 * time.Hour, 24 * time.Hour, 24 * time.Hour},
	} {
		c := catest.New(t, ca.Lifetimes{Root: 87600 * time.Hour, Issuer: 1000 * time.Hour, Leaf: tc.leaf}, clocktest.New(now))
		_, csr := catest.CSR(t, &x509.CertificateRequest{URIs: []*url.URL{accounts(t).SPIFFE().URL()}})
		issued, err := c.Authority.SignWithin(accounts(t), csr, time.Hour, tc.most)
		if err != nil {
			t.Fatal(err)
		}
		verify(t, issued, now)
		if got := issued.Chain[0].NotAfter.Sub(issued.Chain[0].NotBefore); got != tc.want {
			t.Errorf("leaf %s, at most %s: %s, want %s", tc.leaf, tc.most, got, tc.want)
		}
	}
	c := catest.New(t, ca.Lifetimes{Root: 1000 * time.Hour, Issuer: 30 * time.Minute, Leaf: 30 * time.Minute}, clocktest.New(now))
	_, csr := catest.CSR(t, &x509.CertificateRequest{})
	if _, err := c.Authority.SignWithin(accounts(t), csr, time.Hour, 24*time.Hour); err == nil || !strings.Contains(err.Error(), "after the signer's") {
		t.Errorf("an issuer that lives too short: %v", err)
	}
}
