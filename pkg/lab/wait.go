package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshd-io/meshd/pkg/console"
	"github.com/meshd-io/meshd/pkg/gateway"
	"github.com/meshd-io/meshd/pkg/lab/control"
	"github.com/meshd-io/meshd/pkg/lab/kubelet"
	"github.com/meshd-io/meshd/pkg/lab/store"
	"github.com/meshd-io/meshd/pkg/report"
)

// settleWait is how long meshd is waited for before the pods are looked at again.
const settleWait = 5 * time.Second

// await waits until what was applied is in force or refused, and its pods are
// ready; what is not when ctx ends is in Pending.
func (d *daemon) await(ctx context.Context, out *Outcome) {
	for {
		view, changed := d.store.View()
		out.Pending = pendingPods(view, out.Objects)
		if len(out.Pending) == 0 {
			if d.awaitMesh(ctx, out) {
				return
			}
			changed = closedAfter(ctx, 50*time.Millisecond)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// closedAfter is a channel that is closed after a time, or when ctx is done.
func closedAfter(ctx context.Context, t time.Duration) <-chan struct{} {
	ctx, cancel := context.WithTimeout(ctx, t)
	context.AfterFunc(ctx, cancel)
	return ctx.Done()
}

// awaitMesh asks meshd, when it has settled, about the objects. It reports
// whether there is nothing more to wait for.
func (d *daemon) awaitMesh(ctx context.Context, out *Outcome) bool {
	if d.meshd == nil {
		return true
	}
	// What meshd is asked about must be in its files.
	d.reconcile()
	wait := settleWait
	if until, ok := ctx.Deadline(); ok {
		wait = min(wait, time.Until(until))
	}
	if wait <= 0 {
		return false
	}
	state, err := d.meshd.State(ctx, wait)
	if err != nil {
		out.Pending = []string{err.Error()}
		return false
	}
	view, _ := d.store.View()
	pending, refused := judge(view, out.Objects, state)
	if len(pending) == 0 && !state.Synced {
		pending = unsynced(state)
	}
	out.Pending = pending
	if len(pending) > 0 {
		return false
	}
	out.Refused = append(out.Refused, refused...)
	out.Objects = slices.DeleteFunc(out.Objects, func(o report.Object) bool {
		return slices.ContainsFunc(refused, func(f report.Finding) bool { return f.Object == o })
	})
	return true
}

func unsynced(s console.State) []string {
	for _, p := range s.Proxies {
		if !p.Synced {
			return []string{fmt.Sprintf("proxy %s has not acknowledged everything", p.Name)}
		}
	}
	return nil
}

// compiled are the kinds that meshd gives a status.
func compiled(kind string) bool {
	switch kind {
	case "MeshConfig", "CertificateAuthority", "PeerAuthentication", "RequestAuthentication",
		"AuthorizationPolicy", "TrafficPolicy", "Workload", "Ingress":
		return true
	}
	return false
}

// judge says which of the applied objects are still to be waited for, by
// meshd's state, and which it refused.
func judge(view store.View, applied []report.Object, s console.State) (pending []string, refused []report.Finding) {
	for _, k := range applied {
		o, ok := view[k]
		if !ok || !compiled(k.Kind) {
			continue
		}
		i := slices.IndexFunc(s.Objects, func(x console.Object) bool {
			return x.Kind == k.Kind && x.Namespace == k.Namespace && x.Name == k.Name
		})
		if i < 0 || s.Objects[i].Generation < o.GetGeneration() {
			pending = append(pending, k.String()+": meshd has not read it yet")
			continue
		}
		p, r := judgeOne(k, s.Objects[i])
		pending, refused = append(pending, p...), append(refused, r...)
	}
	return pending, refused
}

func judgeOne(k report.Object, o console.Object) (pending []string, refused []report.Finding) {
	var status struct {
		Conditions []metav1.Condition `json:"conditions"`
	}
	if err := json.Unmarshal(o.Status, &status); err != nil {
		return []string{k.String() + ": its status cannot be read: " + err.Error()}, nil
	}
	for _, c := range status.Conditions {
		if c.Status != metav1.ConditionFalse {
			continue
		}
		switch {
		case c.Type == string(report.Accepted), c.Type == string(report.ResolvedRefs) && k.Kind != "Ingress",
			c.Type == string(report.Programmed) && c.Reason == string(report.Rejected):
			refused = append(refused, report.Finding{
				Object: k, Generation: o.Generation, Condition: report.Condition(c.Type), Reason: report.Reason(c.Reason), Message: c.Message,
			})
		case c.Type == string(report.Programmed):
			pending = append(pending, fmt.Sprintf("%s: %s", k, c.Message))
		}
	}
	if len(refused) > 0 {
		return nil, refused[:1]
	}
	return pending, nil
}

// pendingPods says which of the applied objects' pods are not ready, and why.
// An Ingress waits for its gateway, and everything for meshd.
func pendingPods(view store.View, applied []report.Object) []string {
	owners := slices.Clone(applied)
	if slices.ContainsFunc(applied, func(o report.Object) bool { return compiled(o.Kind) }) {
		owners = append(owners,
			report.Object{Kind: "Pod", Namespace: systemNamespace, Name: meshdPod},
			report.Object{Kind: "Deployment", Namespace: systemNamespace, Name: gateway.IngressName})
	}
	var out []string
	for _, k := range owners {
		if why := pendingPod(view, k); why != "" {
			out = append(out, k.String()+": "+why)
		}
	}
	return out
}

func pendingPod(view store.View, k report.Object) string {
	switch o := view[k].(type) {
	case *corev1.Pod:
		if control.Ready(o) || o.Status.Phase == corev1.PodSucceeded {
			return ""
		}
		return explainPod(o)
	case *appsv1.Deployment:
		return short(control.Rollout(o, owned(view, o)))
	case *appsv1.StatefulSet:
		return short(control.OrderedRollout(o, owned(view, o)))
	case *appsv1.DaemonSet:
		return short(control.DaemonRollout(o, owned(view, o)))
	case *batchv1.Job:
		if over, well := control.Finished(o); over && well {
			return ""
		} else if over {
			return "it failed"
		}
		for _, p := range owned(view, o) {
			if control.Ready(p) {
				return ""
			}
		}
		return short(control.Progress{Want: 1, Pods: owned(view, o)})
	}
	return ""
}

func owned(view store.View, o store.Object) []*corev1.Pod {
	var out []*corev1.Pod
	for _, p := range store.List[*corev1.Pod](view) {
		if metav1.IsControlledBy(p, o) {
			out = append(out, p)
		}
	}
	return out
}

// short puts a rollout's progress into words; "" is done.
func short(p control.Progress) string {
	if p.Done() {
		return ""
	}
	text := fmt.Sprintf("%d of %d pods ready", p.Ready, p.Want)
	if p.Old > 0 {
		text += fmt.Sprintf(", %d old ones are left", p.Old)
	}
	for _, pod := range p.Pods {
		if !control.Ready(pod) && pod.DeletionTimestamp == nil {
			return text + "; " + pod.Name + " " + explainPod(pod)
		}
	}
	return text
}

func explainPod(p *corev1.Pod) string {
	if why := kubelet.Waiting(p); why != "" {
		return "is " + string(p.Status.Phase) + ": " + why
	}
	return "is " + string(p.Status.Phase)
}

// awaitGone waits until the pods of what was deleted have ended.
func (d *daemon) awaitGone(ctx context.Context, out *Outcome) {
	for {
		view, changed := d.store.View()
		out.Pending = nil
		for _, p := range store.List[*corev1.Pod](view) {
			if p.DeletionTimestamp != nil {
				out.Pending = append(out.Pending, "Pod "+p.Namespace+"/"+p.Name+" has not ended")
			}
		}
		if len(out.Pending) == 0 {
			break
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
	if d.meshd == nil {
		return
	}
	d.reconcile()
	if _, err := d.meshd.State(ctx, settleWait); err != nil {
		out.Pending = append(out.Pending, err.Error())
	}
}
