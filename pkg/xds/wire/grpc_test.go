package wire

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// TestMessagesInPieces: frames know nothing of messages.
func TestMessagesInPieces(t *testing.T) {
	f := serve(t, Config{}, nil)
	c := f.hello(t)
	c.open(1, holdMethod)
	p := f.next()
	all := framed("") + framed("a") + framed("bcd") + framed("") + framed("efghijkl")
	for size := 1; size <= len(all); size++ {
		c.together(func() {
			for rest := all; rest != ""; {
				n := min(size, len(rest))
				c.do(c.WriteData(1, false, []byte(rest[:n])))
				rest = rest[n:]
			}
		})
		p.gets("", "a", "bcd", "", "efghijkl")
	}
	for cut := range len(all) {
		c.do(c.WriteData(1, false, []byte(all[:cut])))
		c.do(c.WriteData(1, false, nil))
		c.do(c.WriteDataPadded(1, false, []byte(all[cut:]), make([]byte, cut)))
		p.gets("", "a", "bcd", "", "efghijkl")
	}
}

// TestLargeMessages between small ones, in frames of all kinds of sizes.
func TestLargeMessages(t *testing.T) {
	f := serve(t, Config{MaxMessage: 300 << 10}, nil)
	c := f.hello(t)
	c.open(1, holdMethod)
	p := f.next()
	for _, size := range []int{chunk, 1, 50 << 10, 4 << 10, 300 << 10} {
		m := strings.Repeat("m", size)
		sent := inBackground(func() { c.say(1, m, "small") })
		p.gets(m, "small")
		<-sent
	}
}

// rests is a Handler that tells how much of a frame its connection keeps.
type rests struct {
	tx *Stream
	at chan int
}

func (r rests) Receive([]byte) error {
	r.at <- cap(r.tx.conn.rest)
	return nil
}

func (rests) Closed() {}

// TestPartOfAFrame: it is kept up to the frame's end, and not longer.
func TestPartOfAFrame(t *testing.T) {
	at := make(chan int, 1)
	f := serve(t, Config{}, nil, func(s *Server) {
		s.streams[holdMethod] = func(r *Request) (Handler, error) { return rests{r.Stream, at}, nil }
	})
	c := f.hello(t)
	c.open(1, holdMethod)
	c.open(3, holdMethod)
	large := frameOf(http2.FrameData, 0, 1, framed(strings.Repeat("l", chunk-prefixSize)))
	c.say(3, "before")
	<-at
	c.lives()
	c.bytes(string(large[:chunk/2]))
	c.bytes(string(large[chunk/2:]))
	<-at
	c.say(3, "behind it")
	if kept := <-at; kept != 0 {
		t.Errorf("%d bytes are kept behind the frame", kept)
	}
}

// TestRoomForAMessage is made once, as far as its length can be believed.
func TestRoomForAMessage(t *testing.T) {
	for size, want := range map[int]int{1000: 1000, 150_000: 150_000, maxAhead: maxAhead, 2 << 20: maxAhead} {
		s := &Stream{conn: &conn{server: &Server{maxMessage: 4 << 20}}, handler: make(lengths, 1)}
		m := []byte(framed(strings.Repeat("m", size-prefixSize)))
		for _, cut := range [][]byte{m[:prefixSize-1], m[prefixSize-1 : prefixSize], m[prefixSize:900]} {
			if err := s.receive(cut); err != nil {
				t.Fatal(err)
			}
		}
		if got := cap(s.part); got < want || got > want+want/4 { // sizes of memory are rounded up
			t.Errorf("room for %d bytes of %d", got, size)
		}
		if err := s.receive(m[900:]); err != nil || s.part != nil {
			t.Errorf("%v, %d bytes left", err, len(s.part))
		}
	}
}

