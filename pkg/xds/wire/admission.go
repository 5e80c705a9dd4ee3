package wire

import (
	"net"
	"sync"
	"time"
)

const (
	// maxGreetings is how many connections may be without a stream at one time.
	// Those beyond wait in the listener's queue: a storm of handshakes costs
	// the memory of so many, and as many keep all processors busy.
	maxGreetings = 64
	// patience is how long one of them keeps its place from others. Slots that
	// silent strangers could hold would lock out everybody.
	patience = time.Second
)

// admission bounds the connections that are being greeted. The oldest that
// others wait for gives way.
type admission struct {
	mu    sync.Mutex
	order []*greeting // oldest first
	freed chan struct{}
}

// greeting is a connection that has no stream yet.
type greeting struct {
	raw   net.Conn
	since time.Time
}

func newAdmission() *admission { return &admission{freed: make(chan struct{}, 1)} }

// enter waits for a place. Only one caller may wait at a time.
func (a *admission) enter(raw net.Conn) *greeting {
	for {
		g, wait := a.tryEnter(raw, time.Now())
		if g != nil {
			return g
		}
		timer := time.NewTimer(wait)
		select {
		case <-a.freed:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// tryEnter gives a place, or how long the oldest keeps its own.
func (a *admission) tryEnter(raw net.Conn, now time.Time) (*greeting, time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.order) >= maxGreetings {
		oldest := a.order[0]
		if left := patience - now.Sub(oldest.since); left > 0 {
			return nil, left
		}
		a.remove(oldest)
		oldest.raw.Close()
	}
	g := &greeting{raw: raw, since: now}
	a.order = append(a.order, g)
	return g, 0
}

// leave is called when a greeting is over, however it ended.
func (a *admission) leave(g *greeting) {
	a.mu.Lock()
	a.remove(g)
	a.mu.Unlock()
	select {
	case a.freed <- struct{}{}:
	default:
	}
}

// remove wants a.mu.
func (a *admission) remove(g *greeting) {
	for i, other := range a.order {
		if other == g {
			a.order = append(a.order[:i], a.order[i+1:]...)
			return
		}
	}
}
