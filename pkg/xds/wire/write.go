package wire

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/status"
)

// chunk is what is written at a time, in bytes: one record of TLS, and no more
// than any peer takes as a frame.
const chunk = 16 << 10

// frameHeader is the length of a frame's header (RFC 9113, 4.1).
const frameHeader = 9

// writer collects a chunk. Writers are shared by all connections.
type writer struct {
	out    bytes.Buffer
	framer *http2.Framer
	data   []byte
}

var writers = sync.Pool{New: func() any {
	w := &writer{data: make([]byte, 0, chunk)}
	w.framer = http2.NewFramer(&w.out, nil)
	return w
}}

func (w *writer) free() {
	w.out.Reset()
	writers.Put(w)
}

// room is for data, in bytes.
func (w *writer) room() int { return chunk - w.out.Len() - frameHeader }

// say adds frames to what is written next. c.mu is held. Writing to a buffer does not fail.
func (c *conn) say(frames func(*http2.Framer) error) {
	w := writers.Get().(*writer)
	defer w.free()
	if err := frames(w.framer); err != nil {
		c.fail(err)
		return
	}
	c.control = append(c.control, w.out.Bytes()...)
}

// flush writes what client and network take now. c.mu is held.
func (c *conn) flush() {
	for !c.closed && !c.socket.busy() {
		w := writers.Get().(*writer)
		c.fill(w)
		n := w.out.Len()
		var err error
		if n > 0 {
			_, err = c.outer.Write(w.out.Bytes())
		}
		w.free()
		if err != nil {
			c.fail(err)
		}
		if n == 0 || err != nil {
			return
		}
	}
	if len(c.control) > maxControl {
		c.fail(fmt.Errorf("%d bytes of answers wait for a client that does not read", len(c.control)))
	}
}

// maxControl bounds answers to pings and settings that a client does not read, in bytes.
const maxControl = 16 << 10

// fill takes from each stream in turn.
func (c *conn) fill(w *writer) {
	w.out.Write(c.control)
	c.control = nil
	moved := false
	for i := range c.streams {
		s := c.streams[(c.turn+i)%len(c.streams)]
		for s.fill(w) {
			moved = true
		}
	}
	c.turn++
	if moved {
		c.moved.Broadcast()
		c.forget()
	}
}

// fill writes a frame or two, if there is something to write and room for it.
func (s *Stream) fill(w *writer) bool {
	c := s.conn
	if s.gone || len(s.queue) == 0 && !s.ended || w.room() < 1<<10 {
		return false
	}
	if len(s.queue) == 0 {
		s.trailers(w.framer)
		return true
	}
	m := &s.queue[0]
	n := min(m.size()-m.written, w.room(), int(s.window), int(c.window))
	if n <= 0 {
		return false
	}
	if !s.begun {
		s.begun = true
		s.headers(w.framer, false, responseHeaders)
		n = min(n, w.room())
	}
	w.data = m.appendTo(w.data[:0], n)
	if err := w.framer.WriteData(s.id, false, w.data); err != nil {
		c.fail(err)
		return false
	}
	s.window -= int64(n)
	c.window -= int64(n)
	s.queued -= n
	if m.written == m.size() {
		if m.large() {
			s.large -= m.size()
		}
		s.queue[0] = message{}
		s.queue = s.queue[1:]
		if len(s.queue) == 0 {
			s.queue, s.first = nil, [1]message{} // a longer queue has left its first message there
		}
	}
	return true
}

// trailers end the stream (gRPC over HTTP/2, Responses), and it is told that no
// more is wanted of a client that has not ended its half (RFC 9113, 8.1).
func (s *Stream) trailers(f *http2.Framer) {
	var fields []hpack.HeaderField
	if !s.begun {
		fields = responseHeaders
	}
	s.headers(f, true, append(fields[:len(fields):len(fields)], statusFields(s.status)...))
	if !s.halfway {
		if err := f.WriteRSTStream(s.id, http2.ErrCodeNo); err != nil {
			s.conn.fail(err)
		}
	}
	s.drop()
}

var responseHeaders = []hpack.HeaderField{
	{Name: ":status", Value: "200"}, {Name: "content-type", Value: "application/grpc"},
}

// headers are encoded without a table: a connection has two or three of them.
// Each says so: a client may have asked for a smaller table than the standard's,
// and then waits to be told (RFC 7541, 4.2).
func (s *Stream) headers(f *http2.Framer, last bool, fields []hpack.HeaderField) {
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	e.SetMaxDynamicTableSize(0)
	var err error
	for _, field := range fields {
		err = e.WriteField(field)
	}
	if err == nil {
		err = f.WriteHeaders(http2.HeadersFrameParam{
			StreamID: s.id, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: last})
	}
	if err != nil {
		s.conn.fail(err)
	}
}

func statusFields(s *status.Status) []hpack.HeaderField {
	fields := []hpack.HeaderField{{Name: "grpc-status", Value: strconv.Itoa(int(s.Code()))}}
	if s.Message() != "" {
		fields = append(fields, hpack.HeaderField{Name: "grpc-message", Value: escape(s.Message())})
	}
	return fields
}

// maxStatus is the longest message of a status, in bytes.
const maxStatus = 4 << 10

// escape is gRPC's Percent-Encoded.
func escape(words string) string {
	var out strings.Builder
	for _, b := range []byte(strings.ToValidUTF8(words[:min(len(words), maxStatus)], "")) {
		if b >= ' ' && b <= '~' && b != '%' {
			out.WriteByte(b)
		} else {
			fmt.Fprintf(&out, "%%%02X", b)
		}
	}
	return out.String()
}
