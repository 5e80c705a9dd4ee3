package wire

import (
	"errors"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// window is what a client may send ahead, of a stream and in all, in bytes.
	window = 256 << 10
	// standardWindow is what both may send before settings say otherwise (RFC 9113, 6.9.2).
	standardWindow = 65535
	// maxStreams at a time: an Envoy has two, the rest is for reconnects that overlap.
	maxStreams = 8
	// maxOpened in a connection's life; an Envoy that tries again twice a second opens 6000 in 25 minutes.
	maxOpened = 20000
	// tableSize of a client's headers, in bytes: the standard's (RFC 7541, 4.2).
	tableSize = 4096
	// maxHeaders of a stream, in bytes.
	maxHeaders = 16 << 10
	// maxAhead is how much of a message has room before it has come, in bytes: a length that lies costs no more.
	maxAhead = 256 << 10
)

// conn is a connection. Its poller reads; whoever sends writes.
type conn struct {
	server *Server
	poller *poller
	socket *socket
	outer  *replay // TLS over socket
	// The poller's: the table of the client's headers, the part of a frame that has come,
	// how many streams there were, and the bytes that the client's window lacks.
	table  *hpack.Decoder
	rest   []byte
	opened int
	taken  uint32
	gone   bool

	called bool // of poller.mu

	mu      sync.Mutex
	last    uint32    // the highest stream; only the poller writes it
	moved   sync.Cond // something was written, or nothing will be
	closed  bool
	leaving bool
	control []byte // frames that are no stream's
	streams []*Stream
	told    []*Stream // those of them that leave has ended: they go from streams before the poller has closed them
	turn    int
	window  int64       // bytes that the client takes
	initial int64       // and of a new stream
	timer   *time.Timer // of the connection's life, then of its grace
}

func newConn(s *Server, p *poller, sock *socket, outer *replay) *conn {
	c := &conn{
		server: s, poller: p, socket: sock, outer: outer, table: hpack.NewDecoder(tableSize, nil),
		window: standardWindow, initial: standardWindow}
	c.moved.L = &c.mu
	return c
}

// fail ends the connection: nothing is written any more, and the poller lets it go. c.mu is held.
func (c *conn) fail(err error) {
	if !c.closed {
		c.closed = true
		c.server.log.Debug("connection ended", "from", c.socket.RemoteAddr(), "error", err)
		c.moved.Broadcast()
		c.poller.call(c)
	}
}

// forget leaves out the streams that are gone. c.mu is held.
func (c *conn) forget() {
	kept := c.streams[:0]
	for _, s := range c.streams {
		if !s.gone {
			kept = append(kept, s)
		}
	}
	clear(c.streams[len(kept):])
	c.streams = kept
}

// leave tells the client to go elsewhere: its streams end behind what they have
// to send, and the client is waited for to close.
func (c *conn) leave(why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leaving || c.closed {
		return
	}
	c.leaving = true
	c.say(func(f *http2.Framer) error { return f.WriteGoAway(c.last, http2.ErrCodeNo, []byte(why)) })
	c.told = slices.Clone(c.streams)
	for _, s := range c.told {
		s.end(status.Error(codes.Unavailable, why))
	}
	c.flush()
	c.then(c.server.grace, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.fail(errors.New("the client does not go"))
	})
	c.poller.call(c) // to close the handlers
}

// lives lets the client go elsewhere after a time.
func (c *conn) lives(life time.Duration, why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.leaving {
		c.then(life, func() { c.leave(why) })
	}
}

// then does something after a time, instead of what was to be done before. c.mu is held.
func (c *conn) then(after time.Duration, do func()) {
	if c.timer != nil {
		c.timer.Stop()
	}
	if !c.closed {
		c.timer = time.AfterFunc(after, do)
	}
}

// ready takes the socket's events (epoll_ctl(2)).
func (c *conn) ready(events uint32) {
	if c.gone {
		return
	}
	if events&unix.EPOLLOUT != 0 && c.socket.busy() {
		c.write()
	}
	if events&^unix.EPOLLOUT != 0 {
		c.socket.ending = events&ends != 0
		if err := c.read(); err != nil {
			c.mu.Lock()
			c.stop(err)
			c.mu.Unlock()
		}
	}
	c.close()
}

