package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"golang.org/x/sys/unix"

	"github.com/meshd-io/meshd/internal/clock"
)

// now is the machine's monotonic clock, in nanoseconds: the same in every process.
func now() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		panic(err) // every Linux has it
	}
	return t.Nano()
}

type traffic struct{ in, out atomic.Int64 }

// crowd is many proxies of some workloads, in a process of its own.
type crowd struct {
	address     string
	workloads   []workload
	wire, plain traffic
	messages    atomic.Int64
	resources   atomic.Int64
	refused     atomic.Int64 // connections that ended before their proxy was settled
	lost        atomic.Int64 // connections that ended later
	newest      atomic.Pointer[held]
	floor       *floorClient
	burstFloor  *burstFloorClient
	stalled     []*proxy

	mu       sync.Mutex
	changed  *sync.Cond
	holds    map[int]*held // of each proxy that has been settled
	arrivals map[int][]int64
	burst    *stamps // nil where there is none
	last     string  // words of the last lost connection
}

// workload is what its replicas have in common.
type workload struct {
	config *tls.Config
	holder *holder
}

// order is what a crowd is told, one JSON object a line on its standard input.
type order struct {
	Do        string          `json:"do"`
	Address   string          `json:"address,omitempty"`
	Bundle    string          `json:"bundle,omitempty"` // file
	Workloads []workloadOrder `json:"workloads,omitempty"`
	First     int             `json:"first,omitempty"` // number of the first proxy
	Proxies   int             `json:"proxies,omitempty"`
	Change    int             `json:"change,omitempty"`
	Burst     *burst          `json:"burst,omitempty"`
	Down      int             `json:"down,omitempty"` // bytes of a message of the floor
	Up        int             `json:"up,omitempty"`
}

// workloadOrder is a workload of the proxies, which take turns.
type workloadOrder struct {
	Account     string           `json:"account"`
	Certificate string           `json:"certificate"` // file with the chain and the key
	Assignments int              `json:"assignments"`
	Ask         []netip.AddrPort `json:"ask,omitempty"`
}

// answer is what it says, likewise on its standard output.
type answer struct {
	Error     string   `json:"error,omitempty"`
	At        []int64  `json:"at,omitempty"` // sorted, now()
	Latency   *latency `json:"latency,omitempty"`
	Messages  int64    `json:"messages,omitempty"`
	Resources int64    `json:"resources,omitempty"`
	Refused   int64    `json:"refused,omitempty"`
	Lost      int64    `json:"lost,omitempty"`
	Last      string   `json:"last,omitempty"`
	WireIn    int64    `json:"wireIn,omitempty"`
	WireOut   int64    `json:"wireOut,omitempty"`
	PlainIn   int64    `json:"plainIn,omitempty"`
	PlainOut  int64    `json:"plainOut,omitempty"`
}

// beCrowd obeys until its input ends.
func beCrowd(ctx context.Context) error {
	c := &crowd{holds: map[int]*held{}, arrivals: map[int][]int64{}}
	c.changed = sync.NewCond(&c.mu)
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var o order
		if err := in.Decode(&o); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		a := answer{}
		err := c.obey(ctx, o, &a)
		a.Messages, a.Resources, a.Refused, a.Lost = c.messages.Load(), c.resources.Load(), c.refused.Load(), c.lost.Load()
		a.WireIn, a.WireOut, a.PlainIn, a.PlainOut = c.wire.in.Load(), c.wire.out.Load(), c.plain.in.Load(), c.plain.out.Load()
		c.mu.Lock()
		a.Last = c.last
		c.mu.Unlock()
		if err != nil {
			a.Error = err.Error()
		}
		if err := out.Encode(a); err != nil {
			return err
		}
	}
}

func (c *crowd) obey(ctx context.Context, o order, a *answer) (err error) {
	switch o.Do {
	case "connect":
		return c.connect(ctx, o)
	case "await":
		a.At, err = c.await(o.Change)
	case "burst":
		c.beginBurst()
	case "burst-end":
		a.Latency, err = c.endBurst(o.Burst)
	case "stall":
		return c.stall(ctx, o)
	case "floor":
		c.floor, err = openFloor(ctx, c.workloads[0].config, o)
	case "burst-floor":
		c.burstFloor, err = openBurstFloor(ctx, c.workloads[0].config, o)
	case "burst-floor-end":
		a.Latency = c.burstFloor.end(o)
	case "floor-await":
		a.At, err = c.floor.await()
	case "count":
	default:
		return fmt.Errorf("no order %q", o.Do)
	}
	return err
}

