package wire

import (
	"net"
	"testing"
	"time"
)

// Silent strangers keep their places for a moment, and only while nobody waits.
func TestTheOldestGreetingGivesWay(t *testing.T) {
	a, now := newAdmission(), time.Now()
	var theirs []net.Conn // the clients' ends
	enter := func(at time.Time) (*greeting, time.Duration) {
		ours, other := net.Pipe()
		theirs = append(theirs, other)
		t.Cleanup(func() { ours.Close(); other.Close() })
		return a.tryEnter(ours, at)
	}
	var first *greeting
	for i := range maxGreetings {
		g, _ := enter(now.Add(time.Duration(i) * time.Millisecond))
		if g == nil {
			t.Fatalf("connection %d found no place", i)
		}
		if i == 0 {
			first = g
		}
	}
	if g, left := enter(now.Add(patience / 2)); g != nil || left != patience/2 {
		t.Errorf("one more entered (%v), or has %s to wait", g != nil, left)
	}
	if g, _ := enter(now.Add(patience)); g == nil {
		t.Error("the oldest did not give way")
	}
	if _, err := theirs[0].Read(make([]byte, 1)); err == nil {
		t.Error("the oldest was not closed")
	}
	a.leave(first) // it notices, and leaves: nobody else's place is free by that
	if g, _ := enter(now.Add(patience)); g != nil {
		t.Error("a place was given twice")
	}
	a.leave(a.order[0])
	if g, _ := enter(now.Add(patience)); g == nil {
		t.Error("the place of one that has left is not free")
	}
	if len(a.order) != maxGreetings {
		t.Errorf("%d places", len(a.order))
	}
}
