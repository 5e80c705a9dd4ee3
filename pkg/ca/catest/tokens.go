// Package catest has a token issuer and a whole CA for tests: real ones, on
// loopback, with keys of their own.
package catest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/meshd-io/meshd/pkg/ca/attest"
)

// Issuer is the "iss" of the tokens made here.
const Issuer = "https://kubernetes.default.svc.cluster.local"

// Tokens issues service-account tokens as an API server does.
type Tokens struct {
	Key *ecdsa.PrivateKey
	KID string
}

// NewTokens makes an issuer with a new P-256 key.
func NewTokens(t testing.TB) *Tokens {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &Tokens{Key: key, KID: "k1"}
}

// JWKS are the public keys.
func (k *Tokens) JWKS() jose.JSONWebKeySet {
	return jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: k.Key.Public(), KeyID: k.KID, Algorithm: "ES256", Use: "sig"}}}
}

// Claims of a good token for a service account and its pod: the pod is called
// as the account, its uid is "uid-" and that.
func Claims(namespace, account string, now time.Time) map[string]any {
	return map[string]any{
		"iss": Issuer,
		"aud": []string{attest.Audience},
		"sub": "system:serviceaccount:" + namespace + ":" + account,
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(time.Hour).Unix(),
		"kubernetes.io": map[string]any{
			"namespace":      namespace,
			"serviceaccount": map[string]any{"name": account, "uid": "sa-" + account},
			"pod":            map[string]any{"name": account, "uid": "uid-" + account},
		},
	}
}

// Sign makes a token of any claims.
func (k *Tokens) Sign(t testing.TB, claims any) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: k.Key, KeyID: k.KID}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// Token is a good token.
func (k *Tokens) Token(t testing.TB, namespace, account string, now time.Time) string {
	t.Helper()
	return k.Sign(t, Claims(namespace, account, now))
}
