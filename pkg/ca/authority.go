package ca

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
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
	// Store of meshd's own root. It may be nil where Intermediate is given and stays.
	Store Store
	// Intermediate signs instead of the store's root, which then stays trusted if it exists.
	Intermediate *Intermediate
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
	store       Store
	skew        time.Duration
	clock       clock.Clock
	log         *slog.Logger
	leaves      check.Leaves

	mu        sync.Mutex
	lifetimes Lifetimes
	own       *signer // the store's root, once it was read
	current   signer
	waiting   *signer             // its roots are in the bundle; it signs after Promote
	former    []*x509.Certificate // roots that stay trusted
	roots     []*x509.Certificate // the bundle: those of current, waiting and former; replaced, never changed
	bundle    string              // roots in PEM
	issuer    Pair                // current's own, or current itself
	servers   map[serverName]*serverCertificate
	// changed is closed and replaced when any of the above changes, so that Run looks at its times again.
	changed chan struct{}
}

// Issued is a certificate with what its holder needs beside it.
type Issued struct {
	// Chain is the leaf and what signed it, without the root.
	Chain []*x509.Certificate
	// Roots of the trust domain.
	Roots []*x509.Certificate
}

// NotAfter is the expiry of the leaf.
func (i Issued) NotAfter() time.Time { return i.Chain[0].NotAfter }

// New opens the store, or makes a root in it, and makes an issuer. It fails
// when the root, or the intermediate, is not usable: a CA that signs what nobody
// can verify is worse than none.
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
		trustDomain: cfg.TrustDomain, store: cfg.Store, skew: cfg.Skew, clock: cfg.Clock, log: cfg.Log, lifetimes: cfg.Lifetimes,
		servers: map[serverName]*serverCertificate{}, changed: make(chan struct{}),
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
	if err := a.open(cfg.Intermediate); err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a, a.renewIssuer()
}

