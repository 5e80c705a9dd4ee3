package wire

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"
)

func initialWindow(n uint32) http2.Setting {
	return http2.Setting{ID: http2.SettingInitialWindowSize, Val: n}
}

// TestByteByByte: a client may take a message in the smallest parts.
func TestByteByByte(t *testing.T) {
	f := serve(t, Config{}, nil)
	c := f.hello(t, initialWindow(0))
	c.open(1, holdMethod)
	p := f.next()
	messages := []string{"", "a", "", strings.Repeat("long", 40), "\x00\x00\x00\x00\x00"}
	p.send(messages...)
	var want, got string
	for _, m := range messages {
		want += framed(m)
	}
	for len(got) < len(want) {
		c.do(c.WriteWindowUpdate(1, 1))
		e := c.until("a byte", func(e event) bool { return e.Type == http2.FrameData })
		if len(e.data) != 1 || e.StreamID != 1 {
			t.Fatalf("%v with %d bytes, 1 was allowed", e, len(e.data))
		}
		got += e.data
	}
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if e := c.lives(); len(e) > 0 {
		t.Errorf("%v without a window", e)
	}
}

// TestConnectionWindow: it bounds all streams, and each goes on in turn.
func TestConnectionWindow(t *testing.T) {
	f := serve(t, Config{}, nil)
	c := f.hello(t, initialWindow(1<<20))
	big := strings.Repeat("x", 100<<10)
	sent := map[uint32]<-chan struct{}{}
	for _, id := range []uint32{1, 3} {
		c.open(id, holdMethod)
		p := f.next()
		sent[id] = inBackground(func() { p.send(big) })
	}
	got := map[uint32]int{}
	allowed, all := standardWindow, 0
	for all < 2*(len(big)+prefixSize) {
		e := c.until("data", func(e event) bool { return e.Type == http2.FrameData })
		got[e.StreamID] += len(e.data)
		if all += len(e.data); all > allowed {
			t.Fatalf("%d bytes, %d are allowed", all, allowed)
		}
		if all == allowed {
			c.do(c.WriteWindowUpdate(0, 1000))
			allowed += 1000
		}
	}
	for id, done := range sent {
		within(t, done, "the end of Send")
		if got[id] != len(big)+prefixSize {
			t.Errorf("stream %d: %d bytes", id, got[id])
		}
	}
}

// TestStreamWithoutWindowHoldsUpNobody, its sender excepted when it sends much.
func TestStreamWithoutWindowHoldsUpNobody(t *testing.T) {
	f := serve(t, Config{}, nil)
	c := f.hello(t, initialWindow(0))
	c.open(1, holdMethod)
	p := f.next()
	p.send("a small one")
	sent := inBackground(func() {
		if err := p.tx.Send(nil, make([]byte, 2*unsent)); !errors.Is(err, ErrClosed) {
			t.Errorf("Send: %v", err)
		}
	})
	c.do(c.WriteSettings(initialWindow(100))) // also stream 1's
	c.until("the beginning", func(e event) bool { return e.Type == http2.FrameData && e.StreamID == 1 })
	c.open(3, echoMethod)
	c.say(3, "the other")
	c.expect(3, "the other")
	c.do(c.WriteRSTStream(1, http2.ErrCodeCancel))
	within(t, p.closed, "Closed")
	within(t, sent, "the end of Send")
}

