package kubelet

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshd-io/meshd/internal/clock"
	"github.com/meshd-io/meshd/pkg/lab/sandbox"
)

const (
	firstBackoff = 250 * time.Millisecond
	// maxBackoff is short: in a lab someone waits for it.
	maxBackoff = 5 * time.Second
	// steady is how long a container must run for its back-off to start anew.
	steady = 10 * time.Second
	// startError is the exit code of a container whose command could not be started.
	startError = 128
)

// container is one container of a pod, through all its restarts.
type container struct {
	pod     *pod
	spec    corev1.Container
	init    bool
	sidecar bool

	more   context.Context // done when it must not be started again
	cancel context.CancelFunc
	ended  chan struct{} // closed when it has ended for good
	up     chan struct{} // closed when it has started for the first time
	upOnce sync.Once

	mu       sync.Mutex
	launched bool
	proc     *sandbox.Process
	state    corev1.ContainerState
	last     corev1.ContainerState
	ready    bool
	started  bool
	restarts int32
}

func newContainer(p *pod, spec corev1.Container, init bool) *container {
	c := &container{
		pod: p, spec: spec, init: init,
		sidecar: init && spec.RestartPolicy != nil && *spec.RestartPolicy == corev1.ContainerRestartPolicyAlways,
		ended:   make(chan struct{}), up: make(chan struct{}),
		state: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "PodInitializing"}},
	}
	c.more, c.cancel = context.WithCancel(context.Background())
	return c
}

// launch starts the container's life.
func (c *container) launch() {
	c.mu.Lock()
	c.launched = true
	c.mu.Unlock()
	go c.supervise()
}

// supervise starts the process again and again, as the restart policy says.
func (c *container) supervise() {
	defer close(c.ended)
	backoff := firstBackoff
	for {
		began := time.Now()
		code := c.once()
		if c.more.Err() != nil || !c.again(code) {
			return
		}
		if time.Since(began) > steady {
			backoff = firstBackoff
		}
		c.update(func() {
			c.last = c.state
			c.restarts++
			c.state = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{
				Reason: "CrashLoopBackOff", Message: fmt.Sprintf("back-off %s after exit code %d%s", backoff, code, reasonOf(c.last)),
			}}
		})
		if !clock.Pause(c.more, backoff) {
			return
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

func reasonOf(s corev1.ContainerState) string {
	if s.Terminated == nil || s.Terminated.Message == "" {
		return ""
	}
	return ": " + s.Terminated.Message
}

// again reports whether the container is to be started after an exit code.
func (c *container) again(code int) bool {
	return restarts(c.pod.spec.Spec.RestartPolicy, c.init, c.sidecar, code)
}

// restarts is Kubernetes' table of restart policies.
func restarts(policy corev1.RestartPolicy, init, sidecar bool, code int) bool {
	switch {
	case sidecar:
		return true
	case init:
		return code != 0 && policy != corev1.RestartPolicyNever
	case policy == corev1.RestartPolicyNever:
		return false
	case policy == corev1.RestartPolicyOnFailure:
		return code != 0
	}
	return true
}

// once runs the container's process one time and gives its exit code.
func (c *container) once() int {
	proc, log, err := c.startProcess()
	if err != nil {
		c.update(func() { c.terminated(startError, "StartError", err.Error(), time.Now()) })
		return startError
	}
	if proc == nil {
		return 0 // it is to end
	}
	began := time.Now()
	c.update(func() {
		c.state = corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(began)}}
	})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { c.afterStart(ctx, proc) })
	exit := proc.Wait()
	cancel()
	wg.Wait()
	if err := log.Close(); err != nil {
		c.pod.k.cfg.Log.Warn("container's log", "pod", c.pod.name(), "container", c.spec.Name, "error", err)
	}
	c.update(func() {
		c.proc = nil
		reason := "Completed"
		if exit.Code != 0 {
			reason = "Error"
		}
		c.terminated(exit.Code, reason, "", began)
		c.state.Terminated.Signal = int32(exit.Signal)
	})
	return exit.Code
}

func (c *container) terminated(code int, reason, message string, began time.Time) {
	c.ready, c.started = false, false
	c.state = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
		ExitCode: int32(code), Reason: reason, Message: message,
		StartedAt: metav1.NewTime(began), FinishedAt: metav1.Now(),
	}}
}

// startProcess gives no process where the container is to end.
func (c *container) startProcess() (*sandbox.Process, io.Closer, error) {
	spec, err := c.sandboxSpec()
	if err != nil {
		return nil, nil, err
	}
	log, err := os.OpenFile(c.pod.k.LogFile(c.pod.spec, c.spec.Name), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("log: %w", err)
	}
	spec.Stdout, spec.Stderr = log, log
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.more.Err() != nil {
		return nil, nil, log.Close()
	}
	proc, err := c.pod.k.cfg.Sandbox.Start(spec)
	if err != nil {
		return nil, nil, fmt.Errorf("%w", closeAfter(log, err))
	}
	c.proc = proc
	return proc, log, nil
}

func closeAfter(f io.Closer, err error) error {
	if cerr := f.Close(); cerr != nil {
		return fmt.Errorf("%w; and its log: %w", err, cerr)
	}
	return err
}

// stop ends the container for good: preStop, SIGTERM, and SIGKILL when ctx is done.
func (c *container) stop(ctx context.Context) {
	c.cancel()
	c.mu.Lock()
	launched := c.launched
	c.mu.Unlock()
	if !launched {
		return
	}
	if proc := c.process(); proc != nil {
		c.terminate(ctx, proc)
	}
	<-c.ended
}

// terminate ends one process.
func (c *container) terminate(ctx context.Context, proc *sandbox.Process) {
	if l := c.spec.Lifecycle; l != nil && l.PreStop != nil && !c.pod.k.closing() {
		c.preStop(ctx, proc, l.PreStop)
	}
	if err := proc.Signal(syscall.SIGTERM); err != nil {
		c.pod.k.cfg.Log.Debug("SIGTERM", "pod", c.pod.name(), "container", c.spec.Name, "error", err)
	}
	select {
	case <-proc.Done():
		return
	case <-ctx.Done():
	}
	if err := proc.Kill(); err != nil {
		c.pod.k.cfg.Log.Warn("SIGKILL", "pod", c.pod.name(), "container", c.spec.Name, "error", err)
	}
	<-proc.Done()
}

// preStop runs the hook, for as long as the process does.
func (c *container) preStop(ctx context.Context, proc *sandbox.Process, h *corev1.LifecycleHandler) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-proc.Done():
			cancel()
		case <-ctx.Done():
		}
	}()
	if err := c.hook(ctx, proc, h); err != nil {
		c.pod.k.cfg.Log.Warn("preStop", "pod", c.pod.name(), "container", c.spec.Name, "error", err)
	}
}

// process is the running process, nil if there is none.
func (c *container) process() *sandbox.Process {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.proc
}

// exitCode of the container's last run; ok is false while it has none.
func (c *container) exitCode() (code int, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state.Terminated == nil {
		return 0, false
	}
	return int(c.state.Terminated.ExitCode), true
}

// lastWords say why the container could not be started, "" if it could.
func (c *container) lastWords() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return reasonOf(c.state)
}

// update changes the container's state and tells the store.
func (c *container) update(f func()) {
	c.mu.Lock()
	f()
	c.mu.Unlock()
	c.pod.publish()
}
