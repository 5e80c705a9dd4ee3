package wire

import (
	"net"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxGreetings is how many connections may be without a stream at one time.
	// Those beyond wait in the listener's queue: a storm of handshakes costs
	// the memory of so many, and as many keep all processors busy.
	maxGreetings = 64
	// patience is how long one of them may leave meshd waiting while others want
	// its place. Slots that silent strangers could hold would lock out everybody.
	patience = time.Second
	// maxTurns is how often its patience is renewed: for another key, the
	// handshake, its tickets and the settings. Only a client that wants new keys
	// again and again makes meshd write more.
	maxTurns = 5
)

// admission bounds the connections that are being greeted. The oldest that lets
// meshd wait gives way to others.
type admission struct {
	mu    sync.Mutex
	order []*greeting // oldest first
	freed chan struct{}
}

// greeting is a connection that has no stream yet.
//
// Its client's turn begins when meshd has written; what it drips is no answer. No
// clock tells whose fault a long turn is, as on a starved machine a Read returns
// long after the bytes have come. But if the client still owes the answer when it is
// asked for, then all of the turn was its own. The kernel knows that: it has nothing
// for a Read that waits. A greeting that computes, or waits for a processor, is
// in no Read, or has bytes that it can read.
type greeting struct {
	net.Conn

	mu    sync.Mutex
	since time.Time // the client's turn
	turns int
	waits int16 // for this event of poll(2); 0: for nothing
}

func newAdmission() *admission { return &admission{freed: make(chan struct{}, 1)} }

// enter waits for a place. Only one caller may wait at a time.
func (a *admission) enter(raw net.Conn) *greeting {
	for {
		if g := a.tryEnter(raw, time.Now()); g != nil {
			return g
		}
		timer := time.NewTimer(patience / 10) // nothing tells of a client that is late
		select {
		case <-a.freed:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// tryEnter gives a place, if there is one or one gives way.
func (a *admission) tryEnter(raw net.Conn, now time.Time) *greeting {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.order) >= maxGreetings {
		i := slices.IndexFunc(a.order, func(g *greeting) bool { return g.late(now) })
		if i < 0 {
			return nil
		}
		a.order[i].Close()
		a.order = slices.Delete(a.order, i, i+1)
	}
	g := &greeting{Conn: raw, since: now}
	a.order = append(a.order, g)
	return g
}

// leave is called when a greeting is over, however it ended.
func (a *admission) leave(g *greeting) {
	a.mu.Lock()
	a.order = slices.DeleteFunc(a.order, func(other *greeting) bool { return other == g })
	a.mu.Unlock()
	select {
	case a.freed <- struct{}{}:
	default:
	}
}

// Read implements net.Conn.
func (g *greeting) Read(b []byte) (int, error) {
	g.wait(unix.POLLIN)
	defer g.wait(0)
	return g.Conn.Read(b)
}

// Write implements net.Conn.
func (g *greeting) Write(b []byte) (int, error) {
	g.wait(unix.POLLOUT)
	defer g.turn()
	return g.Conn.Write(b)
}

func (g *greeting) wait(event int16) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waits = event
}

// turn: it is the client's.
func (g *greeting) turn() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waits = 0
	if g.turns < maxTurns {
		g.since = time.Now()
		g.turns++
	}
}

// late: the client has left meshd waiting for too long, and still does.
func (g *greeting) late(now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.waits != 0 && now.Sub(g.since) >= patience && blocks(g.Conn, g.waits)
}

// blocks reports whether an event of poll(2) has not come.
func blocks(c net.Conn, event int16) bool {
	s, ok := c.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return false
	}
	blocked := false
	err = raw.Control(func(fd uintptr) {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: event}}, 0)
		blocked = n == 0 && err == nil
	})
	return blocked && err == nil
}
