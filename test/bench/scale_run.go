package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/meshd-io/meshd/internal/clock"
)

// scaleRun is one form, on a meshd of its own.
type scaleRun struct {
	world            *world
	bin, group, dir  string
	all              bool
	proxies          int
	settle           time.Duration
	only             []string // steps, where not all are asked for
	daemon           *daemon
	certificates     []string // files, by workload
	change           int      // the last that was made
	alone, collected float64  // MB of meshd with one proxy; and after a collection
	held             int64    // resources of a proxy
	out              []figure
}

func (r *scaleRun) add(what string, value float64, unit, note string) {
	r.out = append(r.out, figure{r.group, what, value, unit, note})
}

func (r *scaleRun) run(ctx context.Context) (err error) {
	if r.dir, err = os.MkdirTemp("", "meshd-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(r.dir)) }()
	if err := errors.Join(r.world.restore(ctx), r.world.scope(ctx, r.all)); err != nil {
		return err
	}
	if r.daemon, err = r.world.serve(ctx, r.bin, r.dir); err != nil {
		return err
	}
	defer func() { r.daemon.kill() }()
	if err := r.certify(ctx); err != nil {
		return err
	}
	if err := r.single(ctx); err != nil {
		return err
	}
	r.add("load of the machine when the run begins", load(), "", "average of the last minute")
	c, err := startChild(ctx, "crowd")
	if err != nil {
		return err
	}
	defer c.end()
	if err := r.coldStart(ctx, c); err != nil {
		return err
	}
	for _, step := range scaleSteps() {
		if len(r.only) > 0 && !slices.Contains(r.only, step.name) {
			continue
		}
		if err := step.run(r, ctx, c); err != nil {
			return err
		}
	}
	r.add("load of the machine when the run ends", load(), "", "average of the last minute")
	return nil
}

type scaleStep struct {
	name string
	run  func(*scaleRun, context.Context, *child) error
}

// scaleSteps follow the cold start, in this order. After the restart meshd becomes the
// leader some time or other and makes all statuses: nothing is measured beside that.
func scaleSteps() []scaleStep {
	return []scaleStep{
		{"changes", (*scaleRun).changes}, {"idle", (*scaleRun).idle}, {"bursts", (*scaleRun).bursts},
		{"stalled", (*scaleRun).stalled}, {"restart", (*scaleRun).restart},
	}
}

// certify gets the certificates that proxies show, one of each workload: its replicas share it.
func (r *scaleRun) certify(ctx context.Context) error {
	conn, err := r.daemon.dial(nil)
	if err != nil {
		return err
	}
	defer conn.Close()
	for workload := range r.world.workloads {
		token, err := r.world.token(ctx, workload)
		if err != nil {
			return err
		}
		s, err := newSigner(conn, token)
		if err != nil {
			return err
		}
		certificate, err := s.sign(ctx)
		if err != nil {
			return err
		}
		file := filepath.Join(r.dir, account(workload)+".pem")
		if err := writeCertificate(file, certificate); err != nil {
			return err
		}
		r.certificates = append(r.certificates, file)
	}
	return nil
}

func writeCertificate(file string, certificate *tls.Certificate) error {
	key, err := x509.MarshalPKCS8PrivateKey(certificate.PrivateKey)
	if err != nil {
		return err
	}
	var text bytes.Buffer
	for _, der := range certificate.Certificate {
		text.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	text.Write(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	return os.WriteFile(file, text.Bytes(), 0o600)
}

// uses are the services whose endpoints a workload has.
func (r *scaleRun) uses(workload int) []int {
	if r.all {
		return r.world.used(0, r.world.services)
	}
	return r.world.used(workload, scaleUsed)
}

func (r *scaleRun) workloadOrders() []workloadOrder {
	var out []workloadOrder
	for workload, certificate := range r.certificates {
		services := r.uses(workload)
		o := workloadOrder{Account: account(workload), Certificate: certificate, Assignments: len(services)}
		if !r.all {
			for _, s := range services {
				o.Ask = append(o.Ask, netip.AddrPortFrom(netip.MustParseAddr(serviceAddress(s)), 80))
			}
		}
		out = append(out, o)
	}
	return out
}

// connect has proxies connect, or stall.
func (r *scaleRun) connect(c *child, do string, first, proxies int) (answer, error) {
	return c.do(order{
		Do: do, Address: r.daemon.address, Bundle: r.daemon.anchor,
		Workloads: r.workloadOrders(), First: first, Proxies: proxies,
	})
}

// single notes what one proxy costs, and starts meshd anew.
func (r *scaleRun) single(ctx context.Context) error {
	c, err := startChild(ctx, "crowd")
	if err != nil {
		return err
	}
	defer c.end()
	if _, err := r.connect(c, "connect", 0, 1); err != nil {
		return err
	}
	if err := r.calm(ctx); err != nil {
		return err
	}
	if r.alone, err = r.resident(); err != nil {
		return err
	}
	r.add("RSS of meshd, one proxy", r.alone, "MB", "")
	if r.collected, err = r.residentAfterGC(ctx); err != nil {
		return err
	}
	r.add("RSS of meshd, one proxy, after GC", r.collected, "MB", "")
	r.daemon.kill()
	if err := r.daemon.again(ctx); err != nil {
		return err
	}
	return r.calm(ctx)
}

func (r *scaleRun) coldStart(ctx context.Context, c *child) error {
	pid := r.daemon.cmd.Process.Pid
	before, err := cpuTime(pid)
	if err != nil {
		return err
	}
	began := now()
	a, err := r.connect(c, "connect", 0, r.proxies)
	if err != nil {
		return err
	}
	took := time.Duration(now() - began)
	after, err := cpuTime(pid)
	if err != nil {
		return err
	}
	r.held = a.Resources / int64(r.proxies)
	r.add("cold start, until the last proxy has everything", took.Seconds(), "s", fmt.Sprintf("%d resources, %.0f KB each", r.held, float64(a.WireIn)/float64(r.proxies)/1024))
	r.add("cold start, CPU of meshd", (after - before).Seconds(), "s", "")
	r.add("cold start, refused or broken streams", float64(a.Refused), "", a.Last)
	if !clock.Pause(ctx, 5*time.Second) { // promotions and the rest of the storm
		return ctx.Err()
	}
	if err := r.memory(ctx, "5 s after the storm"); err != nil {
		return err
	}
	return r.calm(ctx)
}

// series are latencies of changes: from before the source is written to, from
// when it tells of the change, and from when the first proxy has it.
type series struct{ write, event, spread []time.Duration }

// series makes changes one at a time and waits for each at all proxies.
func (r *scaleRun) series(ctx context.Context, c *child, count int) (series, error) {
	var out series
	for range count {
		r.change++
		began := now()
		if err := r.world.mark(ctx, 0, r.change); err != nil {
			return out, err
		}
		a, err := c.do(order{Do: "await", Change: r.change})
		if err != nil {
			return out, err
		}
		told, err := r.world.tidings().of(r.change)
		if err != nil {
			return out, err
		}
		for _, at := range a.At {
			out.write, out.event = append(out.write, time.Duration(at-began)), append(out.event, time.Duration(at-told))
			out.spread = append(out.spread, time.Duration(at-a.At[0]))
		}
	}
	return out, nil
}

func (r *scaleRun) addSeries(what string, s series) {
	r.out = append(r.out, quantiles(r.group, what+", from the event to each proxy", s.event, "the event is the API server's, as another watch has it, or the file that is there")...)
	r.out = append(r.out, quantiles(r.group, what+", from before the write to each proxy", s.write, "")...)
	r.out = append(r.out, quantiles(r.group, what+", from the first proxy to each", s.spread, "")...)
}

func load() float64 {
	raw, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(raw), " ")
	v, _ := strconv.ParseFloat(first, 64) // a number on every Linux
	return v
}
