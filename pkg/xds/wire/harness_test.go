package wire

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// wait bounds what a test waits for: far beyond what anything takes.
const wait = 20 * time.Second

// The methods of the tests' servers.
const (
	echoMethod   = "/test.Streams/Echo"   // sends back what it gets
	holdMethod   = "/test.Streams/Hold"   // says what the test says
	refuseMethod = "/test.Streams/Refuse" // refuses all streams
)

// served is a Server, and the streams that it has accepted.
type served struct {
	*Server
	t       testing.TB
	address string
	client  *tls.Config // nil: plaintext
	opened  chan *peer
	done    chan struct{}

	mu       sync.Mutex
	accepted []*peer
}

// complaints fail a test: nothing of what its clients do is the Server's own failure.
type complaints struct{ testing.TB }

func (c complaints) Write(line []byte) (int, error) {
	c.Errorf("logged: %s", line)
	return len(line), nil
}

// serve runs a Server, and checks in the end that it has closed each handler once.
func serve(t testing.TB, cfg Config, client *tls.Config, change ...func(*Server)) *served {
	t.Helper()
	f := &served{t: t, client: client, opened: make(chan *peer, 1<<16), done: make(chan struct{})}
	cfg.Log = slog.New(slog.NewTextHandler(complaints{t}, &slog.HandlerOptions{Level: slog.LevelError}))
	cfg.Streams = map[string]Accept{
		echoMethod:   f.accept(true),
		holdMethod:   f.accept(false),
		refuseMethod: func(*Request) (Handler, error) { return nil, errRefused },
	}
	f.Server = New(cfg)
	for _, c := range change {
		c(f.Server)
	}
	l, err := smallBuffers().Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.address = l.Addr().String()
	ended := make(chan error, 1)
	go func() { ended <- f.Serve(l) }()
	t.Cleanup(func() {
		close(f.done)
		f.Close()
		if err := <-ended; err != nil {
			t.Errorf("Serve: %v", err)
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, p := range f.accepted {
			if n := p.closings.Load(); n != 1 {
				t.Errorf("stream %d of %s was closed %d times", p.tx.id, p.method, n)
			}
		}
	})
	return f
}

// smallBuffers, as meshd's, make clients that do not read felt soon.
func smallBuffers() *net.ListenConfig {
	return &net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var failed error
		err := raw.Control(func(fd uintptr) {
			failed = errors.Join(
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, 32<<10),
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 64<<10))
		})
		return errors.Join(err, failed)
	}}
}

var errRefused = status.Error(codes.PermissionDenied, "not you: 100 % ünwanted\n")

// socketPair is a connection with small buffers, of both ends.
func socketPair(t *testing.T) (server, client net.Conn) {
	t.Helper()
	l, err := smallBuffers().Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if client, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	return server, client
}

func (f *served) accept(echo bool) Accept {
	return func(r *Request) (Handler, error) {
		p := &peer{served: f, echo: echo, method: r.Method, from: r.From, tls: r.TLS, tx: r.Stream, got: make(chan string, 1<<10), closed: make(chan struct{})}
		f.mu.Lock()
		f.accepted = append(f.accepted, p)
		f.mu.Unlock()
		f.opened <- p
		return p, nil
	}
}

// next is the stream that was accepted next.
func (f *served) next() *peer {
	f.t.Helper()
	select {
	case p := <-f.opened:
		return p
	case <-time.After(wait):
		f.t.Fatal("no stream was opened")
		return nil
	}
}

// peer is a stream's Handler, which checks how it is called.
type peer struct {
	*served
	echo   bool
	method string
	from   net.Addr
	tls    *tls.ConnectionState
	tx     *Stream
	got    chan string
	closed chan struct{}
	sent   chan struct{} // closed when the last answer is sent

	busy     atomic.Bool
	closings atomic.Int32
}