func TestWhatIsNoMessage(t *testing.T) {
	f := serve(t, Config{MaxMessage: 100}, nil)
	for name, m := range map[string]struct {
		said string
		want codes.Code
	}{
		"compressed":            {"\x01\x00\x00\x00\x01x", codes.Unimplemented},
		"another flag":          {"\x80\x00\x00\x00\x01x", codes.Unimplemented},
		"too large":             {"\x00\x00\x00\x00\x65", codes.ResourceExhausted},
		"far too large":         {"\x00\xff\xff\xff\xff", codes.ResourceExhausted},
		"too large, behind one": {framed("good") + "\x00\x00\x00\x00\x65", codes.ResourceExhausted},
	} {
		t.Run(name, func(t *testing.T) {
			c := f.hello(t)
			c.open(1, holdMethod)
			p := f.next()
			c.do(c.WriteData(1, false, []byte(m.said)))
			c.status(1, m.want)
			p.ends()
			c.say(1, "nobody reads it")
			c.open(3, echoMethod)
			c.say(3, "others live")
			c.expect(3, "others live")
			f.next()
		})
	}
	t.Run("the largest", func(t *testing.T) {
		c := f.hello(t)
		c.open(1, holdMethod)
		m := strings.Repeat("m", 100)
		c.say(1, m)
		f.next().gets(m)
	})
}

func TestStreamOfAnotherMethod(t *testing.T) {
	f := serve(t, Config{}, nil)
	c := f.with(t)
	c.open(3, "/test.Streams/Other")
	e := c.status(3, codes.Unimplemented)
	if e.fields[":status"] != "200" || e.fields["content-type"] != "application/grpc" {
		t.Errorf("an answer of trailers alone: %v", e.fields)
	}
	c.reset(3, http2.ErrCodeNo)
}

// TestStatusMessages come to a client of gRPC as they were said.
func TestStatusMessages(t *testing.T) {
	long := "x" + strings.Repeat("größer, ", 1000)
	for _, want := range []string{"", "plain", "100 %", "%41", "a\nb\r\x00\x7f~", "žluťoučký kůň 🐎", long} {
		f := serve(t, Config{}, nil)
		c := f.dial(t)
		s := c.stream(shortly(t), echoMethod)
		if err := s.SendMsg([]byte("fail: " + want)); err != nil {
			t.Fatal(err)
		}
		err := s.RecvMsg(new([]byte))
		got := status.Convert(err)
		switch {
		case got.Code() != codes.InvalidArgument:
			t.Errorf("%v", err)
		case want == long:
			if !strings.HasPrefix(long, got.Message()) || len(got.Message()) < 1000 {
				t.Errorf("a long message became %q", got.Message()[max(0, len(got.Message())-100):])
			}
		case got.Message() != want:
			t.Errorf("got %q, want %q", got.Message(), want)
		}
		if !utf8.ValidString(got.Message()) {
			t.Errorf("%q is cut inside of a letter", clip(got.Message()))
		}
	}
}

// bytesCodec leaves messages as they are.
type bytesCodec struct{}

func (bytesCodec) Marshal(v any) ([]byte, error) { return v.([]byte), nil }
func (bytesCodec) Unmarshal(b []byte, v any) error {
	*v.(*[]byte) = append([]byte(nil), b...)
	return nil
}
func (bytesCodec) Name() string { return "proto" }

// client is grpc-go's.
type client struct {
	*grpc.ClientConn
	t testing.TB
}

func (f *served) dial(t testing.TB, options ...grpc.DialOption) client {
	t.Helper()
	creds := insecure.NewCredentials()
	if f.client != nil {
		creds = credentials.NewTLS(f.client)
	}
	options = append(options, grpc.WithTransportCredentials(creds))
	conn, err := grpc.NewClient("passthrough:///"+f.address, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return client{conn, t}
}

func (c client) stream(ctx context.Context, method string) grpc.ClientStream {
	c.t.Helper()
	s, err := c.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method, grpc.ForceCodec(bytesCodec{}))
	if err != nil {
		c.t.Fatal(err)
	}
	return s
}

func numbered(i, size int) []byte {
	b := make([]byte, max(size, 8))
	binary.BigEndian.PutUint64(b, uint64(i))
	return b
}

