package kubelet

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/meshd-io/meshd/pkg/lab/network"
	"github.com/meshd-io/meshd/pkg/lab/store"
)

const (
	defaultGrace = 30 * time.Second
	// retryTime is how soon something that failed for another reason than a missing object is tried again.
	retryTime = time.Second
)

// pod is one running pod.
type pod struct {
	k    *Kubelet
	spec *corev1.Pod // as it was created
	dir  string

	inits, mains []*container // inits has the native sidecars too, in order

	life   context.Context // done when the pod is to end
	end    context.CancelFunc
	change chan struct{} // there may be something new in the store

	mu      sync.Mutex
	ns      *network.Namespace
	waiting string // why no container is started yet
	failed  string // why the pod failed, "" if it did not
	over    bool   // its containers have ended for good
	volumes map[string]*volume
}

func newPod(k *Kubelet, o *corev1.Pod) *pod {
	p := &pod{
		k: k, spec: o, dir: filepath.Join(k.cfg.Dir, string(o.UID)),
		change: make(chan struct{}, 1), volumes: map[string]*volume{},
	}
	p.life, p.end = context.WithCancel(context.Background())
	for _, c := range o.Spec.InitContainers {
		p.inits = append(p.inits, newContainer(p, c, true))
	}
	for _, c := range o.Spec.Containers {
		p.mains = append(p.mains, newContainer(p, c, false))
	}
	return p
}

// notify wakes the pod to look at the store again.
func (p *pod) notify() {
	select {
	case p.change <- struct{}{}:
	default:
	}
}

func (p *pod) containers() []*container { return append(slices.Clone(p.inits), p.mains...) }

func (p *pod) find(name string) *container {
	if name == "" {
		name = DefaultContainer(p.spec)
	}
	for _, c := range p.containers() {
		if c.spec.Name == name {
			return c
		}
	}
	return nil
}

// run is the life of a pod, from its first volume to its last trace.
func (p *pod) run() {
	defer p.end()
	refreshed := make(chan struct{})
	close(refreshed)
	if p.setUp() {
		refreshed = p.keepVolumes()
		if p.initialise() {
			p.runMains()
		}
	}
	if p.life.Err() != nil && p.k.cfg.Drain != nil {
		ctx, cancel := context.WithTimeout(context.Background(), drainTime)
		p.k.cfg.Drain(ctx, p.spec)
		cancel()
	}
	p.stopAll()
	p.mu.Lock()
	p.over = true
	ns := p.ns
	p.mu.Unlock()
	p.publish()
	if ns != nil {
		if err := p.k.cfg.Network.Remove(ns); err != nil {
			p.k.cfg.Log.Warn("pod's network left behind", "pod", p.name(), "error", err)
		}
	}
	// A pod that has ended stays to be looked at until someone deletes it.
	<-p.life.Done()
	<-refreshed
	removeAll(p.dir, p.k.cfg.Log)
	p.k.cfg.Store.RemovePod(p.spec.Namespace, p.spec.Name, p.spec.UID)
}

func (p *pod) name() string { return p.spec.Namespace + "/" + p.spec.Name }

// setUp makes network and volumes. What is missing (a ConfigMap, say) is waited for.
// It reports false when the pod is to end before that.
func (p *pod) setUp() bool {
	for {
		err := p.trySetUp()
		p.mu.Lock()
		p.waiting = ""
		if err != nil {
			p.waiting = err.Error()
		}
		p.mu.Unlock()
		p.publish()
		if err == nil {
			return true
		}
		select {
		case <-p.life.Done():
			return false
		case <-p.change:
		case <-time.After(retryTime):
		}
	}
}