// connect starts proxies, all at once, and waits until they have everything.
func (c *crowd) connect(ctx context.Context, o order) error {
	if err := c.learn(o); err != nil {
		return err
	}
	for i := range o.Proxies {
		go c.live(ctx, c.proxy(o.First+i))
	}
	return c.wait(patience, func() bool { return len(c.holds) >= o.Proxies })
}

// learn where meshd is, and what the proxies' workloads are.
func (c *crowd) learn(o order) error {
	td := spiffeid.RequireTrustDomainFromString(trustDomain)
	bundle, err := x509bundle.Load(td, o.Bundle)
	if err != nil {
		return err
	}
	c.address, c.workloads = o.Address, nil
	for _, w := range o.Workloads {
		certificate, err := tls.LoadX509KeyPair(w.Certificate, w.Certificate)
		if err != nil {
			return err
		}
		config := tlsconfig.TLSClientConfig(bundle, tlsconfig.AuthorizeMemberOf(td))
		config.MinVersion, config.NextProtos = tls.VersionTLS13, []string{"h2"}
		config.Certificates = []tls.Certificate{certificate}
		c.workloads = append(c.workloads, workload{config, newHolder(w.Account, w.Ask, w.Assignments)})
	}
	return nil
}

func (c *crowd) proxy(number int) *proxy {
	return &proxy{crowd: c, workload: c.workloads[number%len(c.workloads)], number: number, held: &held{}}
}

// live connects again as often as the connection ends, with what the proxy holds.
func (c *crowd) live(ctx context.Context, p *proxy) {
	for ctx.Err() == nil {
		err := p.dial(ctx)
		if err == nil {
			err = p.run()
			p.conn.Close()
		}
		if p.held.settled {
			c.lost.Add(1)
		} else {
			c.refused.Add(1)
		}
		c.mu.Lock()
		c.last = err.Error()
		c.mu.Unlock()
		clock.Pause(ctx, 100*time.Millisecond) // as the least of an Envoy's back-off
	}
}

// took notes what a proxy has received.
func (c *crowd) took(p *proxy, s step, at int64) {
	c.messages.Add(1)
	c.resources.Add(int64(s.resources))
	c.newest.Store(s.next)
	if len(s.moves) == 0 && !s.next.settled {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if before, known := c.holds[p.number]; known || s.next.settled {
		c.holds[p.number] = s.next
		if before != s.next {
			c.changed.Broadcast()
		}
	}
	switch {
	case c.burst != nil:
		for _, m := range s.moves {
			c.burst.add(stamp{m, at})
		}
	case s.moved:
		c.arrivals[s.next.marker] = append(c.arrivals[s.next.marker], at)
		c.changed.Broadcast()
	}
}

// patience is how long anything may take.
const patience = 5 * time.Minute

func (c *crowd) wait(limit time.Duration, holds func() bool) error {
	timer := time.AfterFunc(limit, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.changed.Broadcast()
	})
	defer timer.Stop()
	began := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	for !holds() {
		if time.Since(began) >= limit {
			return fmt.Errorf("not after %s: %d proxies are settled; last error %q; somebody has %s", limit, len(c.holds), c.last, c.newest.Load())
		}
		c.changed.Wait()
	}
	return nil
}

// await gives when each proxy had a change.
func (c *crowd) await(change int) ([]int64, error) {
	var at []int64
	err := c.wait(patience, func() bool {
		at = c.arrivals[change]
		return len(at) >= len(c.holds)
	})
	if err != nil {
		return nil, fmt.Errorf("change %d has reached %d: %w", change, len(at), err)
	}
	c.mu.Lock()
	delete(c.arrivals, change)
	c.mu.Unlock()
	slices.Sort(at)
	return at, nil
}

// stall opens connections that ask for everything and never read, until the crowd ends.
func (c *crowd) stall(ctx context.Context, o order) error {
	if err := c.learn(o); err != nil {
		return err
	}
	for i := range o.Proxies {
		p := c.proxy(o.First + i)
		p.idle = true
		if err := p.dial(ctx); err != nil {
			return err
		}
		c.stalled = append(c.stalled, p)
	}
	return nil
}
