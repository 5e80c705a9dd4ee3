package wire

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"

	"google.golang.org/grpc/status"
)

// Request is a stream that a client opens.
type Request struct {
	// Method is "/package.Service/Method".
	Method string
	From   net.Addr
	// TLS is the connection's; nil without.
	TLS *tls.ConnectionState
	// Stream answers.
	Stream *Stream
}

// Accept gives the handler of a new stream; an error, with a gRPC status, ends it.
type Accept func(*Request) (Handler, error)

// Handler takes what a stream's client sends. Its methods are called one at a
// time, on a goroutine that reads many connections: they must not wait for the
// network, nor for anything else that takes long.
type Handler interface {
	// Receive takes a message, which is its own only until it returns. An error,
	// with a gRPC status, ends the stream.
	Receive(message []byte) error
	// Closed is called once, last: nothing is received or sent any more.
	Closed()
}

// ErrClosed is what Send returns when there is nobody to send to.
var ErrClosed = errors.New("the stream has ended")

const (
	// unsent is how many bytes of a stream may wait before Send of a larger message
	// does: a message's 32 KB, and what is put around them.
	unsent = 33 << 10
	// maxUnsent is how many bytes of smaller messages may wait.
	maxUnsent = 512 << 10
)

// Stream is a stream to a client.
type Stream struct {
	conn    *conn
	id      uint32
	handler Handler // the poller's; nil once it is closed

	// The poller's: the part of a message that has come, and the bytes that the client's window lacks.
	part  []byte
	taken uint32

	// Of conn.mu.
	window  int64 // bytes that the client takes
	queue   []message
	first   [1]message // the queue's room: most streams have one message at a time
	queued  int        // bytes
	large   int        // of which are of messages that Send waits for
	begun   bool
	ended   bool // no message follows what is in the queue, but status
	status  *status.Status
	gone    bool // everything is written, or the client wants no more
	halfway bool // the client has ended its half
}

// message is a gRPC message of two parts, and how much of it is written, its prefix included.
type message struct {
	parts   [2][]byte
	written int
}

// prefixSize is the length of a gRPC message's prefix: a flag and the message's size.
const prefixSize = 5

func (m message) size() int { return prefixSize + len(m.parts[0]) + len(m.parts[1]) }

func (m message) large() bool { return m.size() > unsent }

// appendTo adds up to n bytes that are not written yet.
func (m *message) appendTo(out []byte, n int) []byte {
	var prefix [prefixSize]byte
	binary.BigEndian.PutUint32(prefix[1:], uint32(m.size()-prefixSize))
	skip := m.written
	for _, part := range [][]byte{prefix[:], m.parts[0], m.parts[1]} {
		if skip >= len(part) {
			skip -= len(part)
			continue
		}
		part = part[skip:min(len(part), skip+n)]
		out = append(out, part...)
		skip, n, m.written = 0, n-len(part), m.written+len(part)
	}
	return out
}

// Send sends a message of two parts, of which the first may be shared with other
// streams: neither may change. A message of up to 32 KB never waits for the client
// or the network, so that Receive may send it; a client that lets 512 KB of them
// wait is cut off. A larger one waits while more than 32 KB of the stream do, and
// may not be sent by Receive.
func (s *Stream) Send(shared, own []byte) error {
	c := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.ended || s.gone || c.closed {
		return ErrClosed
	}
	m := message{parts: [2][]byte{shared, own}}
	if s.queued-s.large > maxUnsent {
		c.fail(fmt.Errorf("%d bytes of messages wait for a client that does not read", s.queued))
		return ErrClosed
	}
	if len(s.queue) == 0 {
		s.queue = s.first[:0]
	}
	s.queue = append(s.queue, m)
	s.queued += m.size()
	if m.large() {
		s.large += m.size()
	}
	c.flush()
	for m.large() && s.queued > unsent && !s.gone && !c.closed {
		c.moved.Wait()
	}
	if s.gone || c.closed {
		return ErrClosed
	}
	return nil
}

// end lets the status follow what is in the queue. c.mu is held.
func (s *Stream) end(err error) {
	if !s.ended {
		s.ended, s.status = true, status.Convert(err)
	}
}

// drop forgets the stream at once. c.mu is held.
func (s *Stream) drop() {
	s.gone, s.queue, s.first, s.queued, s.large = true, nil, [1]message{}, 0, 0
}