func (p *peer) enter() {
	if p.busy.Swap(true) {
		p.t.Error("a handler is called twice at a time")
	}
	if p.closings.Load() > 0 {
		p.t.Error("a handler is called after Closed")
	}
}

func (p *peer) Receive(b []byte) error {
	p.enter()
	defer p.busy.Store(false)
	if words, fails := bytes.CutPrefix(b, []byte("fail: ")); fails {
		return status.Error(codes.InvalidArgument, string(words))
	}
	if p.echo {
		p.answer(bytes.Clone(b))
		return nil
	}
	select {
	case p.got <- string(b):
	case <-p.done:
	}
	return nil
}

// answer sends a large message apart, and the small ones behind it as well.
func (p *peer) answer(b []byte) {
	before, sent := p.sent, make(chan struct{})
	p.sent = sent
	send := func() {
		defer close(sent)
		if before != nil {
			<-before
		}
		if err := p.tx.Send(nil, b); err != nil && !errors.Is(err, ErrClosed) {
			p.t.Errorf("Send: %v", err)
		}
	}
	small := len(b)+prefixSize <= unsent
	select {
	case <-before:
	default:
		small = small && before == nil
	}
	if small {
		send()
	} else {
		go send()
	}
}

func (p *peer) Closed() {
	p.enter()
	defer p.busy.Store(false)
	if p.closings.Add(1) == 1 {
		close(p.closed)
	}
}

// gets expects messages.
func (p *peer) gets(want ...string) {
	p.t.Helper()
	for _, w := range want {
		select {
		case got := <-p.got:
			if got != w {
				p.t.Fatalf("got %q, want %q", clip(got), clip(w))
			}
		case <-time.After(wait):
			p.t.Fatalf("%q did not come", clip(w))
		}
	}
}

func (p *peer) ends() {
	p.t.Helper()
	within(p.t, p.closed, "Closed")
}

func (p *peer) send(messages ...string) {
	p.t.Helper()
	for _, m := range messages {
		if err := p.tx.Send([]byte(m[:len(m)/2]), []byte(m[len(m)/2:])); err != nil {
			p.t.Errorf("Send: %v", err)
		}
	}
}

func within(t testing.TB, c <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(wait):
		t.Fatalf("%s did not come", what)
	}
}

// inBackground is closed when f has returned.
func inBackground(f func()) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	return done
}

func clip(s string) string { return s[:min(len(s), 80)] }

// raw is a client that writes frames.
type raw struct {
	*http2.Framer
	t    testing.TB
	conn net.Conn
	out  bytes.Buffer // what is not written yet, while held
	held bool
}

// event is a frame that has come.
type event struct {
	http2.FrameHeader
	data   string // of DATA, GOAWAY, PING
	code   http2.ErrCode
	fields map[string]string
	last   uint32 // of GOAWAY
	more   uint32 // of WINDOW_UPDATE
}

// connect makes the TLS handshake, if there is one to make.
func (f *served) connect(t testing.TB) *raw {
	t.Helper()
	conn, err := net.Dial("tcp", f.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(wait)); err != nil {
		t.Fatal(err)
	}
	if f.client != nil {
		conn = tls.Client(conn, f.client)
	}
	r := &raw{t: t, conn: conn}
	r.Framer = http2.NewFramer(r, conn)
	r.AllowIllegalWrites = true
	r.ReadMetaHeaders = hpack.NewDecoder(tableSize, nil)
	return r
}

// Write implements io.Writer. A server may end the connection at any time: what it has said is read then.
func (r *raw) Write(b []byte) (int, error) {
	if r.held {
		return r.out.Write(b)
	}
	_, _ = r.conn.Write(b)
	return len(b), nil
}

// together writes what f writes at once.
func (r *raw) together(f func()) {
	r.held = true
	f()
	r.held = false
	_, _ = r.conn.Write(r.out.Bytes())
	r.out.Reset()
}

