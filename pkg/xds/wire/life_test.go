package wire

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func (r *raw) away() event {
	r.t.Helper()
	e := r.until("GOAWAY", func(e event) bool { return e.Type == http2.FrameGoAway })
	if e.code != http2.ErrCodeNo {
		r.t.Errorf("GOAWAY with %s", e.code)
	}
	return e
}

func TestDrainEndsStreams(t *testing.T) {
	f := serve(t, Config{Grace: time.Hour}, nil)
	c := f.hello(t, initialWindow(7))
	c.open(1, holdMethod)
	c.open(3, holdMethod)
	first, second := f.next(), f.next()
	drained := inBackground(func() { f.Drain(shortly(t), 0) })
	if e := c.away(); e.last != 3 || e.data == "" {
		t.Errorf("GOAWAY behind stream %d: %q", e.last, e.data)
	}
	c.status(1, codes.Unavailable)
	c.status(3, codes.Unavailable)
	first.ends()
	second.ends()
	if err := first.tx.Send(nil, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("Send: %v", err)
	}
	c.open(5, holdMethod) // on its way when the client was told
	c.conn.Close()
	within(t, drained, "the end of Drain")
	if _, err := net.Dial("tcp", f.address); err == nil {
		t.Error("a connection is accepted after Drain")
	}
}

// TestDrainSendsWhatTheNetworkDidNotTake before the status.
func TestDrainSendsWhatTheNetworkDidNotTake(t *testing.T) {
	f := serve(t, Config{Grace: time.Hour}, nil)
	c := f.hello(t, initialWindow(1<<30))
	c.do(c.WriteWindowUpdate(0, 1<<30))
	c.open(1, holdMethod)
	p := f.next()
	var want []string
	for i := range 15 {
		want = append(want, string(numbered(i, 30<<10)))
	}
	large := strings.Repeat("l", 1<<20)
	p.send(want...)
	sent := inBackground(func() { _ = p.tx.Send(nil, []byte(large)) }) // the stream may have ended when it wakes
	eventually(t, "a large message waits", func() bool {
		p.tx.conn.mu.Lock()
		defer p.tx.conn.mu.Unlock()
		return p.tx.large > 0
	})
	drained := inBackground(func() { f.Drain(shortly(t), 0) })
	p.ends()
	c.expect(1, want...)
	c.expect(1, large)
	within(t, sent, "the end of Send")
	c.status(1, codes.Unavailable)
	c.conn.Close()
	within(t, drained, "the end of Drain")
}

// TestGrace: who does not go is cut off.
func TestGrace(t *testing.T) {
	f := serve(t, Config{Grace: 10 * time.Millisecond}, nil)
	c := f.hello(t, initialWindow(0))
	c.open(1, holdMethod)
	f.next().send("nobody takes it")
	c.lives()
	f.Drain(shortly(t), 0)
	c.eof()
}

func TestDrainEndsWithItsContext(t *testing.T) {
	f := serve(t, Config{Grace: time.Hour}, nil)
	c := f.with(t)
	ctx, cancel := context.WithCancel(t.Context())
	drained := inBackground(func() { f.Drain(ctx, 0) })
	c.away()
	cancel()
	within(t, drained, "the end of Drain")
	f.Drain(ctx, time.Hour) // again
}

// TestDrainInTurn: not all clients are sent away at once.
func TestDrainInTurn(t *testing.T) {
	f := serve(t, Config{Grace: time.Hour}, nil)
	clients := []*raw{f.with(t), f.with(t)}
	ctx, cancel := context.WithCancel(t.Context())
	drained := inBackground(func() { f.Drain(ctx, time.Hour) })
	told := make(chan struct{}, len(clients))
	for _, c := range clients {
		go func() {
			for {
				if e, err := c.read(); err != nil || e.Type == http2.FrameGoAway {
					told <- struct{}{}
					return
				}
			}
		}()
	}
	within(t, told, "the first GOAWAY")
	select {
	case <-told:
		t.Error("two were told at once")
	case <-time.After(20 * time.Millisecond):
	}
	cancel()
	within(t, drained, "the end of Drain")
	f.Close()
	within(t, told, "the end of the other")
}

