package wire

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"
)

// with gives a connection that has an echo stream 1.
func (f *served) with(t testing.TB, settings ...http2.Setting) *raw {
	t.Helper()
	c := f.hello(t, settings...)
	c.open(1, echoMethod)
	c.say(1, "first")
	c.expect(1, "first")
	return c
}

func TestGreetings(t *testing.T) {
	f := serve(t, Config{}, nil)
	settings := string(frameOf(http2.FrameSettings, 0, 0, ""))
	for name, said := range map[string]string{
		"another protocol":   "GET / HTTP/1.1\r\nHost: meshd\r\n\r\n",
		"no settings":        http2.ClientPreface + string(frameOf(http2.FramePing, 0, 0, "12345678")),
		"a wrong preface":    strings.ToLower(http2.ClientPreface),
		"too large a frame":  http2.ClientPreface + settings + string(frameOf(0x77, 0, 0, strings.Repeat("x", chunk+1))),
		"too much":           http2.ClientPreface + strings.Repeat(settings, maxGreeting/frameHeader+1),
		"a ping of a stream": http2.ClientPreface + settings + string(frameOf(http2.FramePing, 0, 1, "12345678")),
		"broken headers":     http2.ClientPreface + settings + string(frameOf(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 1, "\xff\xff\xff\xff\xff\xff")),
	} {
		t.Run(name, func(t *testing.T) {
			c := f.connect(t)
			c.bytes(said)
			c.eof()
		})
	}
	t.Run("an end in the middle", func(t *testing.T) {
		c := f.connect(t)
		c.bytes(http2.ClientPreface[:10])
		if err := c.conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		c.eof()
	})
}

// frameOf is a frame, whatever it says.
func frameOf(kind http2.FrameType, flags http2.Flags, stream uint32, payload string) []byte {
	b := []byte{byte(len(payload) >> 16), byte(len(payload) >> 8), byte(len(payload)), byte(kind), byte(flags)}
	return append(binary.BigEndian.AppendUint32(b, stream), payload...)
}

func (r *raw) frame(kind http2.FrameType, flags http2.Flags, stream uint32, payload string) {
	r.bytes(string(frameOf(kind, flags, stream, payload)))
}

// TestSettingsComeFirst: some clients wait for them before they say anything.
func TestSettingsComeFirst(t *testing.T) {
	f := serve(t, Config{}, nil)
	c := f.connect(t)
	frame, err := c.ReadFrame()
	if err != nil {
		t.Fatal(err)
	}
	settings, ok := frame.(*http2.SettingsFrame)
	if !ok || settings.IsAck() {
		t.Fatalf("%v comes first", frame)
	}
	if v, _ := settings.Value(http2.SettingMaxConcurrentStreams); v != maxStreams {
		t.Errorf("at most %d streams, want %d", v, maxStreams)
	}
	c.bytes(http2.ClientPreface)
	c.do(c.WriteSettings())
	c.open(1, holdMethod)
	c.until("the acknowledgement of the settings", func(e event) bool {
		return e.Type == http2.FrameSettings && e.Flags.Has(http2.FlagSettingsAck)
	})
}

// TestPrefaceByteByByte: the preface and the first stream come as TCP likes.
func TestPrefaceByteByByte(t *testing.T) {
	f := serve(t, Config{}, nil)
	c := f.connect(t)
	c.held = true
	c.bytes(http2.ClientPreface)
	c.do(c.WriteSettings())
	c.open(1, echoMethod)
	c.say(1, "slow")
	c.held = false
	for _, b := range c.out.Bytes() {
		if _, err := c.conn.Write([]byte{b}); err != nil {
			t.Fatal(err)
		}
	}
	c.expect(1, "slow")
}

