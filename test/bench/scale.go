package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// scaleSize is what the part "scale" runs with.
type scaleSize struct {
	proxies, services int
	form              string
	settle            time.Duration
}

func (s *scaleSize) register(f *flag.FlagSet) {
	f.IntVar(&s.proxies, "proxies", 1000, "scale: simulated proxies")
	f.IntVar(&s.services, "services", 1000, "scale: services, of two pods each")
	f.StringVar(&s.form, "form", "", "scale: all (scope: All) or used (each proxy uses 20 services); empty is both")
	f.DurationVar(&s.settle, "settle", 0, "scale: wait so long for memory as it is after the collector of an idle meshd has run (130s)")
}

const (
	scaleUsed    = 20 // services that each proxy uses where not all are sent
	scaleChanges = 60 // one at a time
	scaleBlock   = 15 // changes, then as many rounds of the floor
	scaleStalled = 50 // proxies that never read
	scaleAfter   = 15 // changes beside them
	scaleIdle    = 10 * time.Second
)

func (s *scaleSize) measure(ctx context.Context, bin string) ([]figure, error) {
	var out []figure
	for _, form := range []string{"all", "used"} {
		if s.form != "" && s.form != form {
			continue
		}
		r := &scaleRun{scaleSize: *s, bin: bin, all: form == "all"}
		r.group = fmt.Sprintf("%d proxies, %d services, each proxy has all (scope: All)", s.proxies, s.services)
		if !r.all {
			r.group = fmt.Sprintf("%d proxies, %d services, each proxy uses %d", s.proxies, s.services, scaleUsed)
		}
		err := r.run(ctx)
		out = append(out, r.out...)
		if err != nil {
			return out, fmt.Errorf("%s: %w", r.group, err)
		}
	}
	return out, nil
}

// scaleRun is one form, on a meshd of its own.
type scaleRun struct {
	scaleSize
	bin, group, dir string
	all             bool
	files           meshFiles
	daemon          *daemon
	certificate     string  // file
	change          int     // the last that was made
	alone           float64 // MB of meshd with one proxy
	held            int64   // resources of a proxy
	out             []figure
}

func (r *scaleRun) add(what string, value float64, unit, note string) {
	r.out = append(r.out, figure{r.group, what, value, unit, note})
}

