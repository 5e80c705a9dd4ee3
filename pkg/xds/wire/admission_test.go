package wire

import (
	"crypto/tls"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/sys/unix"
)

// inAnHour is later than any client's turn may end.
func inAnHour() time.Time { return time.Now().Add(time.Hour) }

// fill takes all places.
func (f *served) fill(t *testing.T, connect func() net.Conn) []net.Conn {
	t.Helper()
	clients := make([]net.Conn, maxGreetings)
	for i := range clients {
		clients[i] = connect()
	}
	eventually(t, "no place is free", func() bool {
		f.admission.mu.Lock()
		defer f.admission.mu.Unlock()
		return len(f.admission.order) == maxGreetings
	})
	return clients
}

// Clients that let meshd wait keep their places for a moment, and only while nobody else wants one.
func TestTheOldestGreetingGivesWay(t *testing.T) {
	for name, said := range map[string]string{"silent": "", "dripping": http2.ClientPreface[:5]} {
		t.Run(name, func(t *testing.T) {
			f := serve(t, Config{}, nil)
			now := time.Now()
			clients := f.fill(t, func() net.Conn {
				c := f.connect(t)
				for i := range said {
					c.bytes(said[i : i+1])
				}
				return c.conn
			})
			a := f.admission
			a.mu.Lock()
			all := slices.Clone(a.order)
			a.mu.Unlock()
			eventually(t, "all wait for their clients", func() bool {
				return !slices.ContainsFunc(all, func(g *greeting) bool { return !g.late(inAnHour()) })
			})
			if a.tryEnter(nil, now.Add(patience/2)) != nil {
				t.Error("one more entered")
			}
			if a.tryEnter(nil, inAnHour()) == nil {
				t.Fatal("nobody gave way")
			}
			if _, err := io.Copy(io.Discard, clients[0]); err != nil { // to its end
				t.Errorf("the oldest was not closed: %v", err)
			}
			a.leave(all[0]) // it notices, and leaves: nobody else's place is free by that
			a.mu.Lock()
			if len(a.order) != maxGreetings {
				t.Errorf("%d places", len(a.order))
			}
			a.mu.Unlock()
			f.with(t) // comes in, too
		})
	}
}

// TestMeshdsOwnTime is not its clients': who has to wait for meshd keeps the place.
func TestMeshdsOwnTime(t *testing.T) {
	config, client := tlsConfigs(inAnHour())
	begun, slow := make(chan struct{}, maxGreetings), make(chan struct{})
	config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		begun <- struct{}{}
		<-slow
		return nil, nil
	}
	f := serve(t, Config{TLS: config}, client)
	shaken := make(chan error, maxGreetings)
	f.fill(t, func() net.Conn {
		c := f.connect(t).conn.(*tls.Conn)
		go func() { shaken <- c.HandshakeContext(t.Context()) }()
		return c
	})
	for range maxGreetings {
		within(t, begun, "a handshake")
	}
	if f.admission.tryEnter(nil, inAnHour()) != nil {
		t.Error("a client was cut off for meshd's slowness")
	}
	close(slow)
	for range maxGreetings {
		if err := <-shaken; err != nil {
			t.Error(err)
		}
	}
}

// TestTurns: what of the time is a client's.
func TestTurns(t *testing.T) {
	server, client := socketPair(t)
	g := newAdmission().tryEnter(server, time.Now())
	late := func(want bool, what string) {
		t.Helper()
		if g.late(g.since.Add(patience)) != want {
			t.Errorf("%s: late is %v", what, !want)
		}
	}
	late(false, "it computes")
	g.wait(unix.POLLIN)
	late(true, "nothing has come")
	if g.late(g.since.Add(patience - 1)) {
		t.Error("late before its time")
	}
	if _, err := io.WriteString(client, "x"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "bytes that nobody reads are no wait", func() bool { return !g.late(inAnHour()) })
	begun := g.since
	if _, err := g.Read(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	late(false, "it has read")
	g.wait(unix.POLLIN)
	late(true, "a byte is no answer")
	if g.since != begun {
		t.Error("a byte renewed the patience")
	}
	for i := range 2 * maxTurns {
		begun = g.since
		if _, err := g.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if renewed := g.since != begun; renewed != (i < maxTurns) {
			t.Errorf("write %d renewed the patience: %v", i, renewed)
		}
	}
	g.wait(unix.POLLOUT)
	late(false, "it can write")
	written := inBackground(func() {
		for err := error(nil); err == nil; {
			_, err = g.Write(make([]byte, chunk))
		}
	})
	eventually(t, "the client does not read", func() bool { return g.late(inAnHour()) })
	client.Close()
	within(t, written, "the end of writing")
}
