package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/net/http2"
	"golang.org/x/sys/unix"
)

const (
	// turnEvents is how many sockets a poller reads before it lets others run, and has the
	// network looked at: a watch's event waits for so many answers of proxies, not for a thousand.
	turnEvents = 16
	// turnReads is how often one connection is read before others are.
	turnReads = 16
	// ends are events behind which there is no other: all is read up to the end.
	ends = unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR
	// edges are the events of a socket. Each is told once: a turn that reads less than has come
	// has to be followed by another.
	edges = unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET
)

// poller reads its share of the connections, one at a time. It waits in Go's
// own poller, for an epoll instance (epoll(7)) that has the sockets: so it has
// a thread only while it reads, and between two turns Go looks at everything
// else that has come, which it does when nothing else can run.
type poller struct {
	epoll *os.File
	fd    int
	bell  int // an eventfd of the instance, for what comes from no socket

	// The goroutine's.
	events [turnEvents]unix.EpollEvent
	said   [maxBlock + 2*chunk]byte // what has been read and is no frame yet
	whole  bytes.Reader             // frames of it
	framer *http2.Framer            // reads them

	closed atomic.Bool

	mu    sync.Mutex
	conns map[int]*conn // by descriptor
	calls []*conn       // for which there is something to do
}

func newPoller() (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // for os.NewFile to let Go wait for it
		unix.Close(fd)
		return nil, fmt.Errorf("epoll: %w", err)
	}
	p := &poller{epoll: os.NewFile(uintptr(fd), "epoll"), fd: fd, conns: map[int]*conn{}}
	p.newFramer()
	if p.bell, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		p.epoll.Close()
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	// Each write to it is an event: nobody needs to read it.
	if err := p.control(unix.EPOLL_CTL_ADD, p.bell, unix.EPOLLIN|unix.EPOLLET); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// newFramer forgets what a connection's mistake has left in the old one.
func (p *poller) newFramer() {
	p.framer = http2.NewFramer(nil, &p.whole)
	p.framer.MaxHeaderListSize = maxHeaders
	p.framer.SetMaxReadFrameSize(chunk)
	p.framer.SetReuseFrames()
}

func (p *poller) control(op, fd int, events uint32) error {
	if err := unix.EpollCtl(p.fd, op, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)}); err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

// run until close.
func (p *poller) run() error {
	raw, err := p.epoll.SyscallConn()
	if err != nil {
		return err
	}
	err = raw.Read(func(uintptr) bool {
		p.turn()
		return false // waits for the next event, of those too that came during the turn
	})
	if p.closed.Load() { // which no error says that os exports
		return nil
	}
	return err
}

// close is called when no connection is left.
func (p *poller) close() {
	p.closed.Store(true)
	p.epoll.Close()
	unix.Close(p.bell)
}

// turn reads what has come.
func (p *poller) turn() {
	n := p.wait()
	// Behind the events: whoever calls from here on rings for another turn.
	for _, c := range p.called() {
		c.ready(unix.EPOLLIN | unix.EPOLLRDHUP) // up to the end, as nothing was told
	}
	for _, e := range p.events[:n] {
		if c := p.find(int(e.Fd)); c != nil {
			c.ready(e.Events)
		}
	}
	if n == len(p.events) {
		p.ring() // more may have been ready before
	}
}

// wait is the number of events that have come.
func (p *poller) wait() int {
	for {
		n, err := unix.EpollWait(p.fd, p.events[:], 0)
		if !errors.Is(err, syscall.EINTR) {
			return max(n, 0)
		}
	}
}

// find is nil for a connection that has ended since, and for the bell.
func (p *poller) find(fd int) *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.conns[fd]
}

// ring: there is another turn.
func (p *poller) ring() {
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	_, _ = unix.Write(p.bell, one[:]) // it counts up to 2^64-2
}

// call has the poller attend to a connection.
func (p *poller) call(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !c.called {
		c.called = true
		p.calls = append(p.calls, c)
		p.ring()
	}
}

// called are those that were called since.
func (p *poller) called() []*conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	calls := p.calls
	p.calls = nil
	for _, c := range calls {
		c.called = false
	}
	return calls
}

// add a connection. What it has said already is read first.
func (p *poller) add(c *conn) error {
	p.mu.Lock()
	p.conns[c.socket.fd] = c
	p.mu.Unlock()
	if err := p.control(unix.EPOLL_CTL_ADD, c.socket.fd, edges); err != nil {
		p.remove(c)
		return err
	}
	p.call(c)
	return nil
}

// remove a connection, before its descriptor is closed and may become another's.
func (p *poller) remove(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c.socket.fd)
}
