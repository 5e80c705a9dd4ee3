package kubelet

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meshd-io/meshd/internal/clock"
	"github.com/meshd-io/meshd/pkg/lab/sandbox"
)

// tally turns single results into a verdict by the thresholds of a probe.
type tally struct {
	successThreshold, failureThreshold int32
	good, bad                          int32
}

func newTally(p *corev1.Probe) *tally {
	return &tally{successThreshold: cmp.Or(p.SuccessThreshold, 1), failureThreshold: cmp.Or(p.FailureThreshold, 3)}
}

// verdict of a tally.
type verdict int

const (
	undecided verdict = iota
	passing
	failing
)

func (t *tally) add(ok bool) verdict {
	if ok {
		t.good, t.bad = t.good+1, 0
		if t.good >= t.successThreshold {
			return passing
		}
		return undecided
	}
	t.good, t.bad = 0, t.bad+1
	if t.bad >= t.failureThreshold {
		return failing
	}
	return undecided
}

// afterStart does what follows a start: postStart, the startup probe, then the
// two others, until ctx is done.
func (c *container) afterStart(ctx context.Context, proc *sandbox.Process) {
	if l := c.spec.Lifecycle; l != nil && l.PostStart != nil {
		if err := c.hook(ctx, proc, l.PostStart); err != nil && ctx.Err() == nil {
			c.restart(proc, "postStart: "+err.Error())
			return
		}
	}
	if p := c.spec.StartupProbe; p != nil {
		if !c.awaitStartup(ctx, p, proc) {
			return
		}
	}
	if ctx.Err() != nil {
		return
	}
	c.update(func() {
		c.started = true
		c.ready = c.spec.ReadinessProbe == nil
	})
	c.upOnce.Do(func() { close(c.up) })
	done := make(chan struct{})
	go func() {
		defer close(done)
		if p := c.spec.LivenessProbe; p != nil {
			c.watchLiveness(ctx, p, proc)
		}
	}()
	if p := c.spec.ReadinessProbe; p != nil {
		c.watchReadiness(ctx, p, proc)
	}
	<-done
}

func (c *container) awaitStartup(ctx context.Context, p *corev1.Probe, proc *sandbox.Process) bool {
	started := false
	t := newTally(p)
	c.every(ctx, p, true, func(err error, counts bool) bool {
		if err == nil {
			started = true
			return false
		}
		if counts && t.add(false) == failing {
			go c.restart(proc, "startup probe: "+err.Error())
			return false
		}
		return true
	}, proc)
	return started
}

func (c *container) watchReadiness(ctx context.Context, p *corev1.Probe, proc *sandbox.Process) {
	t := newTally(p)
	c.every(ctx, p, true, func(err error, counts bool) bool {
		if err != nil && !counts {
			return true
		}
		switch t.add(err == nil) {
		case passing:
			c.setReady(true)
		case failing:
			c.setReady(false)
		}
		return true
	}, proc)
}

func (c *container) setReady(ready bool) {
	c.mu.Lock()
	same := c.ready == ready
	c.mu.Unlock()
	if !same {
		c.update(func() { c.ready = ready && c.proc != nil })
	}
}

func (c *container) watchLiveness(ctx context.Context, p *corev1.Probe, proc *sandbox.Process) {
	t := newTally(p)
	c.every(ctx, p, false, func(err error, _ bool) bool {
		if t.add(err == nil) == failing {
			go c.restart(proc, "liveness probe: "+err.Error())
			return false
		}
		return true
	}, proc)
}

// restart ends a process that is not well; the supervisor starts the next one.
func (c *container) restart(proc *sandbox.Process, why string) {
	c.pod.k.cfg.Log.Info("container is started again", "pod", c.pod.name(), "container", c.spec.Name, "reason", why)
	ctx, cancel := context.WithTimeout(c.pod.k.patience, c.pod.grace())
	defer cancel()
	c.terminate(ctx, proc)
}

// eager is how soon a probe that has never succeeded is tried first.
const eager = 50 * time.Millisecond

// every probes in the probe's period until report says no more or ctx is done.
// Until the first success of an eager one there are further tries in between,
// so that nobody waits a whole period for a server that needed a moment to
// start; their failures do not count.
func (c *container) every(ctx context.Context, p *corev1.Probe, early bool, report func(err error, counts bool) bool, proc *sandbox.Process) {
	period := time.Duration(cmp.Or(p.PeriodSeconds, 10)) * time.Second
	next := time.Now().Add(time.Duration(p.InitialDelaySeconds) * time.Second)
	soon := eager
	if !clock.Pause(ctx, time.Until(next)) {
		return
	}
	for {
		counts := !time.Now().Before(next)
		if counts {
			next = next.Add(period)
		}
		err := c.probe(ctx, p, proc)
		if ctx.Err() != nil || !report(err, counts) {
			return
		}
		early = early && err != nil
		wait := time.Until(next)
		if early {
			wait = min(wait, soon)
			soon *= 2
		}
		if !clock.Pause(ctx, wait) {
			return
		}
	}
}

