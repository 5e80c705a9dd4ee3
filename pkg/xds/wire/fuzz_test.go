package wire

import (
	"encoding/binary"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// script is what a fuzzed client does, as bytes.
type script struct{ rest []byte }

func (s *script) next() byte {
	if len(s.rest) == 0 {
		return 0
	}
	b := s.rest[0]
	s.rest = s.rest[1:]
	return b
}

func (s *script) take(n int) string {
	n = min(n, len(s.rest))
	b := string(s.rest[:n])
	s.rest = s.rest[n:]
	return b
}

func (s *script) uint32() uint32 {
	var b [4]byte
	copy(b[:], s.take(4))
	return binary.BigEndian.Uint32(b[:])
}

// How a script begins, and ends.
const (
	noPreface = 1 << iota
	neverReads
	halfCloses
)

// What a script's steps are.
const (
	anyFrame = iota
	anyBytes
	openNext
	sayWhole
	moreWindow
	settings
	serverSays
	serverSaysMuch
	serverLeaves
	reset
	steps
)

// fuzzed is a connection that follows a script.
type fuzzed struct {
	script
	server *served
	conn   net.Conn
	opened uint32
	sends  sync.WaitGroup
}

func (z *fuzzed) frame(kind http2.FrameType, flags http2.Flags, id uint32, payload string) {
	_, _ = z.conn.Write(frameOf(kind, flags, id, payload)) // it may have ended
}

func (z *fuzzed) step() {
	switch z.next() % steps {
	case anyFrame:
		kind, flags, id := http2.FrameType(z.next()%12), http2.Flags(z.next()), uint32(z.next()%16)
		z.frame(kind, flags, id, z.take(int(z.next())))
	case anyBytes:
		_, _ = z.conn.Write([]byte(z.take(int(z.next()))))
	case openNext:
		method := []string{echoMethod, holdMethod, refuseMethod, "/test.Streams/Other"}[z.next()%4]
		z.frame(http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.Flags(z.next()%2), z.opened, string(request(method)))
		z.opened += 2
	case sayWhole:
		id := uint32(z.next() % 16)
		m := framed(strings.Repeat(z.take(1), int(z.next())*100))
		z.frame(http2.FrameData, http2.Flags(z.next()%2), id, m[:min(len(m), chunk)])
	case moreWindow:
		z.frame(http2.FrameWindowUpdate, 0, uint32(z.next()%16), string(binary.BigEndian.AppendUint32(nil, z.uint32())))
	case settings:
		z.frame(http2.FrameSettings, 0, 0, string(binary.BigEndian.AppendUint32([]byte{0, z.next() % 8}, z.uint32())))
	case serverSays:
		if p := z.last(); p != nil {
			_ = p.tx.Send([]byte("shared"), []byte("own"))
		}
	case serverSaysMuch:
		if p := z.last(); p != nil {
			z.sends.Go(func() { _ = p.tx.Send(make([]byte, unsent), []byte(z.conn.LocalAddr().String())) })
		}
	case serverLeaves:
		if p := z.last(); p != nil {
			p.tx.conn.leave("of the script")
		}
	case reset:
		z.frame(http2.FrameRSTStream, 0, uint32(z.next()%16), "\x00\x00\x00\x08")
	}
}

// last is the stream that was accepted last.
func (z *fuzzed) last() *peer {
	z.server.mu.Lock()
	defer z.server.mu.Unlock()
	if n := len(z.server.accepted); n > 0 {
		return z.server.accepted[n-1]
	}
	return nil
}

// run follows a script to its end.
func (z *fuzzed) run(t *testing.T) {
	var err error
	if z.conn, err = net.Dial("tcp", z.server.address); err != nil {
		t.Fatal(err)
	}
	defer z.conn.Close()
	if err := z.conn.SetDeadline(time.Now().Add(wait)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(z.conn, make([]byte, frameHeader)); err != nil { // it is accepted
		t.Fatal(err)
	}
	how := z.next()
	read := make(<-chan struct{})
	if how&neverReads == 0 {
		read = inBackground(func() { _, _ = io.Copy(io.Discard, z.conn) })
	}
	if how&noPreface == 0 {
		_, _ = io.WriteString(z.conn, http2.ClientPreface)
		z.frame(http2.FrameSettings, 0, 0, "")
	}
	for z.opened = 1; len(z.rest) > 0; {
		z.step()
	}
	if how&halfCloses != 0 && how&neverReads == 0 {
		_ = z.conn.(*net.TCPConn).CloseWrite()
		within(t, read, "the server's end")
	}
	z.conn.Close()
	z.sends.Wait()
}

// gone checks that nothing is left of a connection.
func (z *fuzzed) gone(t *testing.T) {
	f := z.server
	eventually(t, "no goroutine is left", func() bool { return goroutines() <= ownGoroutines() })
	eventually(t, "the connection has ended", func() bool {
		f.Server.mu.Lock()
		defer f.Server.mu.Unlock()
		return len(f.raw) == 0 && len(f.conns) == 0
	})
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.accepted {
		if n := p.closings.Load(); n != 1 {
			t.Errorf("stream %d was closed %d times", p.tx.id, n)
		}
	}
	f.accepted = nil
}

// FuzzConnection: whatever a client says, its connection ends with it, and its streams are closed once.
func FuzzConnection(f *testing.F) {
	open := string([]byte{openNext, 0, 0, openNext, 1, 0})
	for _, seed := range []string{
		"",
		"\x01GET / HTTP/1.1\r\n\r\n",
		"\x00" + open + string([]byte{sayWhole, 1, 'x', 3, 0, serverSays, serverSaysMuch, serverLeaves, moreWindow, 3, 0, 0, 1, 0}),
		"\x02" + open + strings.Repeat(string([]byte{sayWhole, 1, 'x', 200, 0}), 50),
		"\x04" + open + string([]byte{settings, 4, 0, 0, 0, 0, serverSays, serverSaysMuch, sayWhole, 1, 'x', 1, 1, sayWhole, 3, 'y', 1, 1}),
		"\x04" + open + string([]byte{serverLeaves, reset, 1, reset, 3, openNext, 0, 0}),
		"\x00" + open + string([]byte{settings, 4, 0x7f, 0xff, 0xff, 0xff, moreWindow, 1, 0x7f, 0xff, 0xff, 0xff, moreWindow, 0, 0x7f, 0xff, 0xff, 0xff}),
		"\x00" + open + string([]byte{anyFrame, 1, 0, 5, 0, anyFrame, 9, 0, 5, 3}) + "abc" + string([]byte{anyFrame, 9, 4, 5, 1}) + "\x83",
		"\x00" + open + strings.Repeat(string([]byte{openNext, 3, 1, openNext, 2, 0}), 5) + string([]byte{anyFrame, 6, 0, 0, 8}) + "12345678",
		"\x00" + string([]byte{openNext, 3, 0}) + open,
		"\x00" + open + string([]byte{anyFrame, 0, 8, 1, 4}) + "\x02\x00\x00\x00" + string([]byte{moreWindow, 1, 0, 0, 0, 0}),
	} {
		f.Add([]byte(seed))
	}
	s := serve(f, Config{Grace: time.Second, MaxMessage: 20_000}, nil)
	s.drains(f)
	taken := inBackground(func() {
		for {
			c, err := s.Others().Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	})
	f.Cleanup(func() {
		s.Close()
		<-taken
	})
	f.Fuzz(func(t *testing.T, said []byte) {
		z := &fuzzed{script: script{said[:min(len(said), 1<<10)]}, server: s}
		z.run(t)
		z.gone(t)
	})
}
