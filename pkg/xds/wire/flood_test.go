package wire

import (
	"bytes"
	"errors"
	"math"
	"net"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
)

// flood writes until the server ends the connection, without reading.
func (r *raw) flood(said []byte) {
	r.t.Helper()
	said = bytes.Repeat(said, max(1, chunk/len(said)))
	for n := 0; n < 64<<20; n += len(said) {
		if _, err := r.conn.Write(said); err != nil {
			var late net.Error
			if errors.As(err, &late) && late.Timeout() {
				r.t.Fatal("the server reads no more, but has not ended the connection")
			}
			return
		}
	}
	r.t.Fatal("the server takes everything")
}

// TestFloodsThatAreAnswered end the connection of a client that does not read the answers.
func TestFloodsThatAreAnswered(t *testing.T) {
	for name, secret := range map[string]bool{"plaintext": false, "TLS": true} {
		f := serve(t, Config{}, nil)
		if secret {
			f = serveTLS(t, Config{})
		}
		other := f.with(t)
		f.next()
		refused := frameOf(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 0, string(request(holdMethod)))
		for what, said := range map[string][]byte{
			"pings":                  frameOf(http2.FramePing, 0, 0, "12345678"),
			"settings":               frameOf(http2.FrameSettings, 0, 0, "\x00\x04\x00\x00\x00\x01"),
			"streams beyond the few": refused,
			"messages":               frameOf(http2.FrameData, 0, 1, framed(strings.Repeat("m", 1000))),
		} {
			t.Run(name+"/"+what, func(t *testing.T) {
				c := f.with(t, initialWindow(1<<20))
				p := f.next()
				c.do(c.WriteWindowUpdate(0, 1<<24))
				c.do(c.WriteWindowUpdate(1, 1<<24))
				if what == "streams beyond the few" {
					for id := uint32(3); id < 2*maxStreams; id += 2 {
						c.open(id, holdMethod)
						f.next()
					}
					for id := uint32(101); ; id += 2 {
						said[5], said[6], said[7], said[8] = byte(id>>24), byte(id>>16), byte(id>>8), byte(id)
						if _, err := c.conn.Write(said); err != nil {
							break
						}
					}
				} else {
					c.flood(said)
				}
				p.ends()
				other.say(1, "others live")
				other.expect(1, "others live")
			})
		}
	}
}

// TestRapidReset: streams that are opened and reset at once are bounded.
func TestRapidReset(t *testing.T) {
	f := serve(t, Config{}, nil)
	c := f.with(t)
	for id := uint32(3); id < 3+2*maxOpened; {
		c.together(func() {
			for range 1000 {
				c.open(id, refuseMethod)
				c.do(c.WriteRSTStream(id, http2.ErrCodeCancel))
				id += 2
			}
		})
		for _, e := range c.lives() {
			if e.Type == http2.FrameGoAway {
				c.conn.Close()
				return
			}
		}
	}
	t.Errorf("%d streams were opened", maxOpened)
}

// TestHarmlessFloods cost nothing but the reader's time.
func TestHarmlessFloods(t *testing.T) {
	f := serve(t, Config{}, nil)
	for name, said := range map[string][]byte{
		"empty data":       frameOf(http2.FrameData, 0, 1, ""),
		"padding":          frameOf(http2.FrameData, http2.FlagDataPadded, 1, "\x40"+strings.Repeat("\x00", 0x40)),
		"small windows":    frameOf(http2.FrameWindowUpdate, 0, 0, "\x00\x00\x00\x01"),
		"priorities":       frameOf(http2.FramePriority, 0, 3, "\x00\x00\x00\x01\x00"),
		"unknown frames":   frameOf(0x77, 0, 1, "x"),
		"resets":           frameOf(http2.FrameRSTStream, 0, 1, "\x00\x00\x00\x08"),
		"data of the dead": append(frameOf(http2.FrameRSTStream, 0, 1, "\x00\x00\x00\x08"), frameOf(http2.FrameData, 0, 1, strings.Repeat("x", 1000))...),
		"answers to pings": frameOf(http2.FramePing, http2.FlagPingAck, 0, "12345678"),
		"acknowledgements": frameOf(http2.FrameSettings, http2.FlagSettingsAck, 0, ""),
	} {
		t.Run(name, func(t *testing.T) {
			c := f.with(t)
			p := f.next()
			for range 20 {
				c.bytes(string(bytes.Repeat(said, 500)))
				c.lives()
			}
			c.do(c.WriteRSTStream(1, http2.ErrCodeCancel))
			p.ends()
		})
	}
}

// TestSlowReaderHoldsUpNobody: its small messages are taken at once, a large one waits alone.
func TestSlowReaderHoldsUpNobody(t *testing.T) {
	f := serveTLS(t, Config{})
	c := f.hello(t, initialWindow(math.MaxInt32))
	c.do(c.WriteWindowUpdate(0, 1<<30))
	c.open(1, holdMethod)
	c.open(3, holdMethod)
	p, gate := f.next(), f.next()
	large := strings.Repeat("l", 2<<20)
	sent := inBackground(func() { p.send(large) })
	for range 10 {
		gate.send(strings.Repeat("s", 1000))
	}
	other := f.with(t)
	other.lives()
	c.say(1, "still read")
	p.gets("still read")
	select {
	case <-sent:
		t.Error("a large message does not wait")
	default:
	}
	c.do(c.WriteRSTStream(3, http2.ErrCodeCancel))
	gate.ends()
	c.expect(1, large)
	within(t, sent, "the end of Send")
	c.say(1, "fail: the end")
	c.status(1, codes.InvalidArgument)
}

// TestSocketKeepsLittle: also what TLS writes by itself is bounded, its answers to new keys.
func TestSocketKeepsLittle(t *testing.T) {
	server, _ := socketPair(t)
	p, err := newPoller()
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	s := new(socket)
	if err := s.take(server, p); err != nil {
		t.Fatal(err)
	}
	defer s.end()
	if err := p.control(unix.EPOLL_CTL_ADD, s.fd, edges); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a write is refused", func() bool {
		_, err := s.Write(make([]byte, 1000))
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.kept) > 2*maxKept {
			t.Fatalf("%d bytes are kept for a client that does not read", len(s.kept))
		}
		return err != nil
	})
}

// TestClientThatNeverReadsEnds: what waits for the network ends with it.
func TestClientThatNeverReadsEnds(t *testing.T) {
	for name, secret := range map[string]bool{"plaintext": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			f := serve(t, Config{}, nil)
			if secret {
				f = serveTLS(t, Config{})
			}
			c := f.hello(t, initialWindow(math.MaxInt32))
			c.do(c.WriteWindowUpdate(0, 1<<30))
			c.open(1, holdMethod)
			p := f.next()
			failed := make(chan error, 1)
			go func() { failed <- p.tx.Send(make([]byte, 16<<20), nil) }()
			eventually(t, "the network takes no more", p.tx.conn.socket.busy)
			c.conn.Close()
			if err := <-failed; !errors.Is(err, ErrClosed) {
				t.Errorf("Send: %v", err)
			}
			p.ends()
		})
	}
}