func (a *Authority) newRoot() (Pair, error) {
	v, err := template.Between(a.clock.Now(), a.Lifetimes().Root, a.skew, nil)
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

// issuerBelow makes an issuer that s signs. A signer below which no CA may stand is its own issuer.
func (a *Authority) issuerBelow(s signer, l Lifetimes) (Pair, error) {
	now := a.clock.Now()
	v, err := template.Between(now, l.Issuer, a.skew, s.Certificate)
	if err != nil {
		return Pair{}, fmt.Errorf("issuer: %w", err)
	}
	if s.direct {
		return s.Pair, nil
	}
	key, serial, err := newKey()
	if err != nil {
		return Pair{}, fmt.Errorf("issuer: %w", err)
	}
	cert, err := sign(template.Issuer(a.trustDomain, serial, v), s.Certificate, key.Public(), s.Key)
	if err != nil {
		return Pair{}, fmt.Errorf("issuer: %w", err)
	}
	if err := check.Authority(cert, a.trustDomain, now); err != nil {
		return Pair{}, fmt.Errorf("issuer: %w", err)
	}
	return Pair{Certificate: cert, Key: key}, nil
}

// renewIssuer makes a new issuer. a.mu is held.
func (a *Authority) renewIssuer() error {
	issuer, err := a.issuerBelow(a.current, a.lifetimes)
	if err != nil {
		return err
	}
	a.issuer = issuer
	a.log.Info("issuer made", "serial", issuer.Certificate.SerialNumber.Text(16), "notAfter", issuer.Certificate.NotAfter.UTC())
	a.announce()
	return nil
}

// issuerDue is when the issuer is renewed: at half of its life, so that each
// leaf has at least the other half. One that lives as long as what stands above
// it is not renewed before its end: the next would live no longer. a.mu is held.
func (a *Authority) issuerDue() time.Time {
	c := a.issuer.Certificate
	if !c.NotAfter.Before(a.current.Certificate.NotAfter) {
		return c.NotAfter
	}
	start := c.NotBefore.Add(a.skew)
	return start.Add(c.NotAfter.Sub(start) / 2)
}

// state is what one signature is made from.
type state struct {
	by          Pair
	tail, roots []*x509.Certificate
	lifetimes   Lifetimes
}

// state has an issuer that is not past its half-life.
func (a *Authority) state() (state, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.clock.Now()
	if !now.Before(a.issuerDue()) {
		if err := a.renewIssuer(); err != nil {
			// The old one still signs while it lives: the root's last days must not stop the mesh early.
			if !now.Before(a.issuer.Certificate.NotAfter) {
				return state{}, err
			}
			a.log.Error("issuer is not renewed", "error", err, "notAfter", a.issuer.Certificate.NotAfter.UTC())
		}
	}
	return state{by: a.issuer, tail: a.current.tail(a.issuer), roots: a.roots, lifetimes: a.lifetimes}, nil
}

// Sign issues a certificate for a proven identity to the holder of the CSR's
// key. ttl shortens the leaf's life; 0 is the setting. What the CSR or the ttl
// does wrong is a *refusal.Error, any other error is the CA's own failure.
func (a *Authority) Sign(id identity.ID, csr []byte, ttl time.Duration) (Issued, error) {
	key, err := request.Check(csr, id)
	if err != nil {
		return Issued{}, err
	}
	st, err := a.state()
	if err != nil {
		return Issued{}, err
	}
	life, err := st.lifetimes.leafTTL(ttl)
	if err != nil {
		return Issued{}, err
	}
	return a.signLeaf(st, id, key, term{life: life})
}

// SignWithin issues as Sign does, for those who count the whole validity, from
// not-before to not-after (Kubernetes does, KEP-4317): it is the leaf lifetime
// with the backdating, brought between least and most.
func (a *Authority) SignWithin(id identity.ID, csr []byte, least, most time.Duration) (Issued, error) {
	key, err := request.Check(csr, id)
	if err != nil {
		return Issued{}, err
	}
	st, err := a.state()
	if err != nil {
		return Issued{}, err
	}
	return a.signLeaf(st, id, key, term{life: st.lifetimes.Leaf, least: least, most: most})
}

// term is how long a leaf lives: life from now, or, where most is set, a whole validity of least to most.
type term struct {
	life, least, most time.Duration
}

func (t term) validity(now time.Time, skew time.Duration, signer *x509.Certificate) (template.Validity, error) {
	v, err := template.Between(now, t.life, skew, signer)
	if err != nil || t.most == 0 {
		return v, err
	}
	v.NotAfter = v.NotBefore.Add(min(max(t.life+skew, t.least), t.most).Truncate(time.Second))
	if v.NotAfter.After(signer.NotAfter) {
		return template.Validity{}, fmt.Errorf("a life of %s would end after the signer's, at %s", v.NotAfter.Sub(v.NotBefore), signer.NotAfter.UTC())
	}
	return v, nil
}

func (a *Authority) signLeaf(st state, id identity.ID, key *ecdsa.PublicKey, t term) (Issued, error) {
	if id.TrustDomain() != a.trustDomain {
		return Issued{}, fmt.Errorf("identity %s is not of trust domain %s", id, a.trustDomain)
	}
	now := a.clock.Now()
	v, err := t.validity(now, a.skew, st.by.Certificate)
	if err != nil {
		return Issued{}, fmt.Errorf("leaf: issuer: %w", err)
	}
	serial, err := newSerial()
	if err != nil {
		return Issued{}, err
	}
	leaf, err := sign(template.Leaf(id, serial, v), st.by.Certificate, key, st.by.Key)
	if err != nil {
		return Issued{}, fmt.Errorf("leaf: %w", err)
	}
	issued := Issued{Chain: append([]*x509.Certificate{leaf}, st.tail...), Roots: st.roots}
	w := check.Want{ID: id, Key: key, Now: now, TTL: t.life, Skew: a.skew}
	if t.most > 0 {
		w.TTL = t.most
	}
	if err := a.leaves.Leaf(issued.Chain, issued.Roots, w); err != nil {
		return Issued{}, fmt.Errorf("signed leaf does not pass: %w", err)
	}
	return issued, nil
}

// TrustDomain that the authority signs for.
func (a *Authority) TrustDomain() string { return a.trustDomain }

// Roots are the certificates that peers trust: they are not to be changed.
func (a *Authority) Roots() []*x509.Certificate {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.roots
}

// Bundle is Roots in PEM.
func (a *Authority) Bundle() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.bundle
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
	a.announce()
	return nil
}

// Run renews the issuer and meshd's own certificates at half-life until ctx
// ends. Signing renews what is due too, so that a late Run never means an
// expired issuer.
func (a *Authority) Run(ctx context.Context) error {
	retry := retryAfter
	for {
		_, err := a.state()
		if err != nil {
			a.log.Error("issuer is not renewed", "error", err)
		}
		a.renewServers()
		wait, changed := a.nextDue()
		if err != nil {
			wait, retry = max(wait, retry), min(2*retry, retryAtMost)
		} else {
			retry = retryAfter
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-a.clock.After(wait):
		}
	}
}

// retryAfter a renewal that failed, which is the shortest sleep of Run too; doubled each time, up to retryAtMost.
const (
	retryAfter  = time.Second
	retryAtMost = time.Minute
)

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
