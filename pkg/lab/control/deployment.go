package control

import (
	"cmp"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meshd-io/meshd/pkg/lab/store"
)

const hashLabel = appsv1.DefaultDeploymentUniqueLabelKey

func deployments(v store.View, pods map[types.UID][]*corev1.Pod, suffix Suffix) Actions {
	var a Actions
	for _, d := range store.List[*appsv1.Deployment](v) {
		hash := templateHash(d.Spec.Template)
		create, remove := rollout(d, hash, pods[d.UID])
		a.Delete = append(a.Delete, remove...)
		for range create {
			p := newPod(d, d.Spec.Template, d.Name+"-"+hash+"-"+suffix(), map[string]string{hashLabel: hash})
			a.Create = append(a.Create, p)
		}
	}
	return a
}

// rollout says how many pods of the present template to start and which pods to end next.
func rollout(d *appsv1.Deployment, hash string, pods []*corev1.Pod) (create int, remove []*corev1.Pod) {
	desired := replicas(d.Spec.Replicas)
	var fresh, old []*corev1.Pod
	terminatingOld := 0
	for _, p := range pods {
		switch {
		case p.DeletionTimestamp != nil && p.Labels[hashLabel] != hash:
			terminatingOld++
		case p.DeletionTimestamp != nil:
		case Ended(p):
			remove = append(remove, p)
		case p.Labels[hashLabel] == hash:
			fresh = append(fresh, p)
		default:
			old = append(old, p)
		}
	}
	if d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType {
		remove = append(remove, old...)
		if len(old)+terminatingOld > 0 {
			return 0, remove
		}
	}
	surge, unavailable := limits(d, desired)
	create = max(0, min(desired-len(fresh), desired+surge-len(fresh)-len(old)))
	remove = append(remove, surplus(fresh, len(fresh)-desired)...)
	remove = append(remove, retire(old, fresh, desired, unavailable)...)
	return create, remove
}

// retire chooses the old pods that may end: those that serve nobody, and of
// the others as many as leaves enough ready ones.
func retire(old, fresh []*corev1.Pod, desired, unavailable int) []*corev1.Pod {
	var remove, serving []*corev1.Pod
	ready := 0
	for _, p := range fresh {
		if Ready(p) {
			ready++
		}
	}
	for _, p := range old {
		if Ready(p) {
			serving = append(serving, p)
			ready++
		} else {
			remove = append(remove, p)
		}
	}
	spare := max(0, min(len(serving), ready-(desired-unavailable)))
	return append(remove, serving[:spare]...)
}

// surplus chooses n pods to end: first those that are not ready, then the youngest.
func surplus(pods []*corev1.Pod, n int) []*corev1.Pod {
	if n <= 0 {
		return nil
	}
	pods = slices.Clone(pods)
	slices.SortFunc(pods, func(p, q *corev1.Pod) int {
		if Ready(p) != Ready(q) {
			if Ready(q) {
				return -1
			}
			return 1
		}
		return cmp.Or(q.CreationTimestamp.Compare(p.CreationTimestamp.Time), cmp.Compare(q.Name, p.Name))
	})
	return pods[:n]
}

// limits are maxSurge and maxUnavailable, with Kubernetes' defaults of 25 %.
func limits(d *appsv1.Deployment, desired int) (surge, unavailable int) {
	quarter := intstr.FromString("25%")
	s, u := &quarter, &quarter
	if r := d.Spec.Strategy.RollingUpdate; r != nil {
		s, u = cmp.Or(r.MaxSurge, s), cmp.Or(r.MaxUnavailable, u)
	}
	surge, errS := intstr.GetScaledValueFromIntOrPercent(s, desired, true)
	unavailable, errU := intstr.GetScaledValueFromIntOrPercent(u, desired, false)
	if errS != nil || errU != nil || surge+unavailable == 0 {
		return 1, 0
	}
	return surge, unavailable
}

func replicas(n *int32) int {
	if n == nil {
		return 1
	}
	return int(*n)
}