func TestSendWaitsAndEnds(t *testing.T) {
	for name, m := range map[string]struct {
		initial uint32
		end     func(*served, *raw)
	}{
		"the client resets the stream":    {10, func(_ *served, c *raw) { c.do(c.WriteRSTStream(1, http2.ErrCodeCancel)) }},
		"the client makes a mistake":      {10, func(_ *served, c *raw) { c.do(c.WriteWindowUpdate(0, 1<<31-1)) }},
		"the client closes":               {10, func(_ *served, c *raw) { c.conn.Close() }},
		"the server closes":               {10, func(f *served, _ *raw) { f.Close() }},
		"the stream overflows its window": {1 << 20, func(_ *served, c *raw) { c.do(c.WriteWindowUpdate(1, 1<<31-1)) }},
	} {
		t.Run(name, func(t *testing.T) {
			f := serve(t, Config{}, nil)
			c := f.hello(t, initialWindow(m.initial))
			c.open(1, holdMethod)
			p := f.next()
			failed := make(chan error, 1)
			go func() { failed <- p.tx.Send(nil, make([]byte, 4*unsent)) }()
			c.until("data", func(e event) bool { return e.Type == http2.FrameData })
			m.end(f, c)
			if err := <-failed; !errors.Is(err, ErrClosed) {
				t.Errorf("Send: %v", err)
			}
			p.ends()
			if err := p.tx.Send(nil, nil); !errors.Is(err, ErrClosed) {
				t.Errorf("Send afterwards: %v", err)
			}
		})
	}
}

// TestInitialWindowChanges while messages wait: windows become negative, and large.
func TestInitialWindowChanges(t *testing.T) {
	f := serve(t, Config{}, nil)
	c := f.hello(t, initialWindow(20))
	c.open(1, holdMethod)
	p := f.next()
	p.send(strings.Repeat("x", 55)) // 60 bytes
	got := 0
	data := func(want int) {
		t.Helper()
		for got < want {
			e := c.until("data", func(e event) bool { return e.Type == http2.FrameData })
			got += len(e.data)
		}
		for _, e := range c.lives() {
			if e.Type == http2.FrameData {
				got += len(e.data)
			}
		}
		if got != want {
			t.Fatalf("%d bytes, want %d", got, want)
		}
	}
	data(20)
	c.do(c.WriteSettings(initialWindow(5))) // -15
	data(20)
	c.do(c.WriteWindowUpdate(1, 15)) // 0
	data(20)
	c.do(c.WriteWindowUpdate(1, 3))
	data(23)
	c.do(c.WriteSettings(initialWindow(0), initialWindow(10))) // -5, then 5
	data(28)
	c.do(c.WriteSettings(initialWindow(1<<31 - 1)))
	data(60)
	p.send("more")
	data(69)
	c.open(3, echoMethod) // has all of the new window
	c.do(c.WriteWindowUpdate(0, 1<<31-1-standardWindow))
	c.say(3, "large windows")
	c.expect(3, "large windows")
}

// TestClientKeepsToItsWindows: they never leave it waiting, whatever becomes of the streams.
func TestClientKeepsToItsWindows(t *testing.T) {
	f := serve(t, Config{}, nil)
	c := f.hello(t)
	connection, streams, initial := standardWindow, map[uint32]int{}, window
	take := func(e event) {
		if e.Type == http2.FrameWindowUpdate && e.StreamID == 0 {
			connection += int(e.more)
		} else if e.Type == http2.FrameWindowUpdate {
			streams[e.StreamID] += int(e.more)
		}
	}
	send := func(id uint32, n, padding int) {
		t.Helper()
		for connection < n+padding+1 || streams[id] < n+padding+1 {
			e, err := c.read()
			if err != nil {
				t.Fatalf("no window for stream %d (%d, of all %d): %v", id, streams[id], connection, err)
			}
			take(e)
		}
		c.do(c.WriteDataPadded(id, false, []byte(strings.Repeat("\x00", n)), make([]byte, padding)))
		connection -= n + padding + 1
		streams[id] -= n + padding + 1
	}
	f.drains(t)
	for id := uint32(1); id < 40; id += 2 {
		method := []string{holdMethod, refuseMethod, "/other/Method"}[id/2%3]
		if id == 1 {
			method = holdMethod
		}
		c.open(id, method)
		streams[id] = initial
		for range 10 {
			send(id, 5*rand.IntN(3000), rand.IntN(255)) // empty messages
		}
		c.do(c.WriteRSTStream(id, http2.ErrCodeCancel))
	}
}

// drains takes all messages of all streams.
func (f *served) drains(t testing.TB) {
	stop := make(chan struct{})
	ended := inBackground(func() {
		for {
			select {
			case p := <-f.opened:
				go func() {
					for {
						select {
						case <-p.got:
						case <-p.closed:
							return
						}
					}
				}()
			case <-stop:
				return
			}
		}
	})
	t.Cleanup(func() {
		close(stop)
		<-ended
	})
}

