package wire

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// greetTime is what a client has for the handshake and to open its first stream:
// slow ones do not hold memory for long.
const greetTime = 20 * time.Second

// errHanded: the connection is another server's now.
var errHanded = errors.New("handed over")

// begin gives a connection a goroutine until it has a stream. A handshake needs a
// deep stack, which goes with the goroutine that has made it.
func (s *Server) begin(raw net.Conn) {
	greeting := s.admission.enter(raw)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		s.admission.leave(greeting)
		raw.Close()
		return
	}
	s.raw[raw] = struct{}{}
	s.connections.Go(func() {
		err := s.greet(greeting)
		s.admission.leave(greeting)
		if err == nil {
			return
		}
		s.forget(raw)
		if !errors.Is(err, errHanded) {
			s.log.Debug("connection refused", "from", raw.RemoteAddr(), "error", err)
			raw.Close()
		}
	})
}

// forget: the connection is not the Server's to close.
func (s *Server) forget(raw net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.raw, raw)
}

// keep gives a connection with streams to a poller.
func (s *Server) keep(raw net.Conn, sock *socket, outer *replay) error {
	c, late, err := s.enter(raw, sock, outer)
	if err != nil {
		return err
	}
	c.answer(func(f *http2.Framer) error { return f.WriteWindowUpdate(0, window-standardWindow) })
	c.lives(s.life(outer), "the connection is old; the next one shows a new certificate")
	if late { // Drain has not seen it
		c.leave(stopping)
	}
	return nil
}

// enter has the connection among those that Drain and Close end; late is one that Drain has not seen.
func (s *Server) enter(raw net.Conn, sock *socket, outer *replay) (c *conn, late bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, false, net.ErrClosed
	}
	p := s.pollers[s.turn%len(s.pollers)]
	s.turn++
	if err := sock.take(raw, p); err != nil {
		return nil, false, err
	}
	c = newConn(s, p, sock, outer)
	if err := p.add(c); err != nil {
		sock.end()
		return nil, false, err
	}
	delete(s.raw, raw)
	s.conns[c] = struct{}{}
	s.connections.Add(1)
	return c, s.stopped, nil
}

// ended is a connection that is no more.
func (s *Server) ended(c *conn) {
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	select {
	case s.left <- struct{}{}:
	default:
	}
	s.connections.Done()
}

// life of a connection, with +-10 % so that clients that came together do not come back together.
func (s *Server) life(c *replay) time.Duration {
	age := time.Duration(float64(s.age) * (0.9 + 0.2*rand.Float64()))
	if state := c.state(); state != nil && len(state.PeerCertificates) > 0 {
		return min(age, time.Until(state.PeerCertificates[0].NotAfter))
	}
	return age
}

// greet makes the handshakes of TLS and HTTP/2, and waits for the first stream.
func (s *Server) greet(g *greeting) error {
	raw := g.Conn
	if err := raw.SetDeadline(time.Now().Add(s.hello)); err != nil {
		return err
	}
	sock := &socket{Conn: g}
	outer, err := s.handshake(sock)
	if err != nil {
		return err
	}
	said, method, err := preface(outer)
	if err != nil {
		return err
	}
	if err := raw.SetDeadline(time.Time{}); err != nil {
		return err
	}
	sock.Conn = raw // it is greeted
	if _, own := s.streams[method]; !own {
		s.forget(raw) // Close is not to end what may be another server's already
		return s.others.take(&replay{Conn: outer, said: said})
	}
	return s.keep(raw, sock, &replay{Conn: outer, said: said[len(http2.ClientPreface):]})
}

func (s *Server) handshake(sock *socket) (net.Conn, error) {
	if s.tls == nil {
		return sock, nil
	}
	outer := tls.Server(sock, s.tls)
	if err := outer.HandshakeContext(context.Background()); err != nil { // it has a deadline
		return nil, fmt.Errorf("TLS handshake: %w", err)
	}
	if outer.ConnectionState().NegotiatedProtocol != http2.NextProtoTLS {
		return nil, errors.New("the client does not speak HTTP/2")
	}
	return outer, nil
}

// maxGreeting is how much a client may say before it opens a stream, in bytes.
const maxGreeting = 64 << 10

// preface says the settings, which some clients wait for, and reads up to the
// headers of the first stream: all that was read, and the stream's method.
func preface(c net.Conn) (said []byte, method string, err error) {
	var ours, theirs bytes.Buffer
	f := http2.NewFramer(&ours, io.TeeReader(io.LimitReader(c, maxGreeting), &theirs))
	f.ReadMetaHeaders, f.MaxHeaderListSize = hpack.NewDecoder(tableSize, nil), maxHeaders
	f.SetMaxReadFrameSize(chunk)
	err = f.WriteSettings(
		http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: maxStreams},
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: window},
		http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: maxHeaders})
	if err != nil {
		return nil, "", err
	}
	if _, err := c.Write(ours.Bytes()); err != nil {
		return nil, "", err
	}
	hello := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(io.TeeReader(c, &theirs), hello); err != nil {
		return nil, "", err
	}
	if string(hello) != http2.ClientPreface {
		return nil, "", errors.New("not the preface of HTTP/2")
	}
	for first := true; ; first = false {
		frame, err := f.ReadFrame()
		if err != nil {
			return nil, "", err
		}
		if _, ok := frame.(*http2.SettingsFrame); first && !ok {
			return nil, "", errors.New("the preface has no settings")
		}
		if h, ok := frame.(*http2.MetaHeadersFrame); ok {
			return theirs.Bytes(), h.PseudoValue("path"), nil
		}
	}
}

// replay is a connection of which something was read already.
type replay struct {
	net.Conn
	said []byte
}

// Read implements net.Conn.
func (r *replay) Read(b []byte) (int, error) {
	if len(r.said) == 0 {
		return r.Conn.Read(b)
	}
	n := copy(b, r.said)
	if r.said = r.said[n:]; len(r.said) == 0 {
		r.said = nil
	}
	return n, nil
}

// state is nil without TLS.
func (r *replay) state() *tls.ConnectionState {
	t, ok := r.Conn.(*tls.Conn)
	if !ok {
		return nil
	}
	state := t.ConnectionState()
	return &state
}
