package lab

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/meshd-io/meshd/pkg/console"
	"github.com/meshd-io/meshd/pkg/gateway"
	"github.com/meshd-io/meshd/pkg/lab/control"
	"github.com/meshd-io/meshd/pkg/lab/kubelet"
	"github.com/meshd-io/meshd/pkg/lab/store"
)

// Status is what `meshd lab status -o json` prints. Lists are sorted and never null.
type Status struct {
	Pods     []PodStatus     `json:"pods"`
	Gateways []GatewayStatus `json:"gateways"`
	Objects  []ObjectStatus  `json:"objects"`
	Proxies  []console.Proxy `json:"proxies"`
}

// PodStatus is one pod.
type PodStatus struct {
	Namespace  string            `json:"namespace"`
	Name       string            `json:"name"`
	Owner      string            `json:"owner"` // deploy/accounts; "" for a pod of its own
	Address    string            `json:"address"`
	Addresses  []string          `json:"addresses"` // IPv4, then IPv6
	Phase      string            `json:"phase"`
	Ready      bool              `json:"ready"`
	Message    string            `json:"message,omitempty"` // what keeps it from being ready
	Containers []ContainerStatus `json:"containers"`
}

// ContainerStatus is one container, init containers first.
type ContainerStatus struct {
	Name     string `json:"name"`
	Sidecar  bool   `json:"sidecar"`
	State    string `json:"state"` // waiting, running or terminated
	Reason   string `json:"reason,omitempty"`
	ExitCode *int32 `json:"exitCode,omitempty"` // of the last run that ended
	Ready    bool   `json:"ready"`
	Restarts int32  `json:"restarts"`
}

// GatewayStatus is where a gateway is reached.
type GatewayStatus struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Address   string `json:"address"`
	Ports     []int  `json:"ports"`
}

// ObjectStatus is an object with the status that meshd gives it.
type ObjectStatus struct {
	Kind      string          `json:"kind"`
	Namespace string          `json:"namespace"`
	Name      string          `json:"name"`
	Status    json.RawMessage `json:"status"`
}

func (d *daemon) handleStatus(w http.ResponseWriter, r *http.Request) {
	reply(w, d.status(r.Context()))
}

func (d *daemon) status(ctx context.Context) Status {
	view, _ := d.store.View()
	s := statusOf(view)
	if d.meshd == nil {
		return s
	}
	state, err := d.meshd.State(ctx, 0)
	if err != nil {
		// A meshd that is away is seen by its pod.
		d.log.Debug("status without meshd", "error", err)
		return s
	}
	for _, o := range state.Objects {
		s.Objects = append(s.Objects, ObjectStatus{Kind: o.Kind, Namespace: o.Namespace, Name: o.Name, Status: o.Status})
	}
	s.Proxies = append(s.Proxies, state.Proxies...)
	return s
}

// statusOf is what the lab itself knows.
func statusOf(view store.View) Status {
	s := Status{Pods: []PodStatus{}, Gateways: []GatewayStatus{}, Objects: []ObjectStatus{}, Proxies: []console.Proxy{}}
	for _, p := range store.List[*corev1.Pod](view) {
		s.Pods = append(s.Pods, podStatus(p))
	}
	for _, dep := range store.List[*appsv1.Deployment](view) {
		if dep.Spec.Template.Labels[gateway.Label] == "" {
			continue
		}
		g := GatewayStatus{Namespace: dep.Namespace, Name: dep.Name, Ports: []int{80, 443}}
		if p, err := choosePod(store.List[*corev1.Pod](view), dep.Namespace, "deploy/"+dep.Name); err == nil {
			g.Address = p.Status.PodIP
		}
		s.Gateways = append(s.Gateways, g)
	}
	return s
}

func podStatus(p *corev1.Pod) PodStatus {
	s := PodStatus{
		Namespace: p.Namespace, Name: p.Name, Owner: control.Owner(p), Address: p.Status.PodIP, Addresses: []string{},
		Phase: string(cmp.Or(p.Status.Phase, corev1.PodPending)), Ready: control.Ready(p), Containers: []ContainerStatus{},
	}
	if p.DeletionTimestamp != nil {
		s.Phase = "Terminating"
	}
	if !s.Ready && p.Status.Phase != corev1.PodSucceeded {
		s.Message = kubelet.Waiting(p)
	}
	for _, ip := range p.Status.PodIPs {
		s.Addresses = append(s.Addresses, ip.IP)
	}
	sidecar := map[string]bool{}
	for _, c := range p.Spec.InitContainers {
		sidecar[c.Name] = c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
	}
	for _, c := range p.Status.InitContainerStatuses {
		s.Containers = append(s.Containers, containerStatus(c, sidecar[c.Name]))
	}
	for _, c := range p.Status.ContainerStatuses {
		s.Containers = append(s.Containers, containerStatus(c, false))
	}
	return s
}

func containerStatus(c corev1.ContainerStatus, sidecar bool) ContainerStatus {
	s := ContainerStatus{Name: c.Name, Sidecar: sidecar, Ready: c.Ready, Restarts: c.RestartCount}
	if t := c.LastTerminationState.Terminated; t != nil {
		s.ExitCode = &t.ExitCode
	}
	switch {
	case c.State.Running != nil:
		s.State = "running"
	case c.State.Terminated != nil:
		s.State, s.Reason, s.ExitCode = "terminated", c.State.Terminated.Reason, &c.State.Terminated.ExitCode
	case c.State.Waiting != nil:
		s.State, s.Reason = "waiting", c.State.Waiting.Reason
	}
	return s
}
