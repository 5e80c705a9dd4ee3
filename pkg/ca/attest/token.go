package attest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/meshd-io/meshd/internal/clock"
	"github.com/meshd-io/meshd/pkg/authn"
	"github.com/meshd-io/meshd/pkg/ca/refusal"
	"github.com/meshd-io/meshd/pkg/identity"
)

const (
	// Audience that a token for meshd must name.
	Audience = "meshd"
	// MaxTokenSize in bytes; Kubernetes' tokens have 1 to 2 KB.
	MaxTokenSize = 8 << 10
	// DefaultMaxLifetime of a token; the injected one lives an hour.
	DefaultMaxLifetime = 24 * time.Hour
	// DefaultSkew allowed between the issuer's clock and this one.
	DefaultSkew = 10 * time.Second
	// minRSABits of an issuer's key.
	minRSABits = 2048

	subjectPrefix = "system:serviceaccount:"
)

// Keys gives the issuer's public keys as they are now.
type Keys interface {
	Keys() (jose.JSONWebKeySet, error)
}

// Refresher is what Keys may be too: a token by an unknown key then has the keys
// read again, once. How often that may happen is the Refresher's business.
type Refresher interface {
	Refresh(ctx context.Context) error
}

// Issuing is what Keys may be too: it says whose keys they are.
type Issuing interface {
	Issuer() string
}

// Nodes tells where pods run.
type Nodes interface {
	// PodNode is the node of this very pod; ok is false where that cannot be told.
	PodNode(namespace, name, uid string) (node string, ok bool)
}

// Pods tells of pods, so that the token of a deleted pod is worth nothing.
type Pods interface {
	// PodKnown reports whether this very pod exists; ok is false where that cannot be told.
	PodKnown(namespace, name, uid string) (known, ok bool)
}

// Config of a Verifier.
type Config struct {
	TrustDomain string
	// Issuer is the exact "iss" of the tokens; "" where Keys are Issuing.
	Issuer string
	Keys   Keys
	// Audience; "" is Audience.
	Audience string
	// MaxLifetime of a token; 0 is DefaultMaxLifetime.
	MaxLifetime time.Duration
	// Pods may be nil: then no replay after deletion is noticed.
	Pods Pods
	// Nodes may be nil: then a token's claim of a node is not compared.
	Nodes Nodes
	// Clock; nil is the system's.
	Clock clock.Clock
}

// Verifier verifies tokens of one issuer. It is safe for concurrent use.
type Verifier struct {
	cfg Config
}

// New gives a verifier.
func New(cfg Config) (*Verifier, error) {
	if _, issuing := cfg.Keys.(Issuing); cfg.Keys == nil || cfg.Issuer == "" && !issuing {
		return nil, errors.New("attestation needs an issuer and its keys")
	}
	if cfg.Audience == "" {
		cfg.Audience = Audience
	}
	if cfg.MaxLifetime <= 0 {
		cfg.MaxLifetime = DefaultMaxLifetime
	}
	if cfg.Clock == nil {
		cfg.Clock = clock.System{}
	}
	return &Verifier{cfg: cfg}, nil
}

// kubernetesClaims are those that the API server puts into bound tokens.
type kubernetesClaims struct {
	Kubernetes struct {
		Namespace      string `json:"namespace"`
		ServiceAccount named  `json:"serviceaccount"`
		Pod            named  `json:"pod"`
		Node           named  `json:"node"`
	} `json:"kubernetes.io"`
}

type named struct {
	Name string `json:"name"`
	UID  string `json:"uid"`
}

// Attest gives the peer that a token proves. What is wrong with the token is a
// *refusal.Error; any other error is meshd's own failure.
func (v *Verifier) Attest(ctx context.Context, token string) (authn.Peer, error) {
	p, _, err := v.attest(ctx, token)
	return p, err
}

// attest gives the claims too.
func (v *Verifier) attest(ctx context.Context, token string) (authn.Peer, kubernetesClaims, error) {
	var std jwt.Claims
	var k8s kubernetesClaims
	parsed, err := parse(token)
	if err != nil {
		return authn.Peer{}, k8s, err
	}
	err = v.verify(parsed, &std, &k8s)
	if r, ok := v.cfg.Keys.(Refresher); ok && refusal.ReasonOf(err) == refusal.TokenKeyUnknown {
		if r.Refresh(ctx) == nil { // what failed is said by the Refresher
			err = v.verify(parsed, &std, &k8s)
		}
	}
	if err != nil {
		return authn.Peer{}, k8s, err
	}
	if err := v.checkClaims(std); err != nil {
		return authn.Peer{}, k8s, err
	}
	p, err := v.peer(std, k8s)
	return p, k8s, err
}

func (v *Verifier) issuer() string {
	if i, ok := v.cfg.Keys.(Issuing); ok && v.cfg.Issuer == "" {
		return i.Issuer()
	}
	return v.cfg.Issuer
}

// parse reads the compact form only, with the allowed algorithms only.
func parse(token string) (*jwt.JSONWebToken, error) {
	if len(token) > MaxTokenSize {
		return nil, refusal.New(refusal.TokenTooLarge, "the token is too large", "%d bytes, at most %d", len(token), MaxTokenSize)
	}
	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.RS256, jose.ES256})
	var alg *jose.ErrUnexpectedSignatureAlgorithm
	switch {
	case errors.As(err, &alg):
		return nil, refusal.New(refusal.TokenAlgorithm, "the token's algorithm is not RS256 or ES256", "%q", alg.Got)
	case err != nil:
		return nil, refusal.New(refusal.TokenMalformed, "the token is not a signed JWT", "%v", err)
	case len(parsed.Headers) != 1:
		return nil, refusal.New(refusal.TokenMalformed, "the token is not a signed JWT", "%d signatures", len(parsed.Headers))
	}
	return parsed, nil
}