func TestAge(t *testing.T) {
	f := serveTLS(t, Config{MaxConnectionAge: 200 * time.Millisecond})
	conn := f.dial(t)
	for range 3 {
		s := conn.stream(shortly(t), echoMethod)
		if err := s.RecvMsg(new([]byte)); status.Code(err) != codes.Unavailable {
			t.Fatalf("the stream ended with %v", err)
		}
		f.next().ends()
	}
}

// TestEndOfTheClientsCertificate ends its connection.
func TestEndOfTheClientsCertificate(t *testing.T) {
	server, client := tlsConfigs(time.Now().Add(2 * time.Second))
	f := serve(t, Config{TLS: server}, client)
	c := f.with(t)
	c.away()
	if at := time.Now(); at.Before(f.next().tls.PeerCertificates[0].NotAfter) {
		t.Error("told to go while the certificate was good")
	}
	c.status(1, codes.Unavailable)
}

func TestClose(t *testing.T) {
	f := serveTLS(t, Config{})
	silent, err := net.Dial("tcp", f.address) // says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	greeting := f.connect(t)
	greeting.bytes(http2.ClientPreface[:3])
	streams := f.with(t)
	p := f.next()
	sent := inBackground(func() {
		for p.tx.Send(nil, make([]byte, 2*unsent)) == nil {
		}
	})
	streams.until("data", func(e event) bool { return e.Type == http2.FrameData })
	var all sync.WaitGroup
	for range 3 {
		all.Go(f.Close)
	}
	within(t, inBackground(all.Wait), "the end of Close")
	p.ends()
	within(t, sent, "the end of Send")
	for err = nil; err == nil; {
		_, err = streams.read()
	}
	greeting.eof()
	f.Drain(shortly(t), 0)
}

func TestCloseBeforeServe(t *testing.T) {
	s := New(Config{})
	s.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(l); err != nil {
		t.Errorf("Serve: %v", err)
	}
}

// TestResetsDuringSends on all streams of a connection.
func TestResetsDuringSends(t *testing.T) {
	for name, secret := range map[string]bool{"plaintext": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			f := serve(t, Config{}, nil)
			if secret {
				f = serveTLS(t, Config{})
			}
			c := f.hello(t, initialWindow(1<<30))
			c.do(c.WriteWindowUpdate(0, 1<<30))
			var sends sync.WaitGroup
			for id := uint32(1); id < 100; id += 2 {
				c.open(id, holdMethod)
				p := f.next()
				sends.Go(func() {
					for p.tx.Send(make([]byte, unsent), []byte("large")) == nil {
					}
				})
				sends.Go(func() {
					for i := 0; i < 1000 && p.tx.Send(nil, []byte("small")) == nil; i++ {
						runtime.Gosched()
					}
				})
				c.until("data", func(e event) bool { return e.Type == http2.FrameData && e.StreamID == id })
				if id > 3 {
					c.do(c.WriteRSTStream(id-4, http2.ErrCodeCancel))
				}
			}
			c.conn.Close()
			within(t, inBackground(sends.Wait), "the end of all Sends")
		})
	}
}

// eventually waits for a condition that nothing tells of.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(wait); !is(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("%s: not so", what)
		}
	}
}

// goroutines are those that a Server has begun.
func goroutines() int {
	stacks := make([]byte, 1<<20)
	n := 0
	for _, g := range strings.Split(string(stacks[:runtime.Stack(stacks, true)]), "\n\n") {
		if strings.Contains(g, "wire.(*Server)") || strings.Contains(g, "wire.(*conn)") || strings.Contains(g, "wire.(*poller)") {
			n++
		}
	}
	return n
}

// ownGoroutines of a Server: one accepts, the others poll.
func ownGoroutines() int { return 1 + runtime.GOMAXPROCS(0) }

// TestGoroutines: an idle connection has none.
func TestGoroutines(t *testing.T) {
	f := serveTLS(t, Config{})
	const count = 20
	clients := make([]*raw, count)
	for i := range clients {
		clients[i] = f.with(t)
		clients[i].open(3, echoMethod)
		clients[i].say(3, "gate")
		clients[i].expect(3, "gate")
	}
	eventually(t, "no goroutine for a connection", func() bool { return goroutines() == ownGoroutines() })
	for _, c := range clients {
		c.conn.Close()
	}
	eventually(t, "no goroutine is left", func() bool { return goroutines() == ownGoroutines() })
}

