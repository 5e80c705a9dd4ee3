package main

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// The floor of a burst is what no control plane can beat on this machine beside
// this source: as many connections, messages of the same size and answers, the
// newest change to whoever has answered the one before, and nothing else.

// burstFloor is its server.
type burstFloor struct {
	message int
	conns   []*burstConn
	mu      sync.Mutex
	more    sync.Cond
	newest  atomic.Uint64
}

// burstConn has one message at a time on its way.
type burstConn struct {
	conn net.Conn
	mu   sync.Mutex
	idle bool
	sent uint64
}

// beBurstFloor takes changes on its standard input, a line each.
func beBurstFloor(ctx context.Context, certificate string) error {
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	o, conns, err := acceptFloor(ctx, certificate, in, out)
	if err != nil {
		return err
	}
	f := &burstFloor{message: o.Down}
	f.more.L = &f.mu
	for _, c := range conns {
		b := &burstConn{conn: c, idle: true}
		f.conns = append(f.conns, b)
		go f.read(b, o.Up)
	}
	if err := out.Encode(floorReady{}); err != nil {
		return err
	}
	go f.spread()
	for {
		var change uint64
		if err := in.Decode(&change); err != nil {
			return err
		}
		f.mu.Lock() // or spread could look before and wait afterwards
		f.newest.Store(change)
		f.mu.Unlock()
		f.more.Signal()
	}
}

// read takes answers, and sends what is newer.
func (f *burstFloor) read(b *burstConn, size int) {
	answer := make([]byte, size)
	for {
		if _, err := io.ReadFull(b.conn, answer); err != nil {
			return // the clients have ended
		}
		b.mu.Lock()
		b.idle = true
		f.send(b)
		b.mu.Unlock()
	}
}

// send gives a connection the newest change, unless it has that or one is on its way. b.mu is held.
func (f *burstFloor) send(b *burstConn) {
	newest := f.newest.Load()
	if !b.idle || b.sent == newest {
		return
	}
	b.idle, b.sent = false, newest
	message := make([]byte, f.message)
	binary.BigEndian.PutUint64(message, newest)
	_, _ = b.conn.Write(message) // its reader notices the end
}

// spread sends each newest change to all who wait for one, with two workers, as meshd does.
func (f *burstFloor) spread() {
	for done := uint64(0); ; {
		f.mu.Lock()
		for f.newest.Load() == done {
			f.more.Wait()
		}
		f.mu.Unlock()
		done = f.newest.Load()
		var wg sync.WaitGroup
		const workers = 2
		for w := range workers {
			wg.Go(func() {
				for i := w; i < len(f.conns); i += workers {
					b := f.conns[i]
					b.mu.Lock()
					f.send(b)
					b.mu.Unlock()
				}
			})
		}
		wg.Wait()
	}
}

// burstFloorClient are the other ends, in the crowd's process.
type burstFloorClient struct {
	mu     sync.Mutex
	moved  *sync.Cond
	stamps stamps
	have   map[int]int // connections that have a change as their newest
}

func openBurstFloor(ctx context.Context, config *tls.Config, o order) (*burstFloorClient, error) {
	f := &burstFloorClient{have: map[int]int{}}
	f.moved = sync.NewCond(&f.mu)
	return f, dialFloor(ctx, config, o, func(c net.Conn) { f.run(c, o) })
}

func (f *burstFloorClient) run(c net.Conn, o order) {
	defer c.Close()
	message, answer := make([]byte, o.Down), make([]byte, o.Up)
	for before := o.Change; ; {
		if _, err := io.ReadFull(c, message); err != nil {
			return // the server has ended
		}
		at, change := now(), int(binary.BigEndian.Uint64(message))
		if _, err := c.Write(answer); err != nil {
			return
		}
		f.mu.Lock()
		f.stamps.add(stamp{move{from: before, to: change}, at})
		f.have[before]--
		f.have[change]++
		f.mu.Unlock()
		f.moved.Broadcast()
		before = change
	}
}

// end waits until all connections have the last change.
func (f *burstFloorClient) end(o order) *latency {
	last := 0
	changes := make([]change, len(o.Burst.Changes))
	for i, c := range o.Burst.Changes {
		last = max(last, c.Number)
		changes[i] = change{Number: c.Number, At: c.At} // of one service: a message has all that are older
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.have[last] < o.Proxies {
		f.moved.Wait()
	}
	return latencies(changes, f.stamps.all())
}

// inOrder numbers changes as the source tells of them, which is not how they are
// counted where several write at a time: who has one has all that were told before.
type inOrder struct {
	last    int
	numbers map[int]int
}

func (o *inOrder) number(change int) int {
	o.last++
	o.numbers[change] = o.last
	return o.last
}

// leastBurst is the floor of a burst: the same writes to the same source, messages
// of down bytes and answers of up.
func (r *scaleRun) leastBurst(ctx context.Context, c *child, what string, services []int, down, up int) error {
	server, err := r.startFloor(ctx, c, order{Do: "burst-floor", Proxies: r.proxies, Down: down, Up: up, Change: r.change})
	if err != nil {
		return err
	}
	defer server.end()
	before, err := cpuTime(server.cmd.Process.Pid)
	if err != nil {
		return err
	}
	began := time.Now()
	in := inOrder{last: r.change, numbers: map[int]int{}}
	r.world.tidings().follow(func(change int) error { return server.in.Encode(in.number(change)) })
	changes, err := r.writeAll(ctx, services)
	r.world.tidings().follow(nil)
	if err != nil {
		return err
	}
	for i, c := range changes {
		changes[i].Number = in.numbers[c.Number]
	}
	a, err := c.do(order{Do: "burst-floor-end", Proxies: r.proxies, Burst: &burst{Changes: changes}})
	if err != nil {
		return err
	}
	took := time.Since(began)
	after, err := cpuTime(server.cmd.Process.Pid)
	if err != nil {
		return err
	}
	l := a.Latency
	r.add(what+", the floor's p50", l.P50, "ms", fmt.Sprintf("plain TLS, messages of %d bytes, answers of %d, beside the same source; meshd stands still", down, up))
	r.add(what+", the floor's p99", l.P99, "ms", fmt.Sprintf("at most %.0f ms; until the first connection has it %.0f", l.Max, l.First))
	r.add(what+", the floor's CPU", 100*(after-before).Seconds()/took.Seconds(), "% of a core", "")
	return nil
}