// mistakes of which a connection ends (RFC 9113).
func TestConnectionErrors(t *testing.T) {
	f := serve(t, Config{}, nil)
	for name, m := range map[string]struct {
		do   func(c *raw)
		want http2.ErrCode
	}{
		"connection window overflows": {func(c *raw) { c.do(c.WriteWindowUpdate(0, 1<<31-1)) }, http2.ErrCodeFlowControl},
		"no increment":                {func(c *raw) { c.frame(http2.FrameWindowUpdate, 0, 0, "\x00\x00\x00\x00") }, http2.ErrCodeProtocol},
		"data on an idle stream":      {func(c *raw) { c.do(c.WriteData(9, false, []byte("x"))) }, http2.ErrCodeProtocol},
		"window of an idle stream":    {func(c *raw) { c.do(c.WriteWindowUpdate(9, 1)) }, http2.ErrCodeProtocol},
		"window of a server's":        {func(c *raw) { c.open(5, holdMethod); c.do(c.WriteWindowUpdate(4, 1)) }, http2.ErrCodeProtocol},
		"data on a server's stream":   {func(c *raw) { c.open(5, holdMethod); c.do(c.WriteData(4, false, []byte("x"))) }, http2.ErrCodeProtocol},
		"reset of a server's stream":  {func(c *raw) { c.open(5, holdMethod); c.do(c.WriteRSTStream(4, http2.ErrCodeCancel)) }, http2.ErrCodeProtocol},
		"broken headers, even": {func(c *raw) {
			c.frame(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 2, string(headers("UPPER", "x")))
		}, http2.ErrCodeProtocol},
		"data on no stream":       {func(c *raw) { c.frame(http2.FrameData, 0, 0, "x") }, http2.ErrCodeProtocol},
		"data all padding":        {func(c *raw) { c.frame(http2.FrameData, http2.FlagDataPadded, 1, "\x05abc") }, http2.ErrCodeProtocol},
		"reset of an idle stream": {func(c *raw) { c.do(c.WriteRSTStream(9, http2.ErrCodeCancel)) }, http2.ErrCodeProtocol},
		"reset of no stream":      {func(c *raw) { c.frame(http2.FrameRSTStream, 0, 0, "\x00\x00\x00\x08") }, http2.ErrCodeProtocol},
		"short reset":             {func(c *raw) { c.frame(http2.FrameRSTStream, 0, 1, "\x00") }, http2.ErrCodeFrameSize},
		"an even stream":          {func(c *raw) { c.open(2, echoMethod) }, http2.ErrCodeProtocol},
		"headers of no stream":    {func(c *raw) { c.open(0, echoMethod) }, http2.ErrCodeProtocol},
		"headers that are no HPACK": {func(c *raw) {
			c.frame(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 3, "\xff\xff\xff\xff\xff\xff\xff\xff")
		}, http2.ErrCodeCompression},
		"too large a header table": {func(c *raw) { c.frame(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 3, "\x3f\xe2\x1f") }, http2.ErrCodeCompression},
		"headers interrupted": {func(c *raw) {
			c.frame(http2.FrameHeaders, 0, 3, string(request(echoMethod)))
			c.frame(http2.FramePing, 0, 0, "12345678")
		}, http2.ErrCodeProtocol},
		"headers interleaved": {func(c *raw) {
			c.frame(http2.FrameHeaders, 0, 3, string(request(echoMethod)))
			c.frame(http2.FrameContinuation, http2.FlagContinuationEndHeaders, 5, "")
		}, http2.ErrCodeProtocol},
		"continuation of nothing":       {func(c *raw) { c.frame(http2.FrameContinuation, http2.FlagContinuationEndHeaders, 1, "") }, http2.ErrCodeProtocol},
		"push promise":                  {func(c *raw) { c.frame(http2.FramePushPromise, http2.FlagPushPromiseEndHeaders, 1, "\x00\x00\x00\x02") }, http2.ErrCodeProtocol},
		"settings of a stream":          {func(c *raw) { c.frame(http2.FrameSettings, 0, 1, "") }, http2.ErrCodeProtocol},
		"settings with a rest":          {func(c *raw) { c.frame(http2.FrameSettings, 0, 0, "12345") }, http2.ErrCodeFrameSize},
		"acknowledgement with settings": {func(c *raw) { c.frame(http2.FrameSettings, http2.FlagSettingsAck, 0, "\x00\x03\x00\x00\x00\x01") }, http2.ErrCodeFrameSize},
		"too large an initial window":   {func(c *raw) { c.do(c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 31})) }, http2.ErrCodeFlowControl},
		"too small frames":              {func(c *raw) { c.do(c.WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: 1})) }, http2.ErrCodeProtocol},
		"a window overflows by settings": {func(c *raw) {
			c.do(c.WriteWindowUpdate(1, 1<<30))
			c.do(c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1}))
		}, http2.ErrCodeFlowControl},
		"ping of another size": {func(c *raw) { c.frame(http2.FramePing, 0, 0, "1234567") }, http2.ErrCodeFrameSize},
		"too large a frame": {func(c *raw) {
			c.bytes(string(frameOf(http2.FrameData, 0, 1, string(make([]byte, chunk+1))))[:frameHeader])
		}, http2.ErrCodeFrameSize},
		"headers without end": {func(c *raw) {
			c.frame(http2.FrameHeaders, 0, 3, string(request(echoMethod)))
			for range 8 {
				c.frame(http2.FrameContinuation, 0, 3, string(headers("x", strings.Repeat("x", 15<<10))))
			}
		}, http2.ErrCodeEnhanceYourCalm},
		"empty headers without end": {func(c *raw) {
			c.frame(http2.FrameHeaders, 0, 3, "")
			c.bytes(strings.Repeat(string(frameOf(http2.FrameContinuation, 0, 3, "")), 2*maxBlock/frameHeader))
		}, http2.ErrCodeEnhanceYourCalm},
	} {
		t.Run(name, func(t *testing.T) {
			c := f.with(t)
			p := f.next()
			m.do(c)
			c.goAway(m.want)
			p.ends()
		})
	}
}

