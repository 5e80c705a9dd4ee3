package wire

import (
	"io"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// BenchmarkMessage sends one small message to each of 200 idle connections, and reads what each of them answers;
// one of the allocations is the test's Receive.
func BenchmarkMessage(b *testing.B) {
	for name, secret := range map[string]bool{"plaintext": false, "TLS": true} {
		b.Run(name, func(b *testing.B) {
			f := serve(b, Config{}, nil)
			if secret {
				f = serveTLS(b, Config{})
			}
			const count = 200
			clients, peers := make([]*raw, count), make([]*peer, count)
			for i := range clients {
				c := f.hello(b, initialWindow(1<<30))
				c.do(c.WriteWindowUpdate(0, 1<<30))
				c.open(1, holdMethod)
				clients[i], peers[i] = c, f.next()
				peers[i].send("the first has headers")
				c.expect(1, "the first has headers")
			}
			shared, own := make([]byte, 200), []byte("nonce")
			said := frameOf(0, 0, 1, framed("acknowledged"))
			buffer := make([]byte, chunk)
			b.ReportAllocs()
			for b.Loop() {
				for i, p := range peers {
					if err := p.tx.Send(shared, own); err != nil {
						b.Fatal(err)
					}
					for kind := http2.FrameWindowUpdate; kind != http2.FrameData; {
						var err error
						if kind, err = skip(clients[i].conn, buffer); err != nil {
							b.Fatal(err)
						}
					}
					if _, err := clients[i].conn.Write(said); err != nil {
						b.Fatal(err)
					}
					<-p.got
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*count), "ns/connection")
		})
	}
}

// skip reads a frame, without garbage.
func skip(r io.Reader, buffer []byte) (http2.FrameType, error) {
	if _, err := io.ReadFull(r, buffer[:frameHeader]); err != nil {
		return 0, err
	}
	kind, size := http2.FrameType(buffer[3]), int(buffer[0])<<16+int(buffer[1])<<8+int(buffer[2])
	_, err := io.ReadFull(r, buffer[:size])
	return kind, err
}

// lengths is a Handler that tells the lengths of messages.
type lengths chan int

func (l lengths) Receive(b []byte) error {
	l <- len(b)
	return nil
}

func (lengths) Closed() {}

// BenchmarkLargeMessage receives what a proxy says to a meshd that has just started: all that it holds.
func BenchmarkLargeMessage(b *testing.B) {
	const size = 150_000
	got := make(lengths)
	server, client := tlsConfigs(inAnHour())
	f := serve(b, Config{TLS: server}, client, func(s *Server) {
		s.streams[holdMethod] = func(*Request) (Handler, error) { return got, nil }
	})
	c := f.hello(b)
	c.open(1, holdMethod)
	c.lives()
	c.do(c.conn.SetDeadline(time.Time{}))
	var said []byte
	for m := framed(strings.Repeat("m", size)); m != ""; {
		n := min(len(m), chunk)
		said = append(said, frameOf(http2.FrameData, 0, 1, m[:n])...)
		m = m[n:]
	}
	read := inBackground(func() { _, _ = io.Copy(io.Discard, c.conn) }) // windows
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.conn.Write(said); err != nil {
			b.Fatal(err)
		}
		if n := <-got; n != size {
			b.Fatalf("%d bytes", n)
		}
	}
	c.conn.Close()
	<-read
}
