package wire

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"runtime"
	"slices"
	"sync"
	"time"
)

// Config of a Server. A zero field takes its default.
type Config struct {
	// TLS; nil is plaintext.
	TLS *tls.Config
	// Streams are the methods that are served, "/package.Service/Method".
	Streams map[string]Accept
	// MaxConnectionAge ends a connection after this time, +-10 %: the next
	// handshake shows the renewed certificate. Default 25 min, for leaves of 1 h.
	// The end of the certificate that the client has shown ends it earlier.
	MaxConnectionAge time.Duration
	// Grace is what a client has to close a connection that it was told to leave; default 10 s.
	Grace time.Duration
	// MaxMessage is the largest message that a client may send, in bytes;
	// default 4 MiB (a reconnect names everything that is held).
	MaxMessage int
	// Log; nil is slog.Default.
	Log *slog.Logger
}

// The defaults.
const (
	defaultAge        = 25 * time.Minute
	defaultGrace      = 10 * time.Second
	defaultMaxMessage = 4 << 20
)

// Server serves the streams of a listener's connections.
type Server struct {
	tls         *tls.Config
	streams     map[string]Accept
	age, grace  time.Duration
	hello       time.Duration // greetTime
	maxMessage  int
	log         *slog.Logger
	others      *others
	admission   *admission
	connections sync.WaitGroup
	polling     sync.WaitGroup

	mu       sync.Mutex
	stopped  bool // no connection is accepted any more
	closed   bool // nor kept
	listener net.Listener
	pollers  []*poller
	turn     int                   // whose the next connection is
	raw      map[net.Conn]struct{} // those that are greeted
	conns    map[*conn]struct{}    // those with streams
	left     chan struct{}         // has a value when one of these has ended
}

// New gives a Server. Close ends it.
func New(cfg Config) *Server {
	s := &Server{
		tls: cfg.TLS, streams: cfg.Streams, age: cfg.MaxConnectionAge, grace: cfg.Grace, hello: greetTime,
		maxMessage: cfg.MaxMessage, log: cfg.Log,
		raw: map[net.Conn]struct{}{}, conns: map[*conn]struct{}{},
		others: newOthers(), admission: newAdmission(), left: make(chan struct{}, 1),
	}
	if s.age == 0 {
		s.age = defaultAge
	}
	if s.grace == 0 {
		s.grace = defaultGrace
	}
	if s.maxMessage == 0 {
		s.maxMessage = defaultMaxMessage
	}
	if s.log == nil {
		s.log = slog.Default()
	}
	return s
}

// Serve accepts until Drain or Close, which make it return nil.
func (s *Server) Serve(l net.Listener) error {
	if err := s.listen(l); err != nil {
		return err
	}
	for pause := time.Duration(0); ; {
		raw, err := l.Accept()
		switch temporary, ok := err.(interface{ Temporary() bool }); {
		case err == nil:
			pause = 0
			s.begin(raw)
		case s.isStopped():
			return nil
		case ok && temporary.Temporary(): // no descriptors, most likely
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			s.log.Error("no connection accepted", "error", err)
			time.Sleep(pause)
		default:
			return fmt.Errorf("accept connections: %w", err)
		}
	}
}

// listen begins to poll, unless the Server is stopped already.
func (s *Server) listen(l net.Listener) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listener = l
	if s.stopped {
		l.Close()
		return nil
	}
	for range runtime.GOMAXPROCS(0) {
		p, err := newPoller()
		if err != nil {
			l.Close()
			return err
		}
		s.pollers = append(s.pollers, p)
		s.polling.Go(func() {
			if err := p.run(); err != nil {
				s.log.Error("connections are not read any more", "error", err)
			}
		})
	}
	return nil
}

func (s *Server) isStopped() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopped
}

// Others is where connections come whose first stream is of another method. A
// grpc.Server with Credentials serves them; it ends with the Server.
func (s *Server) Others() net.Listener { return s.others }

const stopping = "meshd is being stopped"

// Drain accepts no connection any more and sends the clients elsewhere, one after
// the other over the given time, so that not all of them come there at once. It
// returns when all have gone, or when ctx ends.
func (s *Server) Drain(ctx context.Context, over time.Duration) {
	s.stop()
	s.mu.Lock()
	conns := slices.Collect(maps.Keys(s.conns))
	s.mu.Unlock()
	pace := time.NewTicker(max(1, over/time.Duration(len(conns)+1)))
	defer pace.Stop()
	for _, c := range conns {
		c.leave(stopping)
		select {
		case <-pace.C:
		case <-ctx.Done():
			return
		}
	}
	for s.serves() {
		select {
		case <-s.left:
		case <-ctx.Done():
			return
		}
	}
}

func (s *Server) serves() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns) > 0
}

// stop accepts no connection any more.
func (s *Server) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	if s.listener != nil {
		s.listener.Close()
	}
}

// Close ends all connections and returns when their handlers are closed.
func (s *Server) Close() {
	s.stop()
	s.others.close()
	s.mu.Lock()
	s.closed = true
	for raw := range s.raw {
		raw.Close()
	}
	conns := slices.Collect(maps.Keys(s.conns))
	s.mu.Unlock()
	for _, c := range conns {
		c.mu.Lock()
		c.fail(net.ErrClosed)
		c.mu.Unlock()
	}
	s.connections.Wait()
	s.mu.Lock()
	pollers := s.pollers
	s.pollers = nil
	s.mu.Unlock()
	for _, p := range pollers {
		p.close()
	}
	s.polling.Wait()
}
