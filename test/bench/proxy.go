package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync/atomic"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// counted counts the bytes of a connection.
type counted struct {
	net.Conn
	in, out *atomic.Int64
}

func (c counted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.in.Add(int64(n))
	return n, err
}

func (c counted) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.out.Add(int64(n))
	return n, err
}

// proxy is one simulated sidecar: HTTP/2 frames without a gRPC library, one
// goroutine, and a buffer for the response that is being read.
type proxy struct {
	crowd    *crowd
	workload workload
	number   int
	held     *held
	conn     net.Conn
	framer   *http2.Framer
	// Parts of a response, of both streams.
	parts [2]bytes.Buffer
	owed  uint32 // bytes that the connection's window lacks
	idle  bool   // never reads
	// What waits for the server's windows, and these.
	pending [2][]byte
	credit  [2]int
	shared  int // the connection's
	initial int // a new stream's
}

// The streams, and windows as an Envoy has them: large.
const (
	adsStream  = 1
	gateStream = 3
	window     = 16 << 20
)

func (p *proxy) dial(ctx context.Context) error {
	raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", p.crowd.address)
	if err != nil {
		return err
	}
	if p.idle {
		// What is in flight is the sender's then, and not in this socket.
		if err := raw.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
			return errors.Join(err, raw.Close())
		}
	}
	outer := tls.Client(counted{raw, &p.crowd.wire.in, &p.crowd.wire.out}, p.workload.config)
	if err := outer.HandshakeContext(ctx); err != nil {
		return errors.Join(err, raw.Close())
	}
	p.conn = counted{outer, &p.crowd.plain.in, &p.crowd.plain.out}
	p.framer = http2.NewFramer(p.conn, p.conn)
	p.framer.SetReuseFrames()
	p.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	p.parts[0].Reset()
	p.parts[1].Reset()
	p.owed, p.pending = 0, [2][]byte{}
	p.shared, p.initial, p.credit = 65535, 65535, [2]int{65535, 65535}
	if err := p.greet(); err != nil {
		return errors.Join(err, p.conn.Close())
	}
	return nil
}

func (p *proxy) greet() error {
	ads, gate, err := p.workload.holder.greeting(p.number, p.held)
	if err != nil {
		return err
	}
	if _, err := p.conn.Write([]byte(http2.ClientPreface)); err != nil {
		return err
	}
	err = errors.Join(p.framer.WriteSettings(
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: window}, http2.Setting{ID: http2.SettingEnablePush}),
		p.framer.WriteWindowUpdate(0, window),
		p.open(adsStream, "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources", ads))
	if gate != nil {
		err = errors.Join(err, p.open(gateStream, "/envoy.service.cluster.v3.ClusterDiscoveryService/DeltaClusters", gate))
	}
	return err
}

func (p *proxy) open(stream uint32, path string, first []byte) error {
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	e.SetMaxDynamicTableSize(0) // two streams, each with an encoder of its own
	for _, f := range [][2]string{
		{":method", "POST"}, {":scheme", "https"}, {":path", path}, {":authority", p.crowd.address},
		{"content-type", "application/grpc"}, {"te", "trailers"},
	} {
		if err := e.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}); err != nil {
			return err
		}
	}
	err := p.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block.Bytes(), EndHeaders: true})
	return errors.Join(err, p.send(stream, first))
}

// send writes what the windows allow; the rest follows when they open.
func (p *proxy) send(stream uint32, data []byte) error {
	i := stream / 2
	if len(p.pending[i]) > 0 {
		data = append(p.pending[i], data...)
		p.pending[i] = nil
	}
	for len(data) > 0 {
		n := min(len(data), 16<<10, p.shared, p.credit[i])
		if n <= 0 {
			p.pending[i] = data
			return nil
		}
		if err := p.framer.WriteData(stream, false, data[:n:n]); err != nil {
			return err
		}
		data = data[n:]
		p.shared -= n
		p.credit[i] -= n
	}
	return nil
}

func (p *proxy) flush() error { return errors.Join(p.send(adsStream, nil), p.send(gateStream, nil)) }

// settings of the server: of all, its window concerns a client that answers.
func (p *proxy) settings(f *http2.SettingsFrame) error {
	if f.IsAck() {
		return nil
	}
	if v, ok := f.Value(http2.SettingInitialWindowSize); ok {
		for i := range p.credit {
			p.credit[i] += int(v) - p.initial
		}
		p.initial = int(v)
	}
	return errors.Join(p.framer.WriteSettingsAck(), p.flush())
}

func (p *proxy) opened(f *http2.WindowUpdateFrame) error {
	if f.StreamID == 0 {
		p.shared += int(f.Increment)
	} else {
		p.credit[f.StreamID/2] += int(f.Increment)
	}
	return p.flush()
}

// run reads and answers until the connection ends.
func (p *proxy) run() error {
	for {
		f, err := p.framer.ReadFrame()
		if err != nil {
			return err
		}
		switch f := f.(type) {
		case *http2.DataFrame:
			if err := p.data(f); err != nil {
				return err
			}
		case *http2.SettingsFrame:
			err = p.settings(f)
		case *http2.WindowUpdateFrame:
			err = p.opened(f)
		case *http2.PingFrame:
			if !f.IsAck() {
				err = p.framer.WritePing(true, f.Data)
			}
		case *http2.MetaHeadersFrame:
			if f.StreamEnded() {
				return fmt.Errorf("stream %d has ended: %v", f.StreamID, f.RegularFields())
			}
		case *http2.GoAwayFrame:
			return fmt.Errorf("told to go away: %s", f.ErrCode)
		case *http2.RSTStreamFrame:
			return fmt.Errorf("stream %d was reset: %s", f.StreamID, f.ErrCode)
		}
		if err != nil {
			return err
		}
	}
}

func (p *proxy) data(f *http2.DataFrame) error {
	part := &p.parts[f.StreamID/2]
	part.Write(f.Data())
	p.owed += f.Length
	if p.owed > window/2 {
		err := errors.Join(p.framer.WriteWindowUpdate(0, p.owed), p.framer.WriteWindowUpdate(adsStream, p.owed))
		if err != nil {
			return err
		}
		p.owed = 0
	}
	for {
		raw := part.Bytes()
		if len(raw) < 5 {
			return nil
		}
		size := 5 + int(binary.BigEndian.Uint32(raw[1:]))
		if len(raw) < size {
			return nil
		}
		at := now()
		s, answer, err := p.workload.holder.take(p.held, f.StreamID == gateStream, raw[5:size])
		if err != nil {
			return err
		}
		p.held = s.next
		p.crowd.took(p, s, at)
		if err := p.send(f.StreamID, answer); err != nil {
			return err
		}
		part.Next(size)
		if part.Len() == 0 && part.Cap() > 64<<10 {
			*part = bytes.Buffer{} // the largest response is not kept
		}
	}
}
