package server

import (
	"sync"
	"sync/atomic"
	"testing"
)

// Clients that come together share one answer, and do not each make it.
func TestADeltaIsMadeOnce(t *testing.T) {
	var m memo
	var made atomic.Int64
	begin := make(chan struct{})
	var all sync.WaitGroup
	bodies := make([]*body, 50)
	for i := range bodies {
		all.Go(func() {
			<-begin
			bodies[i] = m.get(memoKey{cur: 1}, func() delta { made.Add(1); return delta{body: &body{bytes: []byte("x")}} }).body
		})
	}
	close(begin)
	all.Wait()
	for _, b := range bodies {
		if b == nil || b != bodies[0] {
			t.Fatal("not the same answer")
		}
	}
	if n := made.Load(); n != 1 || m.bytes != 1 {
		t.Errorf("made %d times, %d bytes", n, m.bytes)
	}
}