// hello says the preface.
func (f *served) hello(t testing.TB, settings ...http2.Setting) *raw {
	t.Helper()
	r := f.connect(t)
	r.bytes(http2.ClientPreface)
	r.do(r.WriteSettings(settings...))
	return r
}

func (r *raw) bytes(b string) { _, _ = r.Write([]byte(b)) }

func (r *raw) do(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// headers encodes pairs of names and values.
func headers(pairs ...string) []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	e.SetMaxDynamicTableSize(0)
	for i := 0; i < len(pairs); i += 2 {
		_ = e.WriteField(hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]}) // into a buffer
	}
	return b.Bytes()
}

func request(method string) []byte {
	return headers(":method", "POST", ":scheme", "http", ":path", method, ":authority", "meshd",
		"content-type", "application/grpc", "te", "trailers")
}

func (r *raw) open(id uint32, method string) {
	r.t.Helper()
	r.do(r.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: request(method), EndHeaders: true}))
}

// frame is a gRPC message.
func framed(m string) string {
	b := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(m)))
	return string(b) + m
}

func (r *raw) say(id uint32, messages ...string) {
	r.t.Helper()
	for _, m := range messages {
		for b := []byte(framed(m)); len(b) > 0; {
			n := min(len(b), chunk)
			r.do(r.WriteData(id, false, b[:n]))
			b = b[n:]
		}
	}
}

// read gives the next frame.
func (r *raw) read() (event, error) {
	f, err := r.ReadFrame()
	if err != nil {
		return event{}, err
	}
	e := event{FrameHeader: f.Header()}
	switch f := f.(type) {
	case *http2.DataFrame:
		e.data = string(f.Data())
	case *http2.MetaHeadersFrame:
		e.fields = map[string]string{}
		for _, h := range f.Fields {
			e.fields[h.Name] = h.Value
		}
	case *http2.RSTStreamFrame:
		e.code = f.ErrCode
	case *http2.GoAwayFrame:
		e.code, e.last, e.data = f.ErrCode, f.LastStreamID, string(f.DebugData())
	case *http2.PingFrame:
		e.data = string(f.Data[:])
	case *http2.WindowUpdateFrame:
		e.more = f.Increment
	case *http2.SettingsFrame:
		if !f.IsAck() {
			r.do(r.WriteSettingsAck())
		}
	}
	return e, nil
}

// until skips frames up to one that is wanted.
func (r *raw) until(what string, wanted func(event) bool) event {
	r.t.Helper()
	for {
		e, err := r.read()
		if err != nil {
			r.t.Fatalf("%s did not come: %v", what, err)
		}
		if wanted(e) {
			return e
		}
	}
}

// messages reads what comes on a stream: messages, and the end of it.
func (r *raw) expect(id uint32, want ...string) {
	r.t.Helper()
	var got []byte
	for _, w := range want {
		for len(got) < prefixSize || len(got) < prefixSize+int(binary.BigEndian.Uint32(got[1:])) {
			e := r.until("a part of "+clip(w), func(e event) bool { return e.StreamID == id && e.Type != http2.FrameWindowUpdate })
			switch e.Type {
			case http2.FrameData:
				got = append(got, e.data...)
			case http2.FrameHeaders:
				if e.fields[":status"] != "200" || e.fields["content-type"] != "application/grpc" || e.Flags.Has(http2.FlagHeadersEndStream) {
					r.t.Fatalf("headers %v, want a message", e.fields)
				}
			default:
				r.t.Fatalf("%v, want a message", e)
			}
		}
		n := prefixSize + int(binary.BigEndian.Uint32(got[1:]))
		if string(got[prefixSize:n]) != w {
			r.t.Fatalf("got %q, want %q", clip(string(got[prefixSize:n])), clip(w))
		}
		got = got[n:]
	}
	if len(got) > 0 {
		r.t.Fatalf("%d bytes more than were expected", len(got))
	}
}

