package ca_test

import (
	"crypto"
	"crypto/elliptic"
	"crypto/x509"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/meshd-io/meshd/internal/clock/clocktest"
	"github.com/meshd-io/meshd/pkg/ca"
	"github.com/meshd-io/meshd/pkg/ca/catest"
)

// turncoat is a key that becomes another one.
type turncoat struct {
	public, signs crypto.Signer
}

func (k *turncoat) Public() crypto.PublicKey { return k.public.Public() }

func (k *turncoat) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return k.signs.Sign(random, digest, opts)
}

// TestIssuersKeyIsWrong: nothing leaves the CA that the issuer's certificate
// does not verify, though only the first leaf of an issuer is verified by it:
// x509.CreateCertificate refuses a wrong key and a wrong signature.
func TestIssuersKeyIsWrong(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	root := outside{}.sign(t, authorityTemplate("root", now.Add(-time.Hour)), ecKey(t, elliptic.P256()))
	tmpl := authorityTemplate("intermediate", now)
	tmpl.MaxPathLen, tmpl.MaxPathLenZero = 0, true // it signs leaves itself
	key, other := ecKey(t, elliptic.P256()), ecKey(t, elliptic.P256())
	signs := &turncoat{public: key, signs: key}
	intermediate := root.sign(t, tmpl, signs)
	a, err := ca.New(ca.Config{
		TrustDomain: catest.TrustDomain, Clock: clocktest.New(now), Log: slog.New(slog.DiscardHandler),
		Intermediate: &ca.Intermediate{Chain: []*x509.Certificate{intermediate.cert}, Key: signs, Roots: []*x509.Certificate{root.cert}},
	})
	if err != nil {
		t.Fatal(err)
	}
	_, csr := catest.CSR(t, &x509.CertificateRequest{})
	for _, tc := range []struct {
		name    string
		becomes turncoat
		good    bool
	}{
		{"its own", turncoat{key, key}, true},
		{"another one signs", turncoat{key, other}, false},
		{"another one", turncoat{other, other}, false},
		{"its own again", turncoat{key, key}, true},
	} {
		*signs = tc.becomes
		if _, err := a.Sign(accounts(t), csr, 0); (err == nil) != tc.good {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}
