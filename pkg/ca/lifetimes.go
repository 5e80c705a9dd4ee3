package ca

import (
	"fmt"
	"time"

	"github.com/meshd-io/meshd/pkg/ca/refusal"
)

// The bounds of lifetimes. The shortest is what one-second resolution of X.509
// and a renewal at half-life leave room for.
const (
	MinLifetime = 10 * time.Second
	MaxLifetime = 100 * 365 * 24 * time.Hour
)

// DefaultSkew is how far not-before lies in the past, for peers whose clocks are behind.
const DefaultSkew = time.Minute

// Lifetimes of what the CA signs.
type Lifetimes struct {
	Root, Issuer, Leaf time.Duration
}

// DefaultLifetimes are those of API.md.
func DefaultLifetimes() Lifetimes {
	return Lifetimes{Root: 87600 * time.Hour, Issuer: 168 * time.Hour, Leaf: time.Hour}
}

// Validate wants MinLifetime <= leaf <= issuer <= root <= MaxLifetime.
func (l Lifetimes) Validate() error {
	for _, x := range []struct {
		name string
		d    time.Duration
	}{{"root", l.Root}, {"issuer", l.Issuer}, {"leaf", l.Leaf}} {
		if x.d < MinLifetime || x.d > MaxLifetime {
			return fmt.Errorf("%s lifetime %s is not between %s and %s", x.name, x.d, MinLifetime, MaxLifetime)
		}
	}
	if l.Leaf > l.Issuer {
		return fmt.Errorf("leaf lifetime %s is longer than the issuer's %s", l.Leaf, l.Issuer)
	}
	if l.Issuer > l.Root {
		return fmt.Errorf("issuer lifetime %s is longer than the root's %s", l.Issuer, l.Root)
	}
	return nil
}

// leafTTL is the life of one leaf: the setting, or a shorter one that the caller wants (0 is no wish).
func (l Lifetimes) leafTTL(want time.Duration) (time.Duration, error) {
	switch {
	case want == 0:
		return l.Leaf, nil
	case want < MinLifetime:
		return 0, refusal.New(refusal.Lifetime, "the wanted lifetime is too short", "%s, at least %s", want, MinLifetime)
	case want > l.Leaf:
		return 0, refusal.New(refusal.Lifetime, "the wanted lifetime is longer than the CA gives", "%s, at most %s", want, l.Leaf)
	}
	return want, nil
}
