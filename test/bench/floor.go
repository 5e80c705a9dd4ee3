package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"sync"
)

// The floor is what no control plane can beat: TLS writes of the same bytes to
// the same number of connections, and reads of the answers. Its server is a
// process of its own, so that its CPU can be told from the clients'.

// floorReady is what the server says first; then a line for each round.
type floorReady struct {
	Address string `json:"address"`
}

// beFloor sends a message to every connection for each line on its standard input.
func beFloor(ctx context.Context, certificate string) error {
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	o, conns, err := acceptFloor(ctx, certificate, in, out)
	if err != nil {
		return err
	}
	answered := make(chan error, o.Proxies)
	for _, c := range conns {
		go func() {
			answer := make([]byte, o.Up)
			for {
				_, err := io.ReadFull(c, answer)
				answered <- err
				if err != nil {
					return
				}
			}
		}()
	}
	message := make([]byte, o.Down)
	for {
		if err := out.Encode(floorReady{}); err != nil {
			return err
		}
		if err := in.Decode(&o); err != nil {
			return err
		}
		if err := floorRound(conns, message, answered); err != nil {
			return err
		}
	}
}

// acceptFloor says where it listens, is told how many connections come, and takes them.
func acceptFloor(ctx context.Context, certificate string, in *json.Decoder, out *json.Encoder) (o order, conns []net.Conn, err error) {
	pair, err := tls.LoadX509KeyPair(certificate, certificate)
	if err != nil {
		return o, nil, err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return o, nil, err
	}
	defer l.Close()
	if err := errors.Join(out.Encode(floorReady{l.Addr().String()}), in.Decode(&o)); err != nil {
		return o, nil, err
	}
	config := &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAnyClientCert}
	for len(conns) < o.Proxies {
		raw, err := l.Accept()
		if err != nil {
			return o, nil, err
		}
		c := tls.Server(raw, config)
		if err := c.HandshakeContext(ctx); err != nil {
			return o, nil, err
		}
		conns = append(conns, c)
	}
	return o, conns, nil
}

// floorRound writes with two workers, as meshd does.
func floorRound(conns []net.Conn, message []byte, answered <-chan error) error {
	var wg sync.WaitGroup
	errs := make([]error, 2)
	for w := range errs {
		wg.Go(func() {
			for i := w; i < len(conns) && errs[w] == nil; i += len(errs) {
				_, errs[w] = conns[i].Write(message)
			}
		})
	}
	wg.Wait()
	err := errors.Join(errs...)
	for range conns {
		if err == nil {
			err = <-answered
		}
	}
	return err
}

// floorClient is the other end of the floor's connections, in the crowd's process.
type floorClient struct {
	proxies int
	mu      sync.Mutex
	full    *sync.Cond
	at      []int64
	err     error
}

func openFloor(ctx context.Context, config *tls.Config, o order) (*floorClient, error) {
	f := &floorClient{proxies: o.Proxies}
	f.full = sync.NewCond(&f.mu)
	return f, dialFloor(ctx, config, o, func(c net.Conn) { f.run(c, o) })
}

// dialFloor opens connections, each with a goroutine of its own.
func dialFloor(ctx context.Context, config *tls.Config, o order, run func(net.Conn)) error {
	for range o.Proxies {
		raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", o.Address)
		if err != nil {
			return err
		}
		own := config.Clone()
		own.NextProtos = nil
		c := tls.Client(raw, own)
		if err := c.HandshakeContext(ctx); err != nil {
			return err
		}
		go run(c)
	}
	return nil
}

func (f *floorClient) run(c net.Conn, o order) {
	message, answer := make([]byte, o.Down), make([]byte, o.Up)
	for {
		_, err := io.ReadFull(c, message)
		at := now()
		if err == nil {
			_, err = c.Write(answer)
		}
		f.mu.Lock()
		f.at, f.err = append(f.at, at), err
		f.full.Broadcast()
		f.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (f *floorClient) await() ([]int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.at) < f.proxies && f.err == nil {
		f.full.Wait()
	}
	at := f.at
	f.at = nil
	slices.Sort(at)
	return at, f.err
}
