package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
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
			d.lastWord(context.WithoutCancel(ctx), out)
			return
		}
	}
}

// lastWordWait is how long meshd may take to answer when the waiting is over.
const lastWordWait = 2 * time.Second

// lastWord adds what meshd says of the objects although pods are still waited
// for: what it refuses is to be told all the same.
func (d *daemon) lastWord(ctx context.Context, out *Outcome) {
	if d.meshd == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, lastWordWait)
	defer cancel()
	state, err := d.meshd.State(ctx, 0)
	if err != nil {
		return // meshd's own pod is among those that are waited for
	}
	view, _ := d.store.View()
	v := judge(view, out.Objects, state)
	for _, p := range v.pending {
		if !slices.Contains(out.Pending, p) {
			out.Pending = append(out.Pending, p)
		}
	}
	out.take(v)
}

// take moves what meshd refuses from the objects to the refusals.
func (o *Outcome) take(v verdict) {
	o.Refused = append(o.Refused, v.refused...)
	o.Notes = append(o.Notes, v.notes...)
	o.Objects = slices.DeleteFunc(o.Objects, func(k report.Object) bool {
		return slices.ContainsFunc(v.refused, func(f report.Finding) bool { return f.Object == k })
	})
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
	v := judge(view, out.Objects, state)
	out.Pending = v.pending
	if len(v.pending) > 0 {
		return false
	}
	out.take(v)
	out.Notes = append(out.Notes, unsynced(state)...)
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
		"AuthorizationPolicy", "TrafficPolicy", "Workload", "Ingress", "HTTPRoute":
		return true
	}
	return false
}

// verdict is what meshd's state says about objects.
type verdict struct {
	pending []string
	refused []report.Finding
	notes   []string
}

// judge says which of the applied objects are still to be waited for, by
// meshd's state, and which it refused.
func judge(view store.View, applied []report.Object, s console.State) verdict {
	var v verdict
	for _, k := range applied {
		o, ok := view[k]
		if !ok || !compiled(k.Kind) {
			continue
		}
		i := slices.IndexFunc(s.Objects, func(x console.Object) bool {
			return x.Kind == k.Kind && x.Namespace == k.Namespace && x.Name == k.Name
		})
		if i < 0 || s.Objects[i].Generation < o.GetGeneration() {
			v.pending = append(v.pending, k.String()+": meshd has not read it yet")
			continue
		}
		v.add(k, s.Objects[i], s.Findings)
	}
	return v
}

func (v *verdict) add(k report.Object, o console.Object, findings []report.Finding) {
	var status struct {
		Conditions []metav1.Condition `json:"conditions"`
	}
	if err := json.Unmarshal(o.Status, &status); err != nil {
		v.pending = append(v.pending, k.String()+": its status cannot be read: "+err.Error())
		return
	}
	is := map[report.Condition]metav1.Condition{}
	for _, c := range status.Conditions {
		is[report.Condition(c.Type)] = c
	}
	if c := is[report.Accepted]; c.Status == metav1.ConditionFalse {
		v.refused = append(v.refused, refusalOf(k, c, findings))
		return
	}
	for _, typ := range []report.Condition{report.Accepted, report.ResolvedRefs} {
		// A condition with a message says what is not as the user may think, true or not.
		if c := is[typ]; c.Message != "" {
			v.notes = append(v.notes, k.String()+": "+c.Message)
		}
	}
	switch c := is[report.Programmed]; {
	case c.Status == metav1.ConditionTrue:
	case c.Reason == string(report.Rejected):
		v.refused = append(v.refused, refusalOf(k, c, findings))
	default:
		v.pending = append(v.pending, strings.TrimSuffix(k.String()+": "+c.Message, ": "))
	}
}

// refusalOf is the finding behind a condition: it knows the field, too.
func refusalOf(k report.Object, c metav1.Condition, findings []report.Finding) report.Finding {
	for _, f := range findings {
		if f.Object == k && string(f.Condition) == c.Type && string(f.Reason) == c.Reason {
			f.File, f.Line = "", 0 // of the lab's own files
			return f
		}
	}
	return report.Finding{
		Object: k, Generation: c.ObservedGeneration, Condition: report.Condition(c.Type), Reason: report.Reason(c.Reason), Message: c.Message,
	}
}

// pendingPods says which of the applied objects' pods are not ready, and why.
// In a mesh everything waits for meshd, and for the gateway where there is one.
func pendingPods(view store.View, applied []report.Object) []string {
	own := []report.Object{
		{Kind: "Pod", Namespace: systemNamespace, Name: meshdPod},
		{Kind: "Deployment", Namespace: systemNamespace, Name: gateway.IngressName},
	}
	var out []string
	for _, k := range append(own, applied...) {
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
