package wire

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxKept is more than is ever written at once, in bytes. TLS answers a client's
// new keys even while something is kept.
const maxKept = 64 << 10

// keptBuffers hold what is kept: a chunk of a large message, most of the time.
var keptBuffers = sync.Pool{New: func() any {
	b := make([]byte, 0, chunk+1<<10)
	return &b
}}

// errLater: nothing has come. It is temporary, for which TLS reads on when it is asked to again.
var errLater net.Error = later{}

type later struct{}

func (later) Error() string   { return "nothing has come yet" }
func (later) Timeout() bool   { return true }
func (later) Temporary() bool { return true }

// socket neither reads nor writes with waiting, once it is a poller's: what the
// kernel does not take at once is kept, and sent when the poller calls drain.
type socket struct {
	net.Conn         // before, and for its addresses
	poller   *poller // nil: reads and writes wait
	fd       int
	// The poller's: the end has come, and everything is read that had come.
	ending, dry bool

	mu    sync.Mutex
	kept  []byte
	ended bool
}

// take makes it the poller's. The connection's descriptor is no more Go's, whose own poller would
// be woken by each of its events, too.
func (s *socket) take(conn net.Conn, p *poller) error {
	c, ok := conn.(syscall.Conn)
	if !ok {
		return errors.New("the connection is not a socket")
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	fd := -1
	var failed error
	err = raw.Control(func(of uintptr) { fd, failed = unix.FcntlInt(of, unix.F_DUPFD_CLOEXEC, 0) })
	if err := errors.Join(err, failed); err != nil {
		return err
	}
	if err := conn.Close(); err != nil { // of the other descriptor
		return errors.Join(err, unix.Close(fd))
	}
	s.Conn, s.poller, s.fd = conn, p, fd
	return nil
}

// busy reports whether something is kept: it is better to wait than to write more.
func (s *socket) busy() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.kept) > 0
}

// Read implements net.Conn.
func (s *socket) Read(b []byte) (int, error) {
	if s.poller == nil {
		return s.Conn.Read(b)
	}
	if s.dry { // the poller tells of what has come since
		return 0, errLater
	}
	for {
		n, err := syscall.Read(s.fd, b)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.EAGAIN):
			s.dry = true
			return 0, errLater
		case err != nil:
			return 0, err
		case n == 0:
			return 0, io.EOF
		}
		s.dry = n < len(b) && !s.ending // epoll(7): what comes from now on is told
		return n, nil
	}
}

// Write implements net.Conn.
func (s *socket) Write(b []byte) (int, error) {
	if s.poller == nil {
		return s.Conn.Write(b)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	if len(s.kept) == 0 {
		var err error
		if n, err = s.write(b); err != nil || n == len(b) {
			return n, err
		}
		s.kept = (*keptBuffers.Get().(*[]byte))[:0]
	}
	if len(s.kept) > maxKept {
		if err := unix.Shutdown(s.fd, unix.SHUT_RDWR); err != nil { // TLS does not tell of this error
			return n, err
		}
		return n, fmt.Errorf("%d bytes wait for a client that does not read", len(s.kept))
	}
	s.kept = append(s.kept, b[n:]...)
	return len(b), nil
}

// write gives the kernel what it takes now.
func (s *socket) write(b []byte) (int, error) {
	if s.ended {
		return 0, net.ErrClosed
	}
	for {
		n, err := syscall.Write(s.fd, b)
		switch {
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EAGAIN):
			return 0, nil
		default:
			return max(n, 0), err
		}
	}
}

// drain sends what is kept, as far as the kernel takes it, and reports whether that was all.
func (s *socket) drain() (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, err := s.write(s.kept)
	if err != nil {
		return false, err
	}
	if s.kept = s.kept[:copy(s.kept, s.kept[n:])]; len(s.kept) > 0 {
		return false, nil
	}
	s.free()
	return true, nil
}

// free gives the buffer back. s.mu is held.
func (s *socket) free() {
	if b := s.kept; b != nil {
		keptBuffers.Put(&b)
		s.kept = nil
	}
}

// end closes the descriptor. Only the poller may, which is not reading then.
func (s *socket) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	s.free()
	unix.Close(s.fd)
}
