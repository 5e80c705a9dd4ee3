package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	wireServices     = 1000
	wireDestinations = 10 // that each client uses
	wireClients      = 100
	wireChanges      = 40
	wireSigns        = 500
)

// wire measures a real `meshd serve` over loopback: certificates, then changes of endpoints.
func wire(ctx context.Context, bin string) (out []figure, err error) {
	dir, err := os.MkdirTemp("", "meshd-bench-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	m := mesh{services: wireServices, clients: wireClients, workloads: 1}
	files, err := newFiles(filepath.Join(dir, "mesh"), m)
	if err != nil {
		return nil, err
	}
	w, err := newWorld(ctx, files, m)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	d, err := files.serve(ctx, bin, dir)
	if err != nil {
		return nil, err
	}
	defer d.stop()
	group := fmt.Sprintf("meshd serve, %d services, %d pods", wireServices, 2*wireServices+wireClients)
	out = append(out, figure{group, "start until ready", milliseconds(time.Since(began)), "ms", fmt.Sprintf("%d files", 2*wireServices+2)})
	certificate, signing, err := measureSigning(ctx, group, d, w)
	if err != nil {
		return nil, err
	}
	changes, err := measureChanges(ctx, group, wireRun{d, w, certificate})
	if err != nil {
		return nil, err
	}
	return append(append(out, signing...), changes...), nil
}

func measureSigning(ctx context.Context, group string, d *daemon, w *world) (*tls.Certificate, []figure, error) {
	conn, err := d.dial(nil)
	if err != nil {
		return nil, nil, err
	}
	defer conn.Close() //nolint:errcheck // nothing depends on it
	token, err := w.token(ctx, 0)
	if err != nil {
		return nil, nil, err
	}
	s, err := newSigner(conn, token)
	if err != nil {
		return nil, nil, err
	}
	certificate, err := s.sign(ctx) // opens the connection
	if err != nil {
		return nil, nil, err
	}
	before, err := cpuTime(d.cmd.Process.Pid)
	if err != nil {
		return nil, nil, err
	}
	var list []time.Duration
	for range wireSigns {
		began := time.Now()
		if certificate, err = s.sign(ctx); err != nil {
			return nil, nil, err
		}
		list = append(list, time.Since(began))
	}
	after, err := cpuTime(d.cmd.Process.Pid)
	if err != nil {
		return nil, nil, err
	}
	out := quantiles(group, "CSR by gRPC on an open connection", list, "one at a time")
	out = append(out, figure{group, "CSR by gRPC, CPU of meshd", milliseconds(after-before) / wireSigns, "ms", "token and audit log included"})
	return certificate, out, nil
}

// wireRun is what changes of endpoints are measured on.
type wireRun struct {
	daemon      *daemon
	world       *world
	certificate *tls.Certificate
}

func measureChanges(ctx context.Context, group string, w wireRun) ([]figure, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var destinations []netip.AddrPort
	for i := range wireDestinations {
		destinations = append(destinations, netip.AddrPortFrom(netip.MustParseAddr(serviceAddress(i)), 80))
	}
	arrivals := make(chan arrival, wireClients*wireServices)
	var clients []*subscriber
	var out []figure
	count := 2 // endpoints of the service that changes
	for _, n := range []int{1, wireClients} {
		for len(clients) < n {
			conn, err := w.daemon.dial(w.certificate)
			if err != nil {
				return nil, err
			}
			defer conn.Close() //nolint:errcheck // nothing depends on it
			c := newSubscriber(len(clients), conn, arrivals)
			clients = append(clients, c)
			if err := c.start(ctx, destinations); err != nil {
				return nil, err
			}
		}
		if err := until(ctx, "all clients have all assignments", func() bool { return settled(clients) }); err != nil {
			return nil, errors.Join(err, firstFailure(clients))
		}
		if err := quiet(ctx, arrivals); err != nil {
			return nil, err
		}
		some, err := w.change(ctx, group, clients, arrivals, &count)
		if err != nil {
			return nil, errors.Join(err, firstFailure(clients))
		}
		out = append(out, some...)
	}
	m, err := memoryOf(w.daemon.cmd.Process.Pid)
	if err != nil {
		return nil, err
	}
	return append(out, figure{group, fmt.Sprintf("RSS of meshd with %d clients", wireClients), m.rss, "MB", ""}), nil
}

func settled(clients []*subscriber) bool {
	for _, c := range clients {
		if c.answered.Load() < wireDestinations || c.assigned.Load() < wireDestinations {
			return false
		}
	}
	return true
}

func firstFailure(clients []*subscriber) error {
	for _, c := range clients {
		if err := c.failed(); err != nil {
			return err
		}
	}
	return nil
}

// quiet returns when nothing has arrived for longer than promotions take (one second).
func quiet(ctx context.Context, arrivals <-chan arrival) error {
	for {
		select {
		case <-arrivals:
		case <-time.After(1500 * time.Millisecond):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// change adds an endpoint to a service and takes it away, in turn, and waits each time until every client has it.
func (w wireRun) change(ctx context.Context, group string, clients []*subscriber, arrivals <-chan arrival, count *int) ([]figure, error) {
	before, err := cpuTime(w.daemon.cmd.Process.Pid)
	if err != nil {
		return nil, err
	}
	var first, last []time.Duration
	size := 0
	for range wireChanges {
		*count = 3 - *count
		began := time.Now()
		if err := w.world.endpoints(ctx, 0, both(0)[:*count]); err != nil {
			return nil, err
		}
		seen, bytes, err := await(ctx, arrivals, *count, len(clients))
		if err != nil {
			return nil, err
		}
		size = bytes
		first, last = append(first, seen[0].Sub(began)), append(last, seen[len(seen)-1].Sub(began))
	}
	after, err := cpuTime(w.daemon.cmd.Process.Pid)
	if err != nil {
		return nil, err
	}
	what := fmt.Sprintf("file to wire, %d client", len(clients))
	var out []figure
	if len(clients) > 1 {
		what += "s"
		out = quantiles(group, what+", first", first, "")
		what += ", last"
	}
	out = append(out, quantiles(group, what, last, fmt.Sprintf("%d bytes each", size))...)
	return append(out, figure{group, what + ", CPU of meshd per change", milliseconds(after-before) / wireChanges, "ms", ""}), nil
}

// await gives when each client had the first service with count endpoints, in order.
func await(ctx context.Context, arrivals <-chan arrival, count, clients int) (seen []time.Time, bytes int, err error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	var latest time.Time
	had := map[int]bool{}
	for len(had) < clients {
		select {
		case a := <-arrivals:
			if !strings.Contains(a.cluster, serviceName(0)) || a.endpoints != count || had[a.client] {
				continue
			}
			had[a.client], bytes = true, a.bytes
			if a.at.After(latest) {
				latest = a.at
			}
			seen = append(seen, a.at)
		case <-ctx.Done():
			return nil, 0, fmt.Errorf("%d of %d clients have the change after 20 s", len(had), clients)
		}
	}
	seen[len(seen)-1] = latest // channels keep no order between clients
	return seen, bytes, nil
}
