package wire

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
)

// maxKept is more than is ever written at once, in bytes. TLS answers a client's
// new keys even while something is kept.
const maxKept = 64 << 10

// keptBuffers hold what is kept: a chunk of a large message, most of the time.
var keptBuffers = sync.Pool{New: func() any {
	b := make([]byte, 0, chunk+1<<10)
	return &b
}}

// socket writes without waiting, once it is told to: what the kernel does not
// take at once is kept and sent by a goroutine that ends when all is sent.
type socket struct {
	net.Conn
	raw syscall.RawConn // nil: writes wait
	// drained is called when everything that was kept is sent.
	drained func()

	mu       sync.Mutex
	kept     []byte
	draining bool
	// What attempt writes and what came of it: a closure for each write would be garbage.
	bytes   []byte
	written int
	err     error
	attempt func(fd uintptr) bool
}

// eager makes the writes from here on not wait.
func (s *socket) eager(drained func()) error {
	c, ok := s.Conn.(syscall.Conn)
	if !ok {
		return errors.New("the connection is not a socket")
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	s.attempt = func(fd uintptr) bool {
		for {
			s.written, s.err = syscall.Write(int(fd), s.bytes)
			if !errors.Is(s.err, syscall.EINTR) {
				return true // false would wait for a socket that takes more, which it may do already
			}
		}
	}
	s.raw, s.drained = raw, drained
	return nil
}

// busy reports whether something is kept: it is better to wait than to write more.
func (s *socket) busy() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.draining
}

// Write implements net.Conn.
func (s *socket) Write(b []byte) (int, error) {
	if s.raw == nil {
		return s.Conn.Write(b)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	if !s.draining {
		var err error
		if n, err = s.write(b); err != nil {
			return n, err
		}
	}
	if len(s.kept) > maxKept {
		s.Close()
		return n, fmt.Errorf("%d bytes wait for a client that does not read", len(s.kept))
	}
	if n < len(b) {
		if s.kept == nil {
			s.kept = (*keptBuffers.Get().(*[]byte))[:0]
		}
		s.kept = append(s.kept, b[n:]...)
		if !s.draining {
			s.draining = true
			go s.drain()
		}
	}
	return len(b), nil
}

// write gives the kernel what it takes now.
func (s *socket) write(b []byte) (int, error) {
	s.bytes = b
	err := s.raw.Write(s.attempt)
	s.bytes = nil
	switch {
	case err != nil: // closed
		return 0, err
	case errors.Is(s.err, syscall.EAGAIN):
		return 0, nil
	case s.err != nil:
		return 0, s.err
	}
	return s.written, nil
}

// drain sends what is kept. Whoever cannot be written to is not read from either.
func (s *socket) drain() {
	for {
		s.mu.Lock()
		b := s.kept
		s.kept = nil
		s.draining = len(b) > 0
		s.mu.Unlock()
		if len(b) == 0 {
			s.drained()
			return
		}
		if _, err := s.Conn.Write(b); err != nil {
			s.Close()
			return
		}
		keptBuffers.Put(&b)
	}
}
