package main

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/meshd-io/meshd/internal/clock"
	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/xds/scope"
	"github.com/meshd-io/meshd/pkg/xds/server"
)

// unknownWait is how long the answer for an address waits that is one of the
// mesh's, and nobody's that this replica knows. A replica may hear of a Service
// later than the caller does: by milliseconds, and after an API server was away
// by what its watches need to come back. An answer at once would send the
// caller past the mesh, in plaintext, to a server that refuses it.
const unknownWait = 2 * time.Second

// hesitant is a server.Demander that passes on at once what is known, and the
// rest when it is, or after unknownWait.
type hesitant struct {
	to   server.Demander
	mesh func() *model.Mesh
	// changed gives a channel that is closed when mesh may give another one.
	changed func() <-chan struct{}
	clock   clock.Clock
	wake    chan struct{}

	mu      sync.Mutex
	waiting []question
}

// question is what proxies of a key have asked and nobody knows.
type question struct {
	key     scope.Key
	address netip.AddrPort
	held    bool
	until   time.Time
}

func newHesitant(to server.Demander, mesh func() *model.Mesh, changed func() <-chan struct{}, clk clock.Clock) *hesitant {
	return &hesitant{to: to, mesh: mesh, changed: changed, clock: clk, wake: make(chan struct{}, 1)}
}

// Demand implements server.Demander.
func (h *hesitant) Demand(key scope.Key, addresses []netip.AddrPort, held bool) {
	mesh := h.mesh()
	var known []netip.AddrPort
	var unknown []question
	for _, a := range addresses {
		if mesh == nil || scope.Known(mesh, a) {
			known = append(known, a)
		} else {
			unknown = append(unknown, question{key: key, address: a, held: held, until: h.clock.Now().Add(unknownWait)})
		}
	}
	if len(unknown) > 0 {
		h.mu.Lock()
		h.waiting = append(h.waiting, unknown...)
		h.mu.Unlock()
		select {
		case h.wake <- struct{}{}:
		default:
		}
	}
	if len(known) > 0 || len(unknown) == 0 {
		h.to.Demand(key, known, held)
	}
}

// Run passes on what has waited, until ctx ends.
func (h *hesitant) Run(ctx context.Context) {
	for {
		changed, due := h.changed(), h.pass()
		if due == nil {
			changed = nil // nothing waits: no reason to wake at every acknowledgement
		}
		select {
		case <-ctx.Done():
			return
		case <-h.wake:
		case <-changed:
		case <-due:
		}
	}
}

// pass passes on what is known by now or has waited for long enough. It gives a
// channel that has a value when the next is due; nil when nothing waits.
func (h *hesitant) pass() <-chan time.Time {
	mesh, now := h.mesh(), h.clock.Now()
	var ready []question
	h.mu.Lock()
	rest := h.waiting[:0]
	for _, q := range h.waiting {
		if now.Before(q.until) && !scope.Known(mesh, q.address) {
			rest = append(rest, q)
		} else {
			ready = append(ready, q)
		}
	}
	clear(h.waiting[len(rest):])
	h.waiting = rest
	var due <-chan time.Time
	if len(rest) > 0 {
		due = h.clock.After(rest[0].until.Sub(now)) // the oldest
	}
	h.mu.Unlock()
	for _, q := range ready {
		h.to.Demand(q.key, []netip.AddrPort{q.address}, q.held)
	}
	return due
}