// TestEndBehindTheLastWords is noticed. The poller tells of both at once, so that a reader that
// takes a short read for the last one waits for ever.
func TestEndBehindTheLastWords(t *testing.T) {
	for name, linger := range map[string]int{"FIN": -1, "RST": 0} {
		t.Run(name, func(t *testing.T) {
			f := serveTLS(t, Config{})
			for range 20 {
				c := f.with(t)
				p := f.next()
				c.lives()
				socket := c.conn.(*tls.Conn).NetConn().(*net.TCPConn)
				c.do(socket.SetLinger(linger))
				c.say(1, "the last words")
				socket.Close()
				p.ends()
			}
		})
	}
}

// TestComingAndGoing of connections, while the server closes.
func TestComingAndGoing(t *testing.T) {
	f := serve(t, Config{}, nil)
	f.drains(t)
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			for i := 0; ; i++ {
				conn, err := net.Dial("tcp", f.address)
				if err != nil {
					return
				}
				said := http2.ClientPreface + string(frameOf(http2.FrameSettings, 0, 0, "")) +
					string(frameOf(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 1, string(request(holdMethod)))) +
					string(frameOf(http2.FrameData, 0, 1, framed(fmt.Sprint("message ", i))))
				if _, err := conn.Write([]byte(said[:i*7%(len(said)+1)])); err != nil {
					conn.Close()
					return
				}
				conn.Close()
			}
		})
	}
	for range 100 {
		eventually(t, "a stream", func() bool {
			f.mu.Lock()
			defer f.mu.Unlock()
			return len(f.accepted) > 100
		})
	}
	drained := inBackground(func() { f.Drain(shortly(t), time.Millisecond) })
	f.Close()
	within(t, drained, "the end of Drain")
	clients.Wait()
}

// TestStreamAfterDrain: its connection was accepted before.
func TestStreamAfterDrain(t *testing.T) {
	f := serve(t, Config{Grace: time.Hour}, nil)
	c := f.hello(t)
	c.until("the settings", func(e event) bool { return e.Type == http2.FrameSettings })
	f.Drain(shortly(t), 0)
	c.open(1, echoMethod)
	c.away()
	c.conn.Close()
}

// TestDrainSendsWhatWaits for the client's window before the status.
func TestDrainSendsWhatWaits(t *testing.T) {
	t.Run("plaintext", func(t *testing.T) { drainSendsWhatWaits(t, serve(t, Config{Grace: time.Hour}, nil)) })
	t.Run("TLS", func(t *testing.T) { drainSendsWhatWaits(t, serveTLS(t, Config{Grace: time.Hour})) })
}

func drainSendsWhatWaits(t testing.TB, f *served) {
	c := f.hello(t, initialWindow(3))
	c.open(1, holdMethod)
	p := f.next()
	p.send("much")
	c.until("the beginning", func(e event) bool { return e.Type == http2.FrameData })
	drained := inBackground(func() { f.Drain(shortly(t), 0) })
	c.away()
	p.ends()
	c.do(c.WriteSettings(initialWindow(5)))
	c.do(c.WriteWindowUpdate(1, 4))
	got := ""
	for len(got) < 6 {
		got += c.until("the rest", func(e event) bool { return e.Type == http2.FrameData }).data
	}
	if got != framed("much")[3:] {
		t.Errorf("the rest is %q", got)
	}
	c.status(1, codes.Unavailable)
	c.lives()
	c.conn.Close()
	within(t, drained, "the end of Drain")
}

// TestStrangersAreSentAway: a certificate that was not enough is a connection's, and cannot be changed on it.
func TestStrangersAreSentAway(t *testing.T) {
	const method = "/test.Streams/Members"
	f := serve(t, Config{Grace: time.Millisecond}, nil, func(s *Server) {
		s.streams[method] = func(*Request) (Handler, error) { return nil, status.Error(codes.Unauthenticated, "who are you?") }
	})
	c := f.hello(t)
	c.open(1, method)
	c.status(1, codes.Unauthenticated)
	c.away()
	c.eof()
}