// write sends what the network did not take before.
func (c *conn) write() {
	more, err := c.socket.drain()
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err != nil:
		c.fail(err)
	case more:
		c.flush()
	}
}

// close closes what has ended: the handlers, and the connection.
func (c *conn) close() {
	c.mu.Lock()
	closed, left := c.closed, c.leaving
	var streams []*Stream
	if closed || left {
		streams = slices.Concat(c.streams, c.told)
	}
	c.mu.Unlock()
	for _, s := range streams {
		s.close()
	}
	if closed {
		c.release()
	}
}

// release is the end of a connection.
func (c *conn) release() {
	c.gone = true
	c.poller.remove(c)
	c.socket.end()
	c.mu.Lock()
	if c.timer != nil {
		c.timer.Stop()
	}
	c.mu.Unlock()
	c.server.ended(c)
}

// stop: nothing is read any more. A client that has made a mistake is told. c.mu is held.
func (c *conn) stop(err error) {
	var mistake http2.ConnectionError
	if !c.leaving && errors.As(err, &mistake) {
		c.say(func(f *http2.Framer) error { return f.WriteGoAway(c.last, http2.ErrCode(mistake), nil) })
		for _, s := range c.streams {
			s.drop()
		}
		c.flush()
	}
	c.fail(err)
}

// close tells the handler. The poller's.
func (s *Stream) close() {
	if s.handler != nil {
		s.handler.Closed()
		s.handler, s.part = nil, nil
	}
}

// read takes what has come. Who says more than a turn's share is called again.
func (c *conn) read() error {
	p := c.poller
	n := copy(p.said[:], c.rest)
	c.socket.dry = false
	for range turnReads {
		got, err := c.outer.Read(p.said[n:])
		if got > 0 {
			if n, err = c.frames(n + got); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, errLater):
			c.keep(p.said[:n])
			return nil
		case err != nil:
			return err
		}
	}
	c.keep(p.said[:n])
	p.call(c)
	return nil
}

// keep what is no frame yet.
func (c *conn) keep(rest []byte) {
	if len(rest) == 0 {
		c.rest = nil
		return
	}
	c.rest = append(c.rest[:0], rest...)
}

// frames takes the frames of what was read, and gives how much is left of it.
func (c *conn) frames(n int) (int, error) {
	p := c.poller
	end, err := wholeFrames(p.said[:n])
	if err != nil {
		return 0, err
	}
	p.whole.Reset(p.said[:end])
	p.framer.ReadMetaHeaders = c.table
	for p.whole.Len() > 0 {
		f, err := p.framer.ReadFrame()
		if err == nil {
			err = c.frame(f)
		}
		if err != nil {
			if err = c.blame(err); err != nil {
				p.newFramer()
				return 0, err
			}
		}
	}
	return copy(p.said[:], p.said[end:n]), nil
}