func (r *scaleRun) run(ctx context.Context) (err error) {
	if r.dir, err = os.MkdirTemp("", "meshd-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(r.dir)) }()
	r.files = meshFiles{dir: filepath.Join(r.dir, "mesh"), services: r.services, clients: r.proxies + scaleStalled + 1}
	if err := errors.Join(r.files.write(), r.files.mark(0)); err != nil {
		return err
	}
	if r.all {
		err := r.files.put("meshconfig.yaml", "apiVersion: meshd.io/v1alpha1\nkind: MeshConfig\nmetadata: {name: default}\nspec: {scope: All}\n")
		if err != nil {
			return err
		}
	}
	if r.daemon, err = startDaemon(ctx, r.bin, filepath.Join(r.dir, "state"), r.files.dir); err != nil {
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
	for _, step := range []func(context.Context, *child) error{r.coldStart, r.changes, r.idle, r.restart, r.stalled} {
		if err := step(ctx, c); err != nil {
			return err
		}
	}
	r.add("load of the machine when the run ends", load(), "", "average of the last minute")
	return nil
}

// certify gets the one certificate that all proxies show: they are replicas of one workload.
func (r *scaleRun) certify(ctx context.Context) error {
	conn, err := r.daemon.dial(nil)
	if err != nil {
		return err
	}
	defer conn.Close()
	s, err := r.daemon.signer(conn)
	if err != nil {
		return err
	}
	certificate, err := s.sign(ctx)
	if err != nil {
		return err
	}
	key, err := x509.MarshalPKCS8PrivateKey(certificate.PrivateKey)
	if err != nil {
		return err
	}
	var text bytes.Buffer
	for _, der := range certificate.Certificate {
		text.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	text.Write(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	r.certificate = filepath.Join(r.dir, "client.pem")
	if err := os.WriteFile(r.certificate, text.Bytes(), 0o600); err != nil {
		return err
	}
	_, err = tls.LoadX509KeyPair(r.certificate, r.certificate)
	return err
}

func (r *scaleRun) connect(c *child, first, proxies int) (account, error) {
	o := order{
		Do: "connect", Address: r.daemon.address, Bundle: filepath.Join(r.dir, "state", "root.crt"),
		Certificate: r.certificate, First: first, Proxies: proxies, Assignments: r.services,
	}
	if !r.all {
		o.Assignments = scaleUsed
		for i := range scaleUsed {
			o.Ask = append(o.Ask, netip.AddrPortFrom(netip.MustParseAddr(serviceAddress(i)), 80))
		}
	}
	return c.do(o)
}

// single notes what one proxy costs, and starts meshd anew.
func (r *scaleRun) single(ctx context.Context) error {
	c, err := startChild(ctx, "crowd")
	if err != nil {
		return err
	}
	defer c.end()
	if _, err := r.connect(c, 0, 1); err != nil {
		return err
	}
	if err := pause(ctx, 3*time.Second); err != nil {
		return err
	}
	m, err := memoryOf(r.daemon.cmd.Process.Pid)
	if err != nil {
		return err
	}
	r.alone = m.rss
	r.add("RSS of meshd, one proxy", m.rss, "MB", "")
	r.daemon.kill()
	return r.daemon.again(ctx)
}

func (r *scaleRun) coldStart(ctx context.Context, c *child) error {
	pid := r.daemon.cmd.Process.Pid
	before, err := cpuTime(pid)
	if err != nil {
		return err
	}
	began := now()
	a, err := r.connect(c, 0, r.proxies)
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
	if err := pause(ctx, 5*time.Second); err != nil { // promotions and the rest of the storm
		return err
	}
	return r.memory("5 s after the storm")
}

// memory of meshd as it stands, and the most that it has been.
func (r *scaleRun) memory(when string) error {
	pid := r.daemon.cmd.Process.Pid
	m, err := memoryOf(pid)
	if err != nil {
		return err
	}
	peak, err := peakOf(pid)
	if err != nil {
		return err
	}
	n := float64(r.proxies)
	r.add("RSS of meshd, "+when, m.rss, "MB", fmt.Sprintf("peak %.0f MB, %.1f times", peak, peak/m.rss))
	heap, stacks, err := r.daemon.goMemory()
	if err != nil {
		return err
	}
	r.add("Go's heap and stacks in use, "+when, heap+stacks, "MB", fmt.Sprintf("stacks %.0f MB", stacks))
	r.add("RSS per proxy, "+when, (m.rss-r.alone)*1024/n, "KB", fmt.Sprintf("above meshd with one proxy; %.0f KB with all of meshd", m.rss*1024/n))
	return nil
}

// series makes changes one at a time and waits for each at all proxies.
func (r *scaleRun) series(c *child, count int) (from, spread []time.Duration, err error) {
	for range count {
		r.change++
		began := now()
		if err := r.files.mark(r.change); err != nil {
			return nil, nil, err
		}
		a, err := c.do(order{Do: "await", Change: r.change})
		if err != nil {
			return nil, nil, err
		}
		for _, at := range a.At {
			from, spread = append(from, time.Duration(at-began)), append(spread, time.Duration(at-a.At[0]))
		}
	}
	return from, spread, nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
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

// child is bench itself in another process, which takes orders.
type child struct {
	cmd *exec.Cmd
	in  *json.Encoder
	out *json.Decoder
	end func()
}

func startChild(ctx context.Context, args ...string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &child{cmd: exec.CommandContext(ctx, self, args...)} // this program
	c.cmd.Stderr = os.Stderr
	in, err := c.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.in, c.out = json.NewEncoder(in), json.NewDecoder(bufio.NewReader(out))
	c.end = func() {
		_ = c.cmd.Process.Kill()
		_ = c.cmd.Wait() // ended by the signal
	}
	return c, c.cmd.Start()
}

func (c *child) do(o order) (account, error) {
	var a account
	if err := errors.Join(c.in.Encode(o), c.out.Decode(&a)); err != nil {
		return a, fmt.Errorf("%s: %w", o.Do, err)
	}
	if a.Error != "" {
		return a, fmt.Errorf("%s: %s", o.Do, a.Error)
	}
	return a, nil
}
