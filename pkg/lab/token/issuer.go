package token

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	corev1 "k8s.io/api/core/v1"
)

// URL is the issuer's name, the "iss" of its tokens. Nothing listens there:
// whoever verifies them is given the keys as a file.
const URL = "https://lab.meshd.io"

const keyID = "lab"

// Issuer signs tokens with a key that lives as long as the lab.
type Issuer struct {
	signer jose.Signer
	keys   []byte
	uidOf  func(namespace, account string) string
}

// New makes a key. uidOf gives the uid of a service account, "" where it does not exist.
func New(uidOf func(namespace, account string) string) (*Issuer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("key of the token issuer: %w", err)
	}
	signer, err := jose.NewSigner(
		jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: keyID}},
		(&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return nil, fmt.Errorf("token issuer: %w", err)
	}
	keys, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{
		Key: key.Public(), KeyID: keyID, Algorithm: string(jose.ES256), Use: "sig",
	}}})
	if err != nil {
		return nil, fmt.Errorf("keys of the token issuer: %w", err)
	}
	return &Issuer{signer: signer, keys: keys, uidOf: uidOf}, nil
}

// JWKS is the issuer's public keys (RFC 7517).
func (i *Issuer) JWKS() []byte { return i.keys }

type named struct {
	Name string `json:"name"`
	UID  string `json:"uid"`
}

// bound is what Kubernetes says in its tokens beside RFC 7519's claims.
type bound struct {
	Namespace      string `json:"namespace"`
	Pod            named  `json:"pod"`
	ServiceAccount named  `json:"serviceaccount"`
}

// Token signs a token for the pod's service account. Audience "" is the issuer's own.
func (i *Issuer) Token(p *corev1.Pod, audience string, lifetime time.Duration) (string, error) {
	account := p.Spec.ServiceAccountName
	if account == "" {
		account = "default"
	}
	uid := i.uidOf(p.Namespace, account)
	if uid == "" {
		return "", fmt.Errorf("ServiceAccount %s/%s does not exist", p.Namespace, account)
	}
	if audience == "" {
		audience = URL
	}
	now := time.Now()
	claims := jwt.Claims{
		Issuer: URL, Subject: "system:serviceaccount:" + p.Namespace + ":" + account, Audience: jwt.Audience{audience},
		IssuedAt: jwt.NewNumericDate(now), NotBefore: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(lifetime)),
		ID: rand.Text(),
	}
	kubernetes := map[string]any{"kubernetes.io": bound{
		Namespace: p.Namespace,
		Pod:       named{Name: p.Name, UID: string(p.UID)}, ServiceAccount: named{Name: account, UID: uid},
	}}
	return jwt.Signed(i.signer).Claims(claims).Claims(kubernetes).Serialize()
}