// blame ends the stream that a mistake is of; any other error ends the connection.
func (c *conn) blame(err error) error {
	var bad http2.StreamError
	switch {
	case errors.Is(err, http2.ErrFrameTooLarge):
		return http2.ConnectionError(http2.ErrCodeFrameSize)
	case !errors.As(err, &bad):
		return err
	case bad.StreamID%2 == 0:
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	c.mu.Lock()
	c.last = max(c.last, bad.StreamID)
	c.mu.Unlock()
	c.reset(bad.StreamID, bad.Code)
	return nil
}

// frame takes one frame.
func (c *conn) frame(f http2.Frame) error {
	switch f := f.(type) {
	case *http2.DataFrame:
		return c.data(f)
	case *http2.MetaHeadersFrame:
		return c.open(f)
	case *http2.RSTStreamFrame:
		if s := c.stream(f.StreamID); s != nil {
			c.cancel(s)
		} else if c.idle(f.StreamID) {
			return http2.ConnectionError(http2.ErrCodeProtocol)
		}
	case *http2.WindowUpdateFrame:
		return c.grow(f.StreamID, int64(f.Increment))
	case *http2.SettingsFrame:
		return c.settings(f)
	case *http2.PingFrame:
		if !f.IsAck() {
			data := f.Data
			c.answer(func(f *http2.Framer) error { return f.WritePing(true, data) })
		}
	case *http2.PushPromiseFrame:
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	return nil // priorities, the client's own GOAWAY, and what is not known
}

// answer writes frames that are no stream's.
func (c *conn) answer(frames func(*http2.Framer) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.say(frames)
	c.flush()
}

// idle: the client has not opened the stream, or cannot (RFC 9113, 5.1.1). The poller's.
func (c *conn) idle(id uint32) bool { return id > c.last || id%2 == 0 }

// stream that is known; nil is one that has ended, or never was.
func (c *conn) stream(id uint32) *Stream {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.streams {
		if s.id == id {
			return s
		}
	}
	return nil
}

// reset refuses a stream, or ends it for its client's fault.
func (c *conn) reset(id uint32, code http2.ErrCode) {
	if s := c.stream(id); s != nil {
		c.cancel(s) // first: nothing of it may follow
	}
	c.answer(func(f *http2.Framer) error { return f.WriteRSTStream(id, code) })
}

// cancel ends a stream of which nothing is wanted any more.
func (c *conn) cancel(s *Stream) {
	c.mu.Lock()
	s.drop()
	c.forget()
	c.moved.Broadcast()
	c.mu.Unlock()
	s.close()
}

// finish ends a stream behind what it has sent.
func (c *conn) finish(s *Stream, err error) {
	c.mu.Lock()
	s.end(err)
	c.flush()
	c.mu.Unlock()
	s.close()
}

// open takes the headers of a new stream, or the trailers of one.
func (c *conn) open(f *http2.MetaHeadersFrame) error {
	if s := c.stream(f.StreamID); s != nil {
		if !f.StreamEnded() {
			return http2.ConnectionError(http2.ErrCodeProtocol)
		}
		c.half(s)
		return nil
	}
	switch {
	case f.StreamID <= c.last && f.StreamID%2 == 1:
		return nil // it has ended here while this was on its way
	case f.StreamID%2 == 0:
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	c.opened++
	s := &Stream{conn: c, id: f.StreamID, halfway: f.StreamEnded()}
	c.mu.Lock()
	c.last = s.id
	full, left := len(c.streams) >= maxStreams, c.leaving
	if !full && !left {
		s.window = c.initial
		c.streams = append(c.streams, s)
	}
	c.mu.Unlock()
	switch {
	case left:
		return nil // it is told so
	case full:
		c.reset(s.id, http2.ErrCodeRefusedStream)
	case f.Truncated:
		c.reset(s.id, http2.ErrCodeEnhanceYourCalm)
	case f.PseudoValue("method") != "POST" || !isGRPC(f):
		c.reset(s.id, http2.ErrCodeProtocol)
	default:
		c.accept(s, f.PseudoValue("path"))
	}
	if c.opened > maxOpened {
		c.leave("too many streams for one connection")
	}
	return nil
}

// isGRPC: the content's type is application/grpc, of which "+" or ";" may say more.
func isGRPC(f *http2.MetaHeadersFrame) bool {
	for _, field := range f.RegularFields() {
		if field.Name == "content-type" {
			more, ok := strings.CutPrefix(field.Value, "application/grpc")
			return ok && (more == "" || more[0] == '+' || more[0] == ';')
		}
	}
	return false
}

func (c *conn) accept(s *Stream, method string) {
	accept, ok := c.server.streams[method]
	if !ok {
		c.finish(s, status.Error(codes.Unimplemented, "this connection carries other methods than "+method))
		return
	}
	var err error
	s.handler, err = accept(&Request{Method: method, From: c.socket.RemoteAddr(), TLS: c.outer.state(), Stream: s})
	switch {
	case status.Code(err) == codes.Unauthenticated:
		c.finish(s, err)
		c.leave("another certificate is needed") // which only another connection can show
	case err != nil:
		c.finish(s, err)
	case s.halfway:
		c.half(s)
	}
}

// half: the client has nothing more to say, and a stream of which only one end speaks is none of ours.
func (c *conn) half(s *Stream) {
	c.mu.Lock()
	s.halfway = true
	c.mu.Unlock()
	c.finish(s, nil)
}

// data takes a part of a message, or some messages.
func (c *conn) data(f *http2.DataFrame) error {
	if c.idle(f.StreamID) {
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	c.taken += f.Length
	s := c.stream(f.StreamID)
	if s != nil && s.handler != nil {
		s.taken += f.Length
		if err := s.receive(f.Data()); err != nil {
			c.finish(s, err)
		} else if f.StreamEnded() {
			c.half(s)
		}
	}
	c.refill(s)
	return nil
}

// refill gives the client back what its windows lack, before it has to wait.
func (c *conn) refill(s *Stream) {
	connection, stream := uint32(0), uint32(0)
	if c.taken > window/2 {
		connection, c.taken = c.taken, 0
	}
	if s != nil && s.handler != nil && s.taken > window/2 {
		stream, s.taken = s.taken, 0
	}
	if connection+stream == 0 {
		return
	}
	c.answer(func(f *http2.Framer) error {
		var err error
		if connection > 0 {
			err = f.WriteWindowUpdate(0, connection)
		}
		if stream > 0 {
			err = errors.Join(err, f.WriteWindowUpdate(s.id, stream))
		}
		return err
	})
}

// grow: the client takes more.
func (c *conn) grow(id uint32, by int64) error {
	if id != 0 && c.idle(id) {
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if id == 0 {
		if c.window += by; c.window > math.MaxInt32 {
			return http2.ConnectionError(http2.ErrCodeFlowControl)
		}
	}
	for _, s := range c.streams {
		if s.id != id {
			continue
		}
		if s.window+by > math.MaxInt32 {
			return http2.StreamError{StreamID: id, Code: http2.ErrCodeFlowControl}
		}
		s.window += by
	}
	c.flush()
	return nil
}

// settings of the client.
func (c *conn) settings(f *http2.SettingsFrame) error {
	if f.IsAck() {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	err := f.ForeachSetting(func(v http2.Setting) error {
		if err := v.Valid(); err != nil {
			return err
		}
		if v.ID != http2.SettingInitialWindowSize {
			return nil
		}
		by := int64(v.Val) - c.initial
		c.initial = int64(v.Val)
		for _, s := range c.streams {
			if s.window += by; s.window > math.MaxInt32 {
				return http2.ConnectionError(http2.ErrCodeFlowControl)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	c.say((*http2.Framer).WriteSettingsAck)
	c.flush()
	return nil
}

// receive cuts the messages out of what has come.
func (s *Stream) receive(data []byte) error {
	if len(s.part) > 0 {
		s.part = append(s.part, data...)
		data = s.part
	}
	room := prefixSize // for the message that is incomplete
	for len(data) >= prefixSize {
		if data[0] != 0 {
			return status.Error(codes.Unimplemented, "a compressed message")
		}
		size := prefixSize + int(data[1])<<24 + int(data[2])<<16 + int(data[3])<<8 + int(data[4])
		if limit := s.conn.server.maxMessage; size-prefixSize > limit {
			return status.Errorf(codes.ResourceExhausted, "a message of %d bytes, at most %d", size-prefixSize, limit)
		}
		if len(data) < size {
			room = max(len(data), min(size, maxAhead))
			break
		}
		if err := s.handler.Receive(data[prefixSize:size]); err != nil {
			return err
		}
		data = data[size:]
	}
	switch {
	case len(data) == 0:
		s.part = nil
	case len(s.part) == 0 || len(data) < len(s.part) || cap(s.part) < room:
		s.part = append(make([]byte, 0, room), data...)
	}
	return nil
}