// TestManyMessages: they keep their order, both ways, on two streams of a connection.
func TestManyMessages(t *testing.T) {
	for name, secret := range map[string]bool{"plaintext": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			f := serve(t, Config{}, nil)
			if secret {
				f = serveTLS(t, Config{})
			}
			c := f.dial(t)
			const count = 1000
			ends := make([]<-chan struct{}, 0, 4)
			for range cap(ends) / 2 {
				s := c.stream(shortly(t), echoMethod)
				ahead := make(chan struct{}, 50)
				ends = append(ends, inBackground(func() {
					for i := range count {
						ahead <- struct{}{}
						if err := s.SendMsg(numbered(i, i%3000)); err != nil {
							t.Errorf("message %d: %v", i, err)
							return
						}
					}
					if err := s.CloseSend(); err != nil {
						t.Error(err)
					}
				}), inBackground(func() {
					for i := range count {
						var b []byte
						if err := s.RecvMsg(&b); err != nil || string(b) != string(numbered(i, i%3000)) {
							t.Errorf("message %d: %d bytes, %v", i, len(b), err)
							return
						}
						<-ahead
					}
					if err := s.RecvMsg(new([]byte)); !errors.Is(err, io.EOF) {
						t.Errorf("the end: %v", err)
					}
				}))
			}
			for _, end := range ends {
				within(t, end, "the end of sending")
			}
		})
	}
}

// TestLargeAnswers reach a client, one behind the other.
func TestLargeAnswers(t *testing.T) {
	f := serveTLS(t, Config{})
	c := f.dial(t, grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<24)))
	s := c.stream(shortly(t), holdMethod)
	p := f.next()
	sent := inBackground(func() {
		for i := range 10 {
			if err := p.tx.Send(numbered(i, 1<<20), []byte("own")); err != nil {
				t.Errorf("Send: %v", err)
			}
		}
	})
	for i := range 10 {
		var b []byte
		if err := s.RecvMsg(&b); err != nil || string(b) != string(numbered(i, 1<<20))+"own" {
			t.Fatalf("message %d: %d bytes, %v", i, len(b), err)
		}
	}
	within(t, sent, "the end of Send")
}

func TestClientCancels(t *testing.T) {
	f := serve(t, Config{}, nil)
	c := f.dial(t)
	for i := range 50 {
		ctx, cancel := context.WithCancel(shortly(t))
		s := c.stream(ctx, holdMethod)
		if err := s.SendMsg([]byte(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
		p := f.next()
		p.gets(fmt.Sprint(i))
		cancel()
		if err := s.RecvMsg(new([]byte)); status.Code(err) != codes.Canceled {
			t.Errorf("the stream ended with %v", err)
		}
		p.ends()
	}
}

func TestClientsDeadline(t *testing.T) {
	f := serve(t, Config{}, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 300*1e6)
	defer cancel()
	s := f.dial(t).stream(ctx, holdMethod)
	p := f.next()
	if err := s.RecvMsg(new([]byte)); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("the stream ended with %v", err)
	}
	p.ends()
}

func TestRefusal(t *testing.T) {
	f := serve(t, Config{}, nil)
	s := f.dial(t).stream(shortly(t), refuseMethod)
	err := s.RecvMsg(new([]byte))
	if got, want := status.Convert(err), status.Convert(errRefused); got.Code() != want.Code() || got.Message() != want.Message() {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestHeadersOfAStream: grpc-go has headers when a message has come.
func TestHeadersOfAStream(t *testing.T) {
	f := serve(t, Config{}, nil)
	ctx := metadata.AppendToOutgoingContext(shortly(t), "x", strings.Repeat("long", 1000))
	s := f.dial(t).stream(ctx, echoMethod)
	if err := s.SendMsg([]byte("m")); err != nil {
		t.Fatal(err)
	}
	if md, err := s.Header(); err != nil || strings.Join(md.Get("content-type"), "") != "application/grpc" {
		t.Errorf("headers %v, %v", md, err)
	}
}

// TestRequest says who asks.
func TestRequest(t *testing.T) {
	f := serveTLS(t, Config{})
	c := f.with(t)
	p := f.next()
	if p.tls == nil || len(p.tls.PeerCertificates) != 1 || p.tls.PeerCertificates[0].Subject.CommonName != "proxy" {
		t.Errorf("TLS %v", p.tls)
	}
	if want := c.conn.LocalAddr().String(); p.from.String() != want {
		t.Errorf("from %s, want %s", p.from, want)
	}
	plain := serve(t, Config{}, nil)
	plain.with(t)
	if p := plain.next(); p.tls != nil {
		t.Errorf("TLS %v without TLS", p.tls)
	}
}
