package ca

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"sync"
	"time"

	"github.com/meshd-io/meshd/internal/clock"
	"github.com/meshd-io/meshd/pkg/ca/check"
	"github.com/meshd-io/meshd/pkg/ca/request"
	"github.com/meshd-io/meshd/pkg/ca/template"
	"github.com/meshd-io/meshd/pkg/identity"
)

// Pair is a CA certificate with its key.
type Pair struct {
	Certificate *x509.Certificate
	Key         crypto.Signer
}

// Store keeps the root.
type Store interface {
	// Root gives the stored root. If there is none it stores what create makes;
	// of several processes that do this at once, all get the same root.
	Root(create func() (Pair, error)) (Pair, error)
}

// Config of an Authority.
type Config struct {
	TrustDomain string
	Store       Store
	// Lifetimes; the zero value is DefaultLifetimes.
	Lifetimes Lifetimes
	// Skew by which not-before is backdated; 0 is DefaultSkew.
	Skew time.Duration
	// Clock; nil is the system's.
	Clock clock.Clock
	// Log; nil is slog.Default.
	Log *slog.Logger
}

// Authority signs. It is safe for concurrent use.
type Authority struct {
	trustDomain string
	skew        time.Duration
	clock       clock.Clock
	log         *slog.Logger
	root        Pair

	mu        sync.Mutex
	lifetimes Lifetimes
	issuer    Pair
	servers   map[identity.ID]*serverCertificate
	// changed is closed and replaced when lifetimes change, so that Run looks at its times again.
	changed chan struct{}
}

// Issued is a certificate with what its holder needs beside it.
type Issued struct {
	// Chain is the leaf and its issuer.
	Chain []*x509.Certificate
	// Roots of the trust domain.
	Roots []*x509.Certificate
}

// NotAfter is the expiry of the leaf.
func (i Issued) NotAfter() time.Time { return i.Chain[0].NotAfter }

// New opens the store, or makes a root in it, and makes an issuer. It fails
// when the root is not usable: a CA that signs what nobody can verify is worse than none.
func New(cfg Config) (*Authority, error) {
	if cfg.Lifetimes == (Lifetimes{}) {
		cfg.Lifetimes = DefaultLifetimes()
	}
	if err := cfg.Lifetimes.Validate(); err != nil {
		return nil, err
	}
	if _, err := identity.New(cfg.TrustDomain, "probe", "probe"); err != nil {
		return nil, err
	}
	a := &Authority{
		trustDomain: cfg.TrustDomain, skew: cfg.Skew, clock: cfg.Clock, log: cfg.Log, lifetimes: cfg.Lifetimes,
		servers: map[identity.ID]*serverCertificate{}, changed: make(chan struct{}),
	}
	if a.skew <= 0 {
		a.skew = DefaultSkew
	}
	if a.clock == nil {
		a.clock = clock.System{}
	}
	if a.log == nil {
		a.log = slog.Default()
	}
	root, err := cfg.Store.Root(a.newRoot)
	if err != nil {
		return nil, fmt.Errorf("root: %w", err)
	}
	if err := check.Authority(root.Certificate, a.trustDomain, a.clock.Now()); err != nil {
		return nil, fmt.Errorf("root: %w", err)
	}
	a.root = root
	if err := a.start(); err != nil {
		return nil, err
	}
	return a, nil
}

// start makes the first issuer and tries it: a trust domain that certificates
// cannot be constrained to (an IP address) is found here.
func (a *Authority) start() error {
	a.mu.Lock()
	err := a.renewIssuer()
	a.mu.Unlock()
	if err != nil {
		return err
	}
	probe, err := identity.New(a.trustDomain, "probe", "probe")
	if err != nil {
		return err
	}
	if _, err := a.newServerCertificate(probe); err != nil {
		return fmt.Errorf("trial: %w", err)
	}
	return nil
}

func (a *Authority) newRoot() (Pair, error) {
	v, err := template.Between(a.clock.Now(), a.lifetimes.Root, a.skew, nil)
	if err != nil {
		return Pair{}, err
	}
	key, serial, err := newKey()
	if err != nil {
		return Pair{}, err
	}
	t := template.Root(a.trustDomain, serial, v)
	cert, err := sign(t, t, key.Public(), key)
	return Pair{Certificate: cert, Key: key}, err
}

// renewIssuer makes a new issuer under the root. a.mu is held.
func (a *Authority) renewIssuer() error {
	now := a.clock.Now()
	v, err := template.Between(now, a.lifetimes.Issuer, a.skew, a.root.Certificate)
	if err != nil {
		return fmt.Errorf("issuer: root: %w", err)
	}
	key, serial, err := newKey()
	if err != nil {
		return fmt.Errorf("issuer: %w", err)
	}
	cert, err := sign(template.Issuer(a.trustDomain, serial, v), a.root.Certificate, key.Public(), a.root.Key)
	if err != nil {
		return fmt.Errorf("issuer: %w", err)
	}
	if err := check.Authority(cert, a.trustDomain, now); err != nil {
		return fmt.Errorf("issuer: %w", err)
	}
	a.issuer = Pair{Certificate: cert, Key: key}
	a.log.Info("issuer made", "serial", cert.SerialNumber.Text(16), "notAfter", cert.NotAfter.UTC())
	return nil
}