// Mistakes of which only their stream ends.
func TestStreamErrors(t *testing.T) {
	f := serve(t, Config{}, nil)
	long := strings.Repeat("e", 6<<10)
	for name, m := range map[string]struct {
		do     func(c *raw)
		stream uint32
		want   http2.ErrCode
	}{
		"a stream's window overflows": {func(c *raw) { c.do(c.WriteWindowUpdate(1, 1<<31-1)) }, 1, http2.ErrCodeFlowControl},
		"no increment":                {func(c *raw) { c.frame(http2.FrameWindowUpdate, 0, 1, "\x00\x00\x00\x00") }, 1, http2.ErrCodeProtocol},
		"upper case": {func(c *raw) {
			c.frame(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 3, string(headers(":method", "POST", "UPPER", "x")))
		}, 3, http2.ErrCodeProtocol},
		"a pseudo-header behind": {func(c *raw) {
			c.frame(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 3, string(headers("x", "x", ":method", "POST")))
		}, 3, http2.ErrCodeProtocol},
		"too long headers": {func(c *raw) {
			c.frame(http2.FrameHeaders, 0, 3, string(request(echoMethod)))
			c.frame(http2.FrameContinuation, http2.FlagContinuationEndHeaders, 3, string(headers("x", long, "y", long, "z", long)))
		}, 3, http2.ErrCodeEnhanceYourCalm},
		"GET": {func(c *raw) {
			c.frame(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 3, string(headers(":method", "GET", ":path", echoMethod, "content-type", "application/grpc")))
		}, 3, http2.ErrCodeProtocol},
		"no content type": {func(c *raw) {
			c.frame(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 3, string(headers(":method", "POST", ":path", echoMethod)))
		}, 3, http2.ErrCodeProtocol},
		"gRPC for browsers": {func(c *raw) {
			c.frame(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 3, string(headers(":method", "POST", ":path", echoMethod, "content-type", "application/grpc-web")))
		}, 3, http2.ErrCodeProtocol},
	} {
		t.Run(name, func(t *testing.T) {
			c := f.with(t)
			p := f.next()
			m.do(c)
			c.reset(m.stream, m.want)
			if m.stream == 1 {
				p.ends()
			}
			c.open(5, echoMethod)
			c.say(5, "others live")
			c.expect(5, "others live")
			f.next()
		})
	}
}