// probe does one try: nil is success.
func (c *container) probe(ctx context.Context, p *corev1.Probe, proc *sandbox.Process) error {
	timeout := time.Duration(cmp.Or(p.TimeoutSeconds, 1)) * time.Second
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	switch {
	case p.Exec != nil:
		return c.runIn(ctx, proc, p.Exec.Command)
	case p.HTTPGet != nil:
		return c.httpGet(ctx, p.HTTPGet)
	case p.TCPSocket != nil:
		port, err := c.portNumber(p.TCPSocket.Port)
		if err != nil {
			return err
		}
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(c.host(p.TCPSocket.Host), port))
		if err != nil {
			return err
		}
		return conn.Close()
	case p.GRPC != nil:
		return c.grpcHealth(ctx, p.GRPC)
	}
	return nil
}

// runIn runs a command in the container; an exit code other than 0 is an error.
func (c *container) runIn(ctx context.Context, proc *sandbox.Process, command []string) error {
	var out bytes.Buffer
	exit, err := c.pod.k.cfg.Sandbox.Exec(ctx, proc, sandbox.ExecSpec{Command: command, Stdout: &out, Stderr: &out})
	if err != nil {
		return err
	}
	if exit.Code != 0 {
		return fmt.Errorf("exit code %d: %s", exit.Code, firstLine(out.String()))
	}
	return nil
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}

func (c *container) httpGet(ctx context.Context, a *corev1.HTTPGetAction) error {
	port, err := c.portNumber(a.Port)
	if err != nil {
		return err
	}
	scheme := strings.ToLower(string(cmp.Or(a.Scheme, corev1.URISchemeHTTP)))
	path := "/" + strings.TrimPrefix(a.Path, "/")
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+net.JoinHostPort(c.host(a.Host), port)+path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "kube-probe/1.37")
	req.Header.Set("Accept", "*/*")
	for _, h := range a.HTTPHeaders {
		if strings.EqualFold(h.Name, "Host") {
			req.Host = h.Value
			continue
		}
		req.Header.Set(h.Name, h.Value)
	}
	transport := &http.Transport{
		DisableKeepAlives: true,
		// As kubelet does: a probe asks whether it answers, not who it is.
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // see above
	}
	client := http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, 10<<10)); err != nil { // as much as kubelet reads
		return err
	}
	if resp.StatusCode < 200 || resp.StatusCode >= 400 {
		return fmt.Errorf("HTTP status %d", resp.StatusCode)
	}
	return nil
}

func (c *container) grpcHealth(ctx context.Context, a *corev1.GRPCAction) error {
	conn, err := grpc.NewClient("passthrough:///"+net.JoinHostPort(c.host(""), strconv.Itoa(int(a.Port))),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithUserAgent("kube-probe/1.37"))
	if err != nil {
		return err
	}
	defer conn.Close()
	req := &grpc_health_v1.HealthCheckRequest{}
	if a.Service != nil {
		req.Service = *a.Service
	}
	resp, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, req)
	if err != nil {
		return err
	}
	if resp.Status != grpc_health_v1.HealthCheckResponse_SERVING {
		return fmt.Errorf("health is %s", resp.Status)
	}
	return nil
}

// host is where probes go: the pod's own address, unless the probe says another.
func (c *container) host(given string) string {
	if given != "" {
		return given
	}
	return c.pod.namespace().Addrs[0].String()
}

func (c *container) portNumber(p intstr.IntOrString) (string, error) {
	if p.Type == intstr.Int {
		return strconv.Itoa(int(p.IntVal)), nil
	}
	for _, cp := range c.spec.Ports {
		if cp.Name == p.StrVal {
			return strconv.Itoa(int(cp.ContainerPort)), nil
		}
	}
	if _, err := strconv.Atoi(p.StrVal); err == nil {
		return p.StrVal, nil
	}
	return "", fmt.Errorf("container %s has no port %q", c.spec.Name, p.StrVal)
}

// hook runs postStart or preStop.
func (c *container) hook(ctx context.Context, proc *sandbox.Process, h *corev1.LifecycleHandler) error {
	switch {
	case h.Exec != nil:
		return c.runIn(ctx, proc, h.Exec.Command)
	case h.HTTPGet != nil:
		return c.httpGet(ctx, h.HTTPGet)
	case h.Sleep != nil:
		clock.Pause(ctx, time.Duration(h.Sleep.Seconds)*time.Second)
	}
	return nil
}