// issuerDue is when the issuer is renewed: at half of its life, so that each
// leaf has at least the other half. a.mu is held.
func (a *Authority) issuerDue() time.Time {
	c := a.issuer.Certificate
	start := c.NotBefore.Add(a.skew)
	return start.Add(c.NotAfter.Sub(start) / 2)
}

// currentIssuer is an issuer that is not past its half-life.
func (a *Authority) currentIssuer() (Pair, Lifetimes, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.clock.Now()
	if !now.Before(a.issuerDue()) {
		if err := a.renewIssuer(); err != nil {
			// The old one still signs while it lives: the root's last days must not stop the mesh early.
			if !now.Before(a.issuer.Certificate.NotAfter) {
				return Pair{}, Lifetimes{}, err
			}
			a.log.Error("issuer is not renewed", "error", err, "notAfter", a.issuer.Certificate.NotAfter.UTC())
		}
	}
	return a.issuer, a.lifetimes, nil
}

// Sign issues a certificate for a proven identity to the holder of the CSR's
// key. ttl shortens the leaf's life; 0 is the setting. What the CSR or the ttl
// does wrong is a *refusal.Error, any other error is the CA's own failure.
func (a *Authority) Sign(id identity.ID, csr []byte, ttl time.Duration) (Issued, error) {
	key, err := request.Check(csr, id)
	if err != nil {
		return Issued{}, err
	}
	return a.signKey(id, key, ttl)
}

func (a *Authority) signKey(id identity.ID, key *ecdsa.PublicKey, want time.Duration) (Issued, error) {
	if id.TrustDomain() != a.trustDomain {
		return Issued{}, fmt.Errorf("identity %s is not of trust domain %s", id, a.trustDomain)
	}
	issuer, lifetimes, err := a.currentIssuer()
	if err != nil {
		return Issued{}, err
	}
	ttl, err := lifetimes.leafTTL(want)
	if err != nil {
		return Issued{}, err
	}
	now := a.clock.Now()
	v, err := template.Between(now, ttl, a.skew, issuer.Certificate)
	if err != nil {
		return Issued{}, fmt.Errorf("leaf: issuer: %w", err)
	}
	serial, err := newSerial()
	if err != nil {
		return Issued{}, err
	}
	leaf, err := sign(template.Leaf(id, serial, v), issuer.Certificate, key, issuer.Key)
	if err != nil {
		return Issued{}, fmt.Errorf("leaf: %w", err)
	}
	issued := Issued{Chain: []*x509.Certificate{leaf, issuer.Certificate}, Roots: a.Roots()}
	w := check.Want{ID: id, Key: key, Now: now, TTL: ttl, Skew: a.skew}
	if err := check.Leaf(issued.Chain, issued.Roots, w); err != nil {
		return Issued{}, fmt.Errorf("signed leaf does not pass: %w", err)
	}
	return issued, nil
}

// TrustDomain that the authority signs for.
func (a *Authority) TrustDomain() string { return a.trustDomain }

// Roots are the certificates that peers trust.
func (a *Authority) Roots() []*x509.Certificate { return []*x509.Certificate{a.root.Certificate} }

// Bundle is Roots in PEM.
func (a *Authority) Bundle() string {
	var out []byte
	for _, c := range a.Roots() {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return string(out)
}

// Issuer is the certificate that signs now.
func (a *Authority) Issuer() *x509.Certificate {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.issuer.Certificate
}

// Lifetimes in force.
func (a *Authority) Lifetimes() Lifetimes {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.lifetimes
}

// SetLifetimes changes the lifetimes of what is signed from now on. A new
// issuer lifetime makes a new issuer; the root keeps its life until it is
// rotated. Refused lifetimes change nothing.
func (a *Authority) SetLifetimes(l Lifetimes) error {
	if err := l.Validate(); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	old := a.lifetimes
	if l == old {
		return nil
	}
	a.lifetimes = l
	if l.Issuer != old.Issuer {
		if err := a.renewIssuer(); err != nil {
			a.lifetimes = old
			return err
		}
	}
	a.log.Info("lifetimes set", "issuer", l.Issuer, "leaf", l.Leaf)
	close(a.changed)
	a.changed = make(chan struct{})
	return nil
}

// Run renews the issuer and meshd's own certificates at half-life until ctx
// ends. Signing renews what is due too, so that a late Run never means an
// expired issuer.
func (a *Authority) Run(ctx context.Context) error {
	for {
		if _, _, err := a.currentIssuer(); err != nil {
			a.log.Error("issuer is not renewed", "error", err)
		}
		a.renewServers()
		wait, changed := a.nextDue()
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-a.clock.After(wait):
		}
	}
}

// retryAfter a renewal that failed, and the shortest sleep of Run.
const retryAfter = time.Second

func (a *Authority) nextDue() (time.Duration, <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	due := a.issuerDue()
	for _, s := range a.servers {
		if s.due.Before(due) {
			due = s.due
		}
	}
	return max(due.Sub(a.clock.Now()), retryAfter), a.changed
}

// sign makes a certificate and reads it back.
func sign(t, parent *x509.Certificate, key crypto.PublicKey, by crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, t, parent, key, by)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func newKey() (*ecdsa.PrivateKey, *big.Int, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	serial, err := newSerial()
	return key, serial, err
}

// newSerial is positive and has template.SerialBits of randomness.
func newSerial() (*big.Int, error) {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), template.SerialBits))
	if err != nil {
		return nil, err
	}
	return n.Add(n, big.NewInt(1)), nil
}