// TestHarmless: what may come at any time, and does nothing.
func TestHarmless(t *testing.T) {
	f := serve(t, Config{}, nil)
	c := f.with(t)
	c.do(c.WriteSettings(http2.Setting{ID: 0x99, Val: 1}, http2.Setting{ID: http2.SettingMaxFrameSize, Val: 1 << 20}))
	c.do(c.WriteSettingsAck())
	c.frame(http2.FramePing, http2.FlagPingAck, 0, "nobody's")
	c.do(c.WritePriority(1, http2.PriorityParam{StreamDep: 99}))
	c.do(c.WritePriority(77, http2.PriorityParam{StreamDep: 1}))
	c.frame(0x10, 0, 0, "\x00\x00\x00\x01u=1") // PRIORITY_UPDATE
	c.frame(0x42, 0xff, 1, "not known")
	c.do(c.WriteGoAway(0, http2.ErrCodeNo, []byte("no more pushes")))
	c.frame(http2.FrameData, http2.FlagDataPadded, 1, "\x05"+framed("padded")+"\x00\x00\x00\x00\x00")
	c.expect(1, "padded")
	c.frame(http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersPadded|http2.FlagHeadersPriority, 3,
		"\x03"+"\x00\x00\x00\x00\x10"+string(request(echoMethod))+"\x00\x00\x00")
	c.say(3, "with padding and priority")
	c.expect(3, "with padding and priority")
	// A stream that has ended: what crosses the end on its way.
	c.do(c.WriteRSTStream(3, http2.ErrCodeCancel))
	c.do(c.WriteRSTStream(3, http2.ErrCodeCancel))
	c.do(c.WriteWindowUpdate(3, 1))
	c.say(3, "late")
	c.do(c.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: headers("late", "trailers"), EndHeaders: true, EndStream: true}))
	for _, e := range c.lives() {
		if e.StreamID == 3 {
			t.Errorf("%v on a stream that has ended", e)
		}
	}
}

func TestHeadersInPieces(t *testing.T) {
	f := serve(t, Config{}, nil)
	c := f.with(t)
	block := request(echoMethod)
	c.frame(http2.FrameHeaders, 0, 3, "")
	for i := range block {
		c.frame(http2.FrameContinuation, 0, 3, string(block[i:i+1]))
	}
	c.frame(http2.FrameContinuation, http2.FlagContinuationEndHeaders, 3, "")
	c.say(3, "in pieces")
	c.expect(3, "in pieces")
}

// TestHeaderTable: a client may use the table of headers, and change its size.
func TestHeaderTable(t *testing.T) {
	f := serve(t, Config{}, nil)
	c := f.with(t)
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	sizes := []uint32{4096, 4096, 100, 0, 4096, 4096}
	for i, size := range sizes {
		block.Reset()
		e.SetMaxDynamicTableSize(size)
		for _, h := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":path", echoMethod}, {"content-type", "application/grpc"}, {"x", strings.Repeat("x", 2000)}} {
			if err := e.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]}); err != nil {
				t.Fatal(err)
			}
		}
		id := uint32(3 + 2*i)
		c.do(c.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndHeaders: true}))
		c.say(id, "by the table")
		c.expect(id, "by the table")
	}
}

func TestPing(t *testing.T) {
	f := serve(t, Config{}, nil)
	c := f.with(t)
	for _, data := range []string{"\x00\x00\x00\x00\x00\x00\x00\x00", "\xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8"} {
		c.frame(http2.FramePing, 0, 0, data)
		c.until("the same bytes", func(e event) bool {
			return e.Type == http2.FramePing && e.Flags.Has(http2.FlagPingAck) && e.data == data
		})
	}
}

func TestAtMostSoManyStreams(t *testing.T) {
	f := serve(t, Config{}, nil)
	c := f.hello(t)
	for i := range uint32(maxStreams) {
		c.open(1+2*i, holdMethod)
		f.next()
	}
	c.open(101, holdMethod)
	c.reset(101, http2.ErrCodeRefusedStream)
	c.do(c.WriteRSTStream(1, http2.ErrCodeCancel))
	c.open(103, echoMethod)
	c.say(103, "there is room again")
	c.expect(103, "there is room again")
}