// TestStatusFollowsMessages that wait for a window.
func TestStatusFollowsMessages(t *testing.T) {
	f := serve(t, Config{}, nil)
	c := f.hello(t, initialWindow(3))
	c.open(1, holdMethod)
	p := f.next()
	p.send("one", "two")
	c.open(3, echoMethod)
	for i := range 5 {
		c.say(3, fmt.Sprint("fills", i))
	}
	c.say(3, "fail: enough")
	c.lives()
	c.do(c.WriteWindowUpdate(3, 1000))
	// The first three bytes have come before.
	got := ""
	e := c.until("the status", func(e event) bool {
		if e.Type == http2.FrameData && e.StreamID == 3 {
			got += e.data
		}
		return e.Type == http2.FrameHeaders && e.Flags.Has(http2.FlagHeadersEndStream)
	})
	if e.fields["grpc-status"] != itoa(int(codes.InvalidArgument)) || !strings.HasSuffix(got, framed("fills4")) {
		t.Errorf("the status is %v behind %q", e.fields, got)
	}
	c.do(c.WriteWindowUpdate(1, 13))
	got = ""
	for len(got) < 13 {
		got += c.until("the rest", func(e event) bool { return e.Type == http2.FrameData }).data
	}
	if want := (framed("one") + framed("two"))[3:]; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestNothingFollowsAReset: a frame behind RST_STREAM would be of a stream that is closed.
func TestNothingFollowsAReset(t *testing.T) {
	f := serve(t, Config{}, nil)
	c := f.hello(t, initialWindow(1<<30))
	c.do(c.WriteWindowUpdate(0, 1<<30))
	for id := uint32(1); id < 60; id += 2 {
		c.open(id, holdMethod)
		p := f.next()
		sent := inBackground(func() {
			for i := 0; i < 10_000 && p.tx.Send(nil, []byte("again")) == nil; i++ {
				continue // as fast as it goes
			}
		})
		c.until("a message", func(e event) bool { return e.Type == http2.FrameData })
		c.frame(http2.FrameWindowUpdate, 0, id, "\x00\x00\x00\x00")
		c.until("RST_STREAM", func(e event) bool { return e.Type == http2.FrameRSTStream })
		for _, e := range c.lives() {
			if e.StreamID == id {
				t.Fatalf("%v behind RST_STREAM", e)
			}
		}
		within(t, sent, "the end of Send")
	}
}

// TestSmallMessagesNeverWait: Receive may send them, and a client that lets them pile up is cut off.
func TestSmallMessagesNeverWait(t *testing.T) {
	f := serve(t, Config{}, nil)
	c := f.hello(t, initialWindow(0))
	c.open(1, echoMethod)
	p := f.next()
	m := strings.Repeat("m", unsent-prefixSize)
	for range maxUnsent / unsent {
		c.say(1, m)
	}
	c.lives()
	c.do(c.WriteWindowUpdate(0, 1<<30))
	c.do(c.WriteWindowUpdate(1, 1<<30))
	for range maxUnsent / unsent {
		c.expect(1, m)
	}
	c.lives()
	c.do(c.WriteSettings(initialWindow(0)))
	c.do(c.WriteWindowUpdate(0, 1<<29))
	c.open(3, echoMethod)
	for range maxUnsent/unsent + 2 {
		c.say(3, m)
	}
	c.eof()
	p.ends()
}

// TestSmallMessageWithItsRest: 32 KB are a small message's, whatever is put around them.
func TestSmallMessageWithItsRest(t *testing.T) {
	f := serve(t, Config{}, nil)
	c := f.hello(t, initialWindow(0))
	c.open(1, holdMethod)
	p := f.next()
	sent := inBackground(func() {
		if err := p.tx.Send(make([]byte, 32<<10), make([]byte, 100)); err != nil {
			t.Errorf("Send: %v", err)
		}
	})
	within(t, sent, "the end of Send")
}