// verify tries the issuer's keys that have the token's key id (all, if it has none) and fit its algorithm.
func (v *Verifier) verify(token *jwt.JSONWebToken, dest ...any) error {
	set, err := v.cfg.Keys.Keys()
	if err != nil {
		return fmt.Errorf("issuer's keys: %w", err)
	}
	header := token.Headers[0]
	candidates := 0
	for _, k := range set.Keys {
		if header.KeyID != "" && k.KeyID != header.KeyID || !fits(k, header.Algorithm) {
			continue
		}
		candidates++
		switch err := token.Claims(k.Key, dest...); {
		case err == nil:
			return nil
		case !errors.Is(err, jose.ErrCryptoFailure):
			return refusal.New(refusal.TokenMalformed, "the token cannot be read", "%v", err)
		}
	}
	if candidates == 0 {
		return refusal.New(refusal.TokenKeyUnknown, "the token is signed by no key of the issuer", "key id %q", header.KeyID)
	}
	return refusal.New(refusal.TokenSignature, "the token's signature is wrong", "key id %q", header.KeyID)
}

// fits tells whether a key may verify signatures of an algorithm.
func fits(k jose.JSONWebKey, alg string) bool {
	if k.Use != "" && k.Use != "sig" || k.Algorithm != "" && k.Algorithm != alg {
		return false
	}
	switch pub := k.Key.(type) {
	case *rsa.PublicKey:
		return alg == string(jose.RS256) && pub.N.BitLen() >= minRSABits
	case *ecdsa.PublicKey:
		return alg == string(jose.ES256) && pub.Curve == elliptic.P256()
	}
	return false
}

// checkClaims judges issuer, audience and times.
func (v *Verifier) checkClaims(c jwt.Claims) error {
	now := v.cfg.Clock.Now()
	switch {
	case c.Issuer != v.issuer():
		return refusal.New(refusal.TokenIssuer, "the token is of another issuer", "%q", c.Issuer)
	case !c.Audience.Contains(v.cfg.Audience):
		return refusal.New(refusal.TokenAudience, "the token is not for "+v.cfg.Audience, "%q", []string(c.Audience))
	case c.Expiry == nil:
		return refusal.New(refusal.TokenLifetime, "the token has no expiry", "")
	case !now.Before(c.Expiry.Time().Add(DefaultSkew)):
		return refusal.New(refusal.TokenExpired, "the token has expired", "at %s", c.Expiry.Time().UTC())
	case c.IssuedAt == nil:
		return refusal.New(refusal.TokenLifetime, "the token does not say when it was issued", "")
	case now.Add(DefaultSkew).Before(c.IssuedAt.Time()):
		return refusal.New(refusal.TokenNotYet, "the token is from the future", "issued at %s", c.IssuedAt.Time().UTC())
	case c.NotBefore != nil && now.Add(DefaultSkew).Before(c.NotBefore.Time()):
		return refusal.New(refusal.TokenNotYet, "the token is not yet valid", "before %s", c.NotBefore.Time().UTC())
	case c.Expiry.Time().Sub(c.IssuedAt.Time()) > v.cfg.MaxLifetime:
		return refusal.New(refusal.TokenLifetime, "the token lives too long", "%s, at most %s",
			c.Expiry.Time().Sub(c.IssuedAt.Time()), v.cfg.MaxLifetime)
	}
	return nil
}

// peer maps the subject to an identity. The subject and the claims of
// kubernetes.io say the same thing twice, and must agree.
func (v *Verifier) peer(c jwt.Claims, k kubernetesClaims) (authn.Peer, error) {
	const wire = "the token's subject is not a service account of this cluster"
	rest, ok := strings.CutPrefix(c.Subject, subjectPrefix)
	namespace, account, ok2 := strings.Cut(rest, ":")
	if !ok || !ok2 {
		return authn.Peer{}, refusal.New(refusal.TokenSubject, wire, "%q", c.Subject)
	}
	if k.Kubernetes.Namespace != namespace || k.Kubernetes.ServiceAccount.Name != account {
		return authn.Peer{}, refusal.New(refusal.TokenSubject, "the token's subject and claims disagree", "%q, but %q/%q",
			c.Subject, k.Kubernetes.Namespace, k.Kubernetes.ServiceAccount.Name)
	}
	id, err := identity.New(v.cfg.TrustDomain, namespace, account)
	if err != nil {
		return authn.Peer{}, refusal.New(refusal.TokenSubject, wire, "%v", err)
	}
	pod := k.Kubernetes.Pod
	if pod.Name == "" || pod.UID == "" {
		return authn.Peer{}, refusal.New(refusal.TokenNotBound, "the token is not bound to a pod", "%q", c.Subject)
	}
	if v.cfg.Pods != nil {
		if known, ok := v.cfg.Pods.PodKnown(namespace, pod.Name, pod.UID); ok && !known {
			return authn.Peer{}, refusal.New(refusal.PodGone, "the pod does not exist", "%s/%s uid %q", namespace, pod.Name, pod.UID)
		}
	}
	if v.cfg.Nodes != nil && k.Kubernetes.Node.Name != "" {
		if node, ok := v.cfg.Nodes.PodNode(namespace, pod.Name, pod.UID); ok && node != k.Kubernetes.Node.Name {
			return authn.Peer{}, refusal.New(refusal.NodeMismatch, "the pod runs on another node than the token says", "%s/%s on %q, not %q",
				namespace, pod.Name, node, k.Kubernetes.Node.Name)
		}
	}
	return authn.Peer{Identity: id, NotAfter: c.Expiry.Time(), Pod: pod.Name, PodUID: pod.UID}, nil
}