// status expects the end of a stream.
func (r *raw) status(id uint32, want codes.Code) event {
	r.t.Helper()
	e := r.until("the trailers", func(e event) bool { return e.StreamID == id && e.Type != http2.FrameWindowUpdate })
	if e.Type != http2.FrameHeaders || !e.Flags.Has(http2.FlagHeadersEndStream) {
		r.t.Fatalf("%v %q, want trailers", e, e.data)
	}
	if got := e.fields["grpc-status"]; got != itoa(int(want)) {
		r.t.Fatalf("status %v, want %d", e.fields, want)
	}
	return e
}

func itoa(n int) string { return big.NewInt(int64(n)).String() }

func (r *raw) reset(id uint32, want http2.ErrCode) {
	r.t.Helper()
	e := r.until("RST_STREAM", func(e event) bool { return e.Type == http2.FrameRSTStream || e.Type == http2.FrameGoAway })
	if e.Type != http2.FrameRSTStream || e.StreamID != id || e.code != want {
		r.t.Fatalf("%v with %s, want RST_STREAM of %d with %s", e, e.code, id, want)
	}
}

// goAway expects the end of the connection.
func (r *raw) goAway(want http2.ErrCode) {
	r.t.Helper()
	e := r.until("GOAWAY", func(e event) bool { return e.Type == http2.FrameGoAway })
	if e.code != want {
		r.t.Fatalf("GOAWAY with %s, want %s", e.code, want)
	}
	r.eof()
}

// eof expects nothing but the end of the connection.
func (r *raw) eof() {
	r.t.Helper()
	for {
		e, err := r.read()
		var late net.Error
		switch {
		case errors.As(err, &late) && late.Timeout():
			r.t.Fatal("the connection is still there")
		case err != nil:
			return
		case e.Type == http2.FrameHeaders || e.Type == http2.FrameData:
			r.t.Fatalf("%v after the end", e)
		}
	}
}

// lives reports what has come until a ping is answered.
func (r *raw) lives() []event {
	r.t.Helper()
	want := [8]byte{1, 2, 3, 4, 5, 6, 7, 8}
	r.do(r.WritePing(false, want))
	var before []event
	r.until("the answer to a ping", func(e event) bool {
		if e.Type == http2.FramePing && e.Flags.Has(http2.FlagPingAck) && e.data == string(want[:]) {
			return true
		}
		before = append(before, e)
		return false
	})
	return before
}

// authority signs the tests' certificates.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	pool *x509.CertPool
}

var testAuthority = sync.OnceValue(newAuthority)

func newAuthority() *authority {
	a := &authority{key: newKey(), pool: x509.NewCertPool()}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		panic(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		panic(err)
	}
	a.pool.AddCert(a.cert)
	return a
}

func newKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
}

func (a *authority) leaf(name string, until time.Time) tls.Certificate {
	key := newKey()
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: until,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}, a.cert, key.Public(), a.key)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// tlsConfigs are a server's and a client's, whose certificate ends at the given time.
func tlsConfigs(until time.Time) (server, client *tls.Config) {
	a := testAuthority()
	server = &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{http2.NextProtoTLS},
		Certificates: []tls.Certificate{a.leaf("meshd", time.Now().Add(time.Hour))},
		ClientAuth:   tls.VerifyClientCertIfGiven, ClientCAs: a.pool}
	client = &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{http2.NextProtoTLS}, ServerName: "meshd",
		Certificates: []tls.Certificate{a.leaf("proxy", until)}, RootCAs: a.pool}
	return server, client
}

// serveTLS is serve with certificates.
func serveTLS(t testing.TB, cfg Config) *served {
	server, client := tlsConfigs(time.Now().Add(time.Hour))
	cfg.TLS = server
	return serve(t, cfg, client)
}

// shortly is a context for what does not take long.
func shortly(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	t.Cleanup(cancel)
	return ctx
}