func (p *pod) trySetUp() error {
	v, _ := p.k.cfg.Store.View()
	sa := serviceAccount(p.spec)
	if _, ok := store.Get[*corev1.ServiceAccount](v, "ServiceAccount", p.spec.Namespace, sa); !ok {
		return fmt.Errorf("ServiceAccount %s/%s does not exist", p.spec.Namespace, sa)
	}
	if err := p.addNetwork(); err != nil {
		return err
	}
	for _, d := range []string{p.dir, p.k.podLogs(p.spec)} {
		if err := os.MkdirAll(d, 0o711); err != nil {
			return fmt.Errorf("pod's folder: %w", err)
		}
	}
	if err := p.writeEtc(); err != nil {
		return err
	}
	return p.makeVolumes(v)
}

func (p *pod) addNetwork() error {
	if p.ns != nil {
		return nil
	}
	sysctls := map[string]string{}
	if s := p.spec.Spec.SecurityContext; s != nil {
		for _, c := range s.Sysctls {
			sysctls[c.Name] = c.Value
		}
	}
	ns, err := p.attach(sysctls)
	if err != nil {
		return fmt.Errorf("network: %w", err)
	}
	p.mu.Lock()
	p.ns = ns
	p.mu.Unlock()
	return nil
}

// attach gives the pod an address of the lab, or the ones that its annotation says.
func (p *pod) attach(sysctls map[string]string) (*network.Namespace, error) {
	given := p.spec.Annotations[store.ExternalAddresses]
	if given == "" {
		return p.k.cfg.Network.AddPod(p.name(), sysctls)
	}
	var addrs []netip.Addr
	for _, text := range strings.Split(given, ",") {
		a, err := netip.ParseAddr(strings.TrimSpace(text))
		if err != nil {
			return nil, fmt.Errorf("annotation %s: %w", store.ExternalAddresses, err)
		}
		addrs = append(addrs, a)
	}
	return p.k.cfg.Network.AddExternal(p.name(), addrs)
}

// initialise runs the init containers one by one; each must end well, or, for
// a native sidecar, have started, before the next one is looked at.
func (p *pod) initialise() bool {
	for _, c := range p.inits {
		c.launch()
		if c.sidecar {
			select {
			case <-c.up:
			case <-p.life.Done():
				return false
			}
			continue
		}
		select {
		case <-c.ended:
		case <-p.life.Done():
			return false
		}
		if code, ok := c.exitCode(); !ok || code != 0 {
			p.mu.Lock()
			p.failed = fmt.Sprintf("init container %s ended with exit code %d%s", c.spec.Name, code, c.lastWords())
			p.mu.Unlock()
			return false
		}
	}
	return true
}

// runMains starts the containers and waits until all have ended for good, or
// the pod is to end.
func (p *pod) runMains() {
	for _, c := range p.mains {
		c.launch()
	}
	for _, c := range p.mains {
		select {
		case <-c.ended:
		case <-p.life.Done():
			return
		}
	}
	for _, c := range p.mains {
		if code, _ := c.exitCode(); code != 0 {
			p.mu.Lock()
			p.failed = fmt.Sprintf("container %s ended with exit code %d%s", c.spec.Name, code, c.lastWords())
			p.mu.Unlock()
		}
	}
}

func (p *pod) grace() time.Duration {
	if s := p.spec.Spec.TerminationGracePeriodSeconds; s != nil {
		return time.Duration(*s) * time.Second
	}
	return defaultGrace
}

// stopAll ends what runs: containers and init containers side by side, then the
// native sidecars from the last to the first, all within the grace period.
func (p *pod) stopAll() {
	ctx, cancel := context.WithTimeout(p.k.patience, p.grace())
	defer cancel()
	var wg sync.WaitGroup
	for _, c := range p.containers() {
		if !c.sidecar {
			wg.Go(func() { c.stop(ctx) })
		}
	}
	wg.Wait()
	for _, c := range slices.Backward(p.inits) {
		if c.sidecar {
			c.stop(ctx)
		}
	}
}

// current is the pod as the store has it, with what the kubelet knows about
// its addresses.
func (p *pod) current() *corev1.Pod {
	c := p.spec.DeepCopy()
	p.k.fillAddresses(c, p.namespace())
	return c
}

func (p *pod) namespace() *network.Namespace {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ns
}
