package ca

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"github.com/meshd-io/meshd/pkg/ca/check"
	"github.com/meshd-io/meshd/pkg/identity"
)

// errNoRoot is what the store gives back where a root is looked for, but not wanted.
var errNoRoot = errors.New("the store has no root")

// open finds what signs: the given intermediate, or the root of the store.
func (a *Authority) open(in *Intermediate) error {
	if in == nil {
		s, err := a.stored(a.newRoot)
		if err != nil {
			return fmt.Errorf("root: %w", err)
		}
		if err := a.try(s); err != nil {
			return err
		}
		a.current = s
		return nil
	}
	s, err := a.given(*in)
	if err != nil {
		return fmt.Errorf("given CA: %w", err)
	}
	a.current = s
	if a.store == nil {
		return nil
	}
	// A mesh that had a root of its own still has leaves below it.
	switch own, err := a.stored(func() (Pair, error) { return Pair{}, errNoRoot }); {
	case err == nil:
		a.former = own.roots
		a.log.Info("meshd's own root stays trusted beside the given CA; remove it from the store to end that",
			"serial", own.Certificate.SerialNumber.Text(16), "notAfter", own.Certificate.NotAfter.UTC())
	case !errors.Is(err, errNoRoot):
		a.log.Warn("meshd's own root cannot be read, and is not trusted beside the given CA", "error", err)
	}
	return nil
}

// stored is the root of the store, judged. It is read once: who changes the
// lifetimes does not wait for the store.
func (a *Authority) stored(create func() (Pair, error)) (signer, error) {
	a.mu.Lock()
	own := a.own
	a.mu.Unlock()
	if own == nil {
		if a.store == nil {
			return signer{}, errors.New("there is no store for a root of meshd's own")
		}
		root, err := a.store.Root(create)
		if err != nil {
			return signer{}, err
		}
		own = &signer{Pair: root, roots: []*x509.Certificate{root.Certificate}}
	}
	if err := check.Authority(own.Certificate, a.trustDomain, a.clock.Now()); err != nil {
		return signer{}, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.own = own
	return *own, nil
}

// try signs below s what it is for, and judges that: what no reading of
// certificates finds (name constraints and key usages anywhere above, a trust
// domain that cannot be constrained to) is found here, before it is in force.
func (a *Authority) try(s signer) error {
	a.mu.Lock()
	lifetimes := a.lifetimes
	names := make([]serverName, 0, len(a.servers)+1)
	for n := range a.servers {
		names = append(names, n)
	}
	a.mu.Unlock()
	probe, err := identity.New(a.trustDomain, "probe", "probe")
	if err != nil {
		return err
	}
	issuer, err := a.issuerBelow(s, lifetimes)
	if err != nil {
		return err
	}
	st := state{by: issuer, tail: s.tail(issuer), roots: s.roots, lifetimes: lifetimes}
	for _, n := range append(names, serverName{id: probe}) {
		if _, err := a.certify(st, n); err != nil {
			return fmt.Errorf("trial: %w", err)
		}
	}
	key, _, err := newKey()
	if err != nil {
		return err
	}
	issued, err := a.signLeaf(st, probe, &key.PublicKey, term{life: lifetimes.Leaf})
	if err != nil {
		return fmt.Errorf("trial: %w", err)
	}
	if err := check.Usable(issued.Chain, issued.Roots, a.clock.Now()); err != nil {
		return fmt.Errorf("trial: %w", err)
	}
	return nil
}

// SetIntermediate has a given CA sign (CertificateAuthority.spec.source
// Secret), also when it was renewed. Where peers trust its roots already it
// signs from now on. Otherwise its roots join the bundle first, and it waits
// for Promote: peers that do not trust it yet would refuse what it signs. A CA
// that is refused changes nothing.
func (a *Authority) SetIntermediate(in Intermediate) error {
	s, err := a.given(in)
	if err != nil {
		return err
	}
	return a.follow(s)
}

// SetSelfSigned goes back to the root of the store, by the same two steps.
func (a *Authority) SetSelfSigned() error {
	s, err := a.stored(a.newRoot)
	if err != nil {
		return fmt.Errorf("root: %w", err)
	}
	return a.follow(s)
}

// Waiting is the CA that waits for Promote, nil if there is none.
func (a *Authority) Waiting() *x509.Certificate {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.waiting == nil {
		return nil
	}
	return a.waiting.Certificate
}

// Promote puts the CA that waits into force, if it is still this one. The
// caller knows that every live proxy has acknowledged the bundle that has its
// roots. The roots before it stay trusted as long as the process lives: leaves
// below them are in use.
func (a *Authority) Promote(waiting *x509.Certificate) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.waiting == nil || !a.waiting.Certificate.Equal(waiting) {
		return nil
	}
	return a.install(*a.waiting)
}

// follow puts s into force, or lets it wait.
func (a *Authority) follow(s signer) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	same := func(o signer) bool {
		return o.Certificate.Equal(s.Certificate) && equalCerts(o.above, s.above) && equalCerts(o.roots, s.roots)
	}
	switch {
	case same(a.current):
		if a.waiting != nil {
			a.waiting = nil
			a.announce()
		}
		return nil
	case a.waiting != nil && same(*a.waiting):
		return nil
	}
	if !a.clock.Now().Before(a.current.Certificate.NotAfter) {
		return a.install(s) // nothing can be signed meanwhile, so that waiting saves nobody
	}
	for _, r := range s.roots {
		if !holds(a.current.roots, r) && !holds(a.former, r) {
			a.waiting = &s
			a.log.Info("another CA is given; it signs when all proxies trust its root", "subject", s.Certificate.Subject.String())
			a.announce()
			return nil
		}
	}
	return a.install(s)
}

// install makes s the CA in force. meshd's own certificates are renewed in their
// time: who reads the bundle from a file (agents, the API server) may not have
// the new root yet, and all still trust the former. a.mu is held.
func (a *Authority) install(s signer) error {
	issuer, err := a.issuerBelow(s, a.lifetimes)
	if err != nil {
		return err
	}
	for _, r := range a.current.roots {
		if !holds(a.former, r) {
			a.former = append(a.former, r)
		}
	}
	a.current, a.issuer, a.waiting = s, issuer, nil
	a.log.Info("CA in force", "subject", s.Certificate.Subject.String(), "notAfter", s.Certificate.NotAfter.UTC(), "signsLeaves", s.direct)
	a.announce()
	return nil
}

// announce gathers the bundle anew and tells Changed. a.mu is held.
func (a *Authority) announce() {
	roots := slices.Clone(a.current.roots)
	add := func(certs []*x509.Certificate) {
		for _, c := range certs {
			if !holds(roots, c) && a.clock.Now().Before(c.NotAfter) {
				roots = append(roots, c)
			}
		}
	}
	if a.waiting != nil {
		add(a.waiting.roots)
	}
	add(a.former)
	// One order for all replicas, whichever of them has promoted: equal trust is equal bytes.
	slices.SortFunc(roots, func(x, y *x509.Certificate) int { return bytes.Compare(x.Raw, y.Raw) })
	a.roots, a.bundle = roots, encodePEM(roots)
	close(a.changed)
	a.changed = make(chan struct{})
}

// Changed is closed when the bundle, the issuer or what waits has changed since the call.
func (a *Authority) Changed() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.changed
}

func equalCerts(x, y []*x509.Certificate) bool {
	return slices.EqualFunc(x, y, (*x509.Certificate).Equal)
}
