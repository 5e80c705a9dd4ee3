package kubelet

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshd-io/meshd/pkg/lab/network"
)

// publish writes the pod's status into the store.
func (p *pod) publish() {
	p.k.cfg.Store.UpdatePod(p.spec.Namespace, p.spec.Name, p.spec.UID, func(o *corev1.Pod) {
		facts := p.facts()
		p.k.fillAddresses(o, facts.network)
		fillStatus(o, facts)
	})
}

// facts are what the kubelet knows about a pod.
type facts struct {
	network     *network.Namespace
	waiting     string
	failed      string
	over        bool
	inits       []corev1.ContainerStatus
	mains       []corev1.ContainerStatus
	initialised bool
	now         time.Time
}

func (p *pod) facts() facts {
	p.mu.Lock()
	f := facts{network: p.ns, waiting: p.waiting, failed: p.failed, over: p.over, now: time.Now(), initialised: true}
	p.mu.Unlock()
	for _, c := range p.inits {
		s := c.status()
		f.inits = append(f.inits, s)
		done := s.State.Terminated != nil && s.State.Terminated.ExitCode == 0
		if c.sidecar {
			done = *s.Started || f.over
		}
		f.initialised = f.initialised && done
	}
	for _, c := range p.mains {
		f.mains = append(f.mains, c.status())
	}
	return f
}

func (c *container) status() corev1.ContainerStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	started := c.started
	ready := c.ready
	if c.init && !c.sidecar {
		ready = c.state.Terminated != nil && c.state.Terminated.ExitCode == 0
	}
	return corev1.ContainerStatus{
		Name: c.spec.Name, Image: c.spec.Image, State: c.state, LastTerminationState: c.last,
		Ready: ready, Started: &started, RestartCount: c.restarts,
	}
}

// fillStatus is the pod's status by the facts.
func fillStatus(o *corev1.Pod, f facts) {
	s := &o.Status
	if s.StartTime == nil {
		t := metav1.NewTime(f.now.UTC().Truncate(time.Second))
		s.StartTime = &t
	}
	s.InitContainerStatuses, s.ContainerStatuses = f.inits, f.mains
	s.Phase = phase(f)
	s.Message, s.Reason = f.failed, ""
	if f.waiting != "" {
		s.Message, s.Reason = f.waiting, "Waiting"
	}
	ready := s.Phase == corev1.PodRunning && f.initialised && !f.over
	for _, c := range f.mains {
		ready = ready && c.Ready
	}
	for i, c := range f.inits {
		if sidecar(o.Spec.InitContainers[i]) {
			ready = ready && c.Ready
		}
	}
	setCondition(s, corev1.PodScheduled, true, f.now)
	setCondition(s, corev1.PodInitialized, f.initialised, f.now)
	setCondition(s, corev1.ContainersReady, ready, f.now)
	setCondition(s, corev1.PodReady, ready, f.now)
}

func sidecar(c corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

func phase(f facts) corev1.PodPhase {
	ended, launched := true, false
	for _, c := range f.mains {
		ended = ended && c.State.Terminated != nil
		launched = launched || c.State.Running != nil || c.State.Terminated != nil || c.RestartCount > 0
	}
	switch {
	case f.failed != "":
		return corev1.PodFailed
	case f.over && ended:
		return corev1.PodSucceeded
	case launched:
		return corev1.PodRunning
	}
	return corev1.PodPending
}

func setCondition(s *corev1.PodStatus, t corev1.PodConditionType, is bool, now time.Time) {
	want := corev1.ConditionFalse
	if is {
		want = corev1.ConditionTrue
	}
	i := slices.IndexFunc(s.Conditions, func(c corev1.PodCondition) bool { return c.Type == t })
	if i < 0 {
		s.Conditions = append(s.Conditions, corev1.PodCondition{Type: t})
		i = len(s.Conditions) - 1
	}
	if s.Conditions[i].Status != want {
		s.Conditions[i].Status = want
		s.Conditions[i].LastTransitionTime = metav1.NewTime(now.UTC().Truncate(time.Second))
	}
}

// fillAddresses writes what only the network knows.
func (k *Kubelet) fillAddresses(o *corev1.Pod, ns *network.Namespace) {
	o.Spec.NodeName = k.cfg.NodeName
	o.Status.HostIP, o.Status.HostIPs = "", nil
	for _, a := range k.cfg.NodeAddresses {
		o.Status.HostIPs = append(o.Status.HostIPs, corev1.HostIP{IP: a.String()})
	}
	if len(o.Status.HostIPs) > 0 {
		o.Status.HostIP = o.Status.HostIPs[0].IP
	}
	if ns == nil {
		return
	}
	o.Status.PodIP, o.Status.PodIPs = "", nil
	for _, a := range ns.Addrs {
		o.Status.PodIPs = append(o.Status.PodIPs, corev1.PodIP{IP: a.String()})
	}
	if len(ns.Addrs) > 0 {
		o.Status.PodIP = ns.Addrs[0].String()
	}
}

// Waiting says in a few words what keeps a pod from being ready, "" if nothing is known.
func Waiting(o *corev1.Pod) string {
	if o.Status.Message != "" {
		return o.Status.Message
	}
	sidecarsAndInits := slices.Clone(o.Status.InitContainerStatuses)
	for _, c := range append(sidecarsAndInits, o.Status.ContainerStatuses...) {
		switch {
		case c.State.Waiting != nil && c.State.Waiting.Reason != "PodInitializing":
			return "container " + c.Name + ": " + strings.TrimSpace(c.State.Waiting.Reason+" "+c.State.Waiting.Message)
		case c.State.Running != nil && !c.Ready:
			return "container " + c.Name + " is not ready"
		}
	}
	return ""
}