// TestLowerStream: the streams that a client leaves out are closed (RFC 9113, 5.1.1).
func TestLowerStream(t *testing.T) {
	f := serve(t, Config{}, nil)
	c := f.with(t)
	f.next()
	c.open(9, holdMethod)
	f.next()
	c.open(5, holdMethod)
	c.lives()
	select {
	case p := <-f.opened:
		t.Errorf("stream %d was opened after stream 9", p.tx.id)
	default:
	}
}

func TestEndsOfStreams(t *testing.T) {
	f := serve(t, Config{}, nil)
	c := f.with(t)
	f.next().lives(t)
	end := func(id uint32, what string) {
		t.Helper()
		if e := c.status(id, codes.OK); e.StreamID != id {
			t.Errorf("%s: the end of %d", what, e.StreamID)
		}
		f.next().ends()
	}
	c.do(c.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: request(echoMethod), EndHeaders: true, EndStream: true}))
	end(3, "headers end the stream")

	c.open(5, echoMethod)
	c.do(c.WriteData(5, true, nil))
	end(5, "an empty frame ends the stream")

	c.open(7, echoMethod)
	c.do(c.WriteData(7, true, []byte(framed("last"))))
	c.expect(7, "last")
	end(7, "a message ends the stream")

	c.open(9, echoMethod)
	c.do(c.WriteHeaders(http2.HeadersFrameParam{StreamID: 9, BlockFragment: headers("x", "y"), EndHeaders: true, EndStream: true}))
	end(9, "trailers end the stream")

	for _, e := range c.lives() {
		if e.Type == http2.FrameRSTStream {
			t.Errorf("stream %d is reset, of which the client has ended its half", e.StreamID)
		}
	}
}

// lives: the stream is not closed.
func (p *peer) lives(t testing.TB) {
	t.Helper()
	if n := p.closings.Load(); n > 0 {
		t.Error("the stream is closed")
	}
}

// TestRSTWhenTheClientHasMoreToSay: it need not say it.
func TestResetBehindTheStatus(t *testing.T) {
	f := serve(t, Config{}, nil)
	c := f.with(t)
	c.say(1, "fail: a reason")
	if e := c.status(1, codes.InvalidArgument); e.fields["grpc-message"] != "a reason" {
		t.Errorf("trailers %v", e.fields)
	}
	c.reset(1, http2.ErrCodeNo)
}

func TestHalfClosedConnection(t *testing.T) {
	f := serve(t, Config{}, nil)
	c := f.with(t)
	if err := c.conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	c.eof()
	f.next().ends()
}

// TestSmallerHeaderTable: a client that wants a smaller table has to be told that it is (RFC 7541, 4.2).
func TestSmallerHeaderTable(t *testing.T) {
	f := serve(t, Config{}, nil)
	c := f.hello(t, http2.Setting{ID: http2.SettingHeaderTableSize, Val: 0})
	c.ReadMetaHeaders = nil
	c.open(1, refuseMethod)
	for {
		frame, err := c.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if h, ok := frame.(*http2.HeadersFrame); ok {
			if b := h.HeaderBlockFragment(); b[0] != 0x20 {
				t.Errorf("headers begin with %#x, want the table's new size", b[0])
			}
			return
		}
	}
}

// TestSlowGreetings: a client has some time to say what it wants.
func TestSlowGreetings(t *testing.T) {
	for name, secret := range map[string]bool{"plaintext": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			var config, client *tls.Config
			if secret {
				config, client = tlsConfigs(time.Now().Add(time.Hour))
			}
			f := serve(t, Config{TLS: config}, client, func(s *Server) { s.hello = 50 * time.Millisecond })
			silent, err := net.Dial("tcp", f.address)
			if err != nil {
				t.Fatal(err)
			}
			defer silent.Close()
			if _, err := io.Copy(io.Discard, silent); err != nil { // to its end
				t.Error(err)
			}
			c := f.connect(t)
			c.bytes(http2.ClientPreface[:10])
			c.eof()
		})
	}
}
