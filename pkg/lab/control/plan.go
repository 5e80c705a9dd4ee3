package control

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/rand"

	"github.com/meshd-io/meshd/pkg/lab/store"
	"github.com/meshd-io/meshd/pkg/report"
)

// Actions are the next steps.
type Actions struct {
	// Create are pods as their owner's template has them, not yet injected.
	Create []*corev1.Pod
	// Delete are pods to end.
	Delete []*corev1.Pod
	// Put are objects that the controllers own.
	Put []store.Object
	// Remove are objects that the controllers own.
	Remove []report.Object
}

func (a *Actions) add(b Actions) {
	a.Create = append(a.Create, b.Create...)
	a.Delete = append(a.Delete, b.Delete...)
	a.Put = append(a.Put, b.Put...)
	a.Remove = append(a.Remove, b.Remove...)
}

// Suffix gives the random part of a pod's name.
type Suffix func() string

// Plan runs every controller once.
func Plan(v store.View, suffix Suffix) Actions {
	pods := podsByOwner(v)
	var a Actions
	a.add(deployments(v, pods, suffix))
	a.add(statefulSets(v, pods))
	a.add(daemonSets(v, pods, suffix))
	a.add(jobs(v, pods, suffix))
	a.add(orphans(v))
	a.add(endpointSlices(v))
	return a
}

// podsByOwner are the pods of each controller, oldest name first.
func podsByOwner(v store.View) map[types.UID][]*corev1.Pod {
	out := map[types.UID][]*corev1.Pod{}
	for _, p := range store.List[*corev1.Pod](v) {
		if o := metav1.GetControllerOf(p); o != nil {
			out[o.UID] = append(out[o.UID], p)
		}
	}
	return out
}

// orphans are pods whose owner is gone.
func orphans(v store.View) Actions {
	alive := map[types.UID]bool{}
	for _, o := range v {
		alive[o.GetUID()] = true
	}
	var a Actions
	for _, p := range store.List[*corev1.Pod](v) {
		if o := metav1.GetControllerOf(p); o != nil && !alive[o.UID] && p.DeletionTimestamp == nil {
			a.Delete = append(a.Delete, p)
		}
	}
	return a
}

// newPod makes a pod of an owner's template.
func newPod(owner store.Object, template corev1.PodTemplateSpec, name string, extra map[string]string) *corev1.Pod {
	gvk := owner.GetObjectKind().GroupVersionKind()
	p := &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: *template.ObjectMeta.DeepCopy(),
		Spec:       *template.Spec.DeepCopy(),
		Status:     corev1.PodStatus{Phase: corev1.PodPending},
	}
	p.Namespace, p.Name = owner.GetNamespace(), name
	p.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(owner, gvk)}
	if p.Labels == nil {
		p.Labels = map[string]string{}
	}
	for k, v := range extra {
		p.Labels[k] = v
	}
	return p
}

// templateHash changes with the template, and with nothing else.
func templateHash(t corev1.PodTemplateSpec) string {
	raw, err := json.Marshal(t)
	if err != nil {
		return ""
	}
	h := fnv.New32a()
	h.Write(raw)
	return rand.SafeEncodeString(fmt.Sprint(h.Sum32()))
}

// Ready reports whether a pod is ready and not about to end.
func Ready(p *corev1.Pod) bool {
	return p.DeletionTimestamp == nil && conditionTrue(p, corev1.PodReady)
}

func conditionTrue(p *corev1.Pod, t corev1.PodConditionType) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == t && c.Status == corev1.ConditionTrue
	})
}

// Ended reports whether all containers of a pod have ended for good.
func Ended(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

// Owner is how a pod's controller is shown: deploy/accounts, job/seed, "" for a bare pod.
func Owner(p *corev1.Pod) string {
	o := metav1.GetControllerOf(p)
	if o == nil {
		return ""
	}
	short := map[string]string{"Deployment": "deploy", "StatefulSet": "sts", "DaemonSet": "ds", "Job": "job"}[o.Kind]
	if short == "" {
		short = strings.ToLower(o.Kind)
	}
	return short + "/" + o.Name
}
