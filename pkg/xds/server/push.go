package server

import (
	"sync"
	"time"
)

const (
	// bulkSlots is how many big responses are sent at one time.
	bulkSlots = 16
	// bulkBytes of a stream's unacknowledged responses and more are sent apart:
	// below, Send does not wait for the client.
	bulkBytes = 32 << 10
	// bulkLease is how long a client that does not read keeps its slot from
	// others: a megabyte's time on a slow network, and short, because whole
	// groups of clients stop at once. Its response waits on without a slot.
	bulkLease = 200 * time.Millisecond
)

// queue is the streams that have something to do. It never blocks who adds.
type queue struct {
	mu     sync.Mutex
	cond   sync.Cond
	list   []*stream
	closed bool
}

func (q *queue) add(streams ...*stream) {
	if len(streams) == 0 {
		return
	}
	q.mu.Lock()
	q.list = append(q.list, streams...)
	q.mu.Unlock()
	if len(streams) == 1 {
		q.cond.Signal()
	} else {
		q.cond.Broadcast()
	}
}

func (q *queue) take() *stream {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.list) == 0 && !q.closed {
		q.cond.Wait()
	}
	if q.closed {
		return nil
	}
	st := q.list[0]
	q.list[0] = nil
	q.list = q.list[1:]
	return st
}

func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.cond.Broadcast()
}

// wake has a worker look at the streams, soon and once for many wakes. The list is used up.
func (s *Server) wake(streams ...*stream) {
	idle := streams[:0]
	for _, st := range streams {
		if st.pending.Add(1) == 1 {
			idle = append(idle, st)
		}
	}
	s.ready.add(idle...)
}

// pushHere is wake for the stream's own goroutine, which need not wait for a worker.
func (s *Server) pushHere(st *stream) {
	if st.pending.Add(1) == 1 {
		s.push(st)
	}
}

func (s *Server) work() {
	for st := s.ready.take(); st != nil; st = s.ready.take() {
		s.push(st)
	}
}

// push sends all that a stream may be sent now. Responses keep their order:
// whoever runs push has the stream for itself until pending is 0.
func (s *Server) push(st *stream) {
	for {
		seen := st.pending.Load()
		m, ok, unacknowledged := st.step()
		switch {
		case ok && unacknowledged > bulkBytes:
			s.done.Go(func() { s.pushBulk(st, m) })
			return
		case ok:
			// An error is the stream's end, of which its connection tells.
			if st.tx.Send(m) != nil {
				return
			}
		case st.pending.CompareAndSwap(seen, 0):
			return
		}
	}
}

// pushBulk sends a big response in a slot of its own, and goes on from there.
func (s *Server) pushBulk(st *stream, m message) {
	s.bulk <- struct{}{}
	release := sync.OnceFunc(func() { <-s.bulk })
	lease := time.AfterFunc(bulkLease, release)
	err := st.tx.Send(m)
	lease.Stop()
	release()
	if err == nil {
		s.push(st)
	}
}
