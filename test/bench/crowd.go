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

// crowd is many proxies of one workload, in a process of its own.
type crowd struct {
	address     string
	config      *tls.Config
	holder      *holder
	wire, plain traffic
	resources   atomic.Int64
	refused     atomic.Int64 // connections that ended before their proxy was settled
	lost        atomic.Int64 // connections that ended later
	newest      atomic.Pointer[held]
	floor       *floorClient

	mu       sync.Mutex
	changed  *sync.Cond
	settled  int
	had      map[int]int // marker of each proxy that is settled
	arrivals map[int][]int64
	last     string // words of the last lost connection
}

// order is what a crowd is told, one JSON object a line on its standard input.
type order struct {
	Do          string           `json:"do"`
	Address     string           `json:"address,omitempty"`
	Bundle      string           `json:"bundle,omitempty"`      // file
	Certificate string           `json:"certificate,omitempty"` // file with the chain and the key
	First       int              `json:"first,omitempty"`       // number of the first proxy
	Proxies     int              `json:"proxies,omitempty"`
	Change      int              `json:"change,omitempty"`
	Assignments int              `json:"assignments,omitempty"`
	Ask         []netip.AddrPort `json:"ask,omitempty"`
	Down        int              `json:"down,omitempty"` // bytes of a message of the floor
	Up          int              `json:"up,omitempty"`
}

// account is what it answers, likewise on its standard output.
type account struct {
	Error     string  `json:"error,omitempty"`
	At        []int64 `json:"at,omitempty"` // sorted, now()
	Resources int64   `json:"resources,omitempty"`
	Refused   int64   `json:"refused,omitempty"`
	Lost      int64   `json:"lost,omitempty"`
	Last      string  `json:"last,omitempty"`
	WireIn    int64   `json:"wireIn,omitempty"`
	WireOut   int64   `json:"wireOut,omitempty"`
	PlainIn   int64   `json:"plainIn,omitempty"`
	PlainOut  int64   `json:"plainOut,omitempty"`
}

// beCrowd obeys until its input ends.
func beCrowd(ctx context.Context) error {
	c := &crowd{had: map[int]int{}, arrivals: map[int][]int64{}}
	c.changed = sync.NewCond(&c.mu)
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var o order
		if err := in.Decode(&o); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		at, err := c.obey(ctx, o)
		a := account{
			At: at, Resources: c.resources.Load(), Refused: c.refused.Load(), Lost: c.lost.Load(),
			WireIn: c.wire.in.Load(), WireOut: c.wire.out.Load(), PlainIn: c.plain.in.Load(), PlainOut: c.plain.out.Load(),
		}
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

func (c *crowd) obey(ctx context.Context, o order) ([]int64, error) {
	switch o.Do {
	case "connect":
		return c.connect(ctx, o)
	case "await":
		return c.await(o.Change)
	case "stall":
		return nil, c.stall(ctx, o)
	case "floor":
		var err error
		c.floor, err = openFloor(ctx, c.config, o)
		return nil, err
	case "floor-await":
		return c.floor.await()
	case "count":
		return nil, nil
	}
	return nil, fmt.Errorf("no order %q", o.Do)
}

// connect starts proxies, all at once, and waits until they have everything.
func (c *crowd) connect(ctx context.Context, o order) ([]int64, error) {
	td := spiffeid.RequireTrustDomainFromString(trustDomain)
	bundle, err := x509bundle.Load(td, o.Bundle)
	if err != nil {
		return nil, err
	}
	certificate, err := tls.LoadX509KeyPair(o.Certificate, o.Certificate)
	if err != nil {
		return nil, err
	}
	c.address, c.config = o.Address, tlsconfig.TLSClientConfig(bundle, tlsconfig.AuthorizeMemberOf(td))
	c.config.MinVersion, c.config.NextProtos = tls.VersionTLS13, []string{"h2"}
	c.config.Certificates = []tls.Certificate{certificate}
	c.holder = newHolder(o.Ask, o.Assignments)
	for i := range o.Proxies {
		go c.live(ctx, &proxy{crowd: c, number: o.First + i, held: &held{}})
	}
	return nil, c.wait(func() bool { return c.settled >= o.Proxies })
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
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond): // as the least of an Envoy's back-off
		}
	}
}

// took notes what a proxy has received.
func (c *crowd) took(p *proxy, s step, at int64) {
	c.resources.Add(int64(s.resources))
	c.newest.Store(s.next)
	if !s.moved && !s.next.settled {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.had[p.number]; !known && s.next.settled {
		c.settled++
		c.had[p.number] = s.next.marker
		c.changed.Broadcast()
	}
	if s.moved {
		c.arrivals[s.next.marker] = append(c.arrivals[s.next.marker], at)
		c.changed.Broadcast()
	}
}

// patience is how long anything may take.
const patience = 5 * time.Minute

func (c *crowd) wait(holds func() bool) error {
	timer := time.AfterFunc(patience, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.changed.Broadcast()
	})
	defer timer.Stop()
	began := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	for !holds() {
		if time.Since(began) >= patience {
			return fmt.Errorf("not after %s: %d proxies are settled; last error %q; somebody has %s", patience, c.settled, c.last, c.newest.Load())
		}
		c.changed.Wait()
	}
	return nil
}

// await gives when each proxy had a change.
func (c *crowd) await(change int) ([]int64, error) {
	var at []int64
	err := c.wait(func() bool {
		at = c.arrivals[change]
		return len(at) >= c.settled
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

// stall opens connections that ask for everything and never read.
func (c *crowd) stall(ctx context.Context, o order) error {
	for i := range o.Proxies {
		p := &proxy{crowd: c, number: o.First + i, held: &held{}, idle: true}
		if err := p.dial(ctx); err != nil {
			return err
		}
		context.AfterFunc(ctx, func() { p.conn.Close() })
	}
	return nil
}
