// Package clocktest has a clock that moves only when a test says so.
package clocktest

import (
	"context"
	"sync"
	"time"
)

// Fake is a clock.Clock for tests.
type Fake struct {
	mu      sync.Mutex
	now     time.Time
	waiters []waiter
	changed chan struct{}
}

type waiter struct {
	at time.Time
	c  chan time.Time
}

// New gives a clock that stands at now.
func New(now time.Time) *Fake { return &Fake{now: now, changed: make(chan struct{})} }

// Now is the time that the test has set.
func (f *Fake) Now() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

// After sends once, when the clock has been advanced by d.
func (f *Fake) After(d time.Duration) <-chan time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := make(chan time.Time, 1)
	if d <= 0 {
		c <- f.now
		return c
	}
	f.waiters = append(f.waiters, waiter{at: f.now.Add(d), c: c})
	close(f.changed)
	f.changed = make(chan struct{})
	return c
}

// Advance moves the clock and wakes those whose time has come.
func (f *Fake) Advance(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = f.now.Add(d)
	kept := f.waiters[:0]
	for _, w := range f.waiters {
		if w.at.After(f.now) {
			kept = append(kept, w)
			continue
		}
		w.c <- f.now
	}
	f.waiters = kept
}

// Next waits until somebody waits on the clock, and gives the shortest wait.
func (f *Fake) Next(ctx context.Context) (time.Duration, error) {
	for {
		f.mu.Lock()
		if len(f.waiters) > 0 {
			first := f.waiters[0].at
			for _, w := range f.waiters {
				if w.at.Before(first) {
					first = w.at
				}
			}
			d := first.Sub(f.now)
			f.mu.Unlock()
			return d, nil
		}
		changed := f.changed
		f.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// Block waits until n goroutines wait on the clock.
func (f *Fake) Block(ctx context.Context, n int) error {
	for {
		f.mu.Lock()
		have, changed := len(f.waiters), f.changed
		f.mu.Unlock()
		if have >= n {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
