package service_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/meshd-io/meshd/pkg/ca"
	"github.com/meshd-io/meshd/pkg/ca/attest"
	"github.com/meshd-io/meshd/pkg/ca/catest"
)

// forge makes tokens and CSRs, good and bad. Keys are made once: RSA is slow.
type forge struct {
	t     *testing.T
	ca    *catest.CA
	now   time.Time
	rsa   *rsa.PrivateKey
	other *catest.Tokens
}

func newForge(t *testing.T) *forge {
	t.Helper()
	c := catest.New(t, ca.Lifetimes{}, nil)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	v, err := attest.New(attest.Config{
		TrustDomain: catest.TrustDomain, Issuer: catest.Issuer,
		Keys: attest.Static{Set: c.Tokens.JWKS()}, Pods: deletedPods{"uid-deleted": true},
	})
	if err != nil {
		t.Fatal(err)
	}
	c.Verifier = v
	return &forge{t: t, ca: c, now: time.Now(), rsa: key, other: catest.NewTokens(t)}
}

// deletedPods knows every pod but these.
type deletedPods map[string]bool

func (d deletedPods) PodKnown(_, _, uid string) (known, ok bool) { return !d[uid], true }

// honest is an attempt that must succeed.
func (f *forge) honest() attempt {
	f.t.Helper()
	_, csr := catest.CSR(f.t, &x509.CertificateRequest{})
	return attempt{metadata: []string{"Bearer " + f.ca.Tokens.Token(f.t, "shop", "accounts", f.now)}, csr: csr}
}

// claims are good ones with some replaced; nil removes one. A dot goes into kubernetes.io.
func (f *forge) claims(change map[string]any) map[string]any {
	c := catest.Claims("shop", "accounts", f.now)
	k := c["kubernetes.io"].(map[string]any)
	for name, v := range change {
		m := c
		if rest, ok := strings.CutPrefix(name, "k8s."); ok {
			m, name = k, rest
		}
		if v == nil {
			delete(m, name)
		} else {
			m[name] = v
		}
	}
	return c
}

// token of the right issuer with changed claims.
func (f *forge) token(change map[string]any) string {
	return f.ca.Tokens.Sign(f.t, f.claims(change))
}

// jws signs good claims with any algorithm, key and header.
func (f *forge) jws(alg jose.SignatureAlgorithm, key any, opts *jose.SignerOptions) string {
	f.t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, opts)
	if err != nil {
		f.t.Fatal(err)
	}
	payload, err := json.Marshal(f.claims(nil))
	if err != nil {
		f.t.Fatal(err)
	}
	object, err := signer.Sign(payload)
	if err != nil {
		f.t.Fatal(err)
	}
	out, err := object.CompactSerialize()
	if err != nil {
		f.t.Fatal(err)
	}
	return out
}

// parts puts a token together from a raw header and payload, with a signature of raw bytes.
func parts(header, payload, signature string) string {
	e := base64.RawURLEncoding
	return e.EncodeToString([]byte(header)) + "." + e.EncodeToString([]byte(payload)) + "." + e.EncodeToString([]byte(signature))
}

// resigned signs any payload bytes properly, to get past the signature.
func (f *forge) resigned(payload string) string {
	f.t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: f.ca.Tokens.Key, KeyID: "k1"}}, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	object, err := signer.Sign([]byte(payload))
	if err != nil {
		f.t.Fatal(err)
	}
	out, err := object.CompactSerialize()
	if err != nil {
		f.t.Fatal(err)
	}
	return out
}

// payload is the JSON of good claims.
func (f *forge) payload() string {
	raw, err := json.Marshal(f.claims(nil))
	if err != nil {
		f.t.Fatal(err)
	}
	return string(raw)
}

// csr by any key.
func (f *forge) csr(key crypto.Signer, t x509.CertificateRequest) []byte {
	f.t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &t, key)
	if err != nil {
		f.t.Fatal(err)
	}
	return der
}

// p256 makes a key on a curve.
func (f *forge) ec(curve elliptic.Curve) *ecdsa.PrivateKey {
	f.t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		f.t.Fatal(err)
	}
	return key
}
