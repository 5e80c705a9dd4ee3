package control

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meshd-io/meshd/pkg/lab/store"
)

func statefulSets(v store.View, pods map[types.UID][]*corev1.Pod) Actions {
	var a Actions
	for _, s := range store.List[*appsv1.StatefulSet](v) {
		create, remove := ordered(s, pods[s.UID])
		a.Delete = append(a.Delete, remove...)
		a.Create = append(a.Create, create...)
	}
	return a
}

// ordered says the next steps of a StatefulSet: pods start in order, each when
// those before it are ready, and are replaced one at a time from the last.
func ordered(s *appsv1.StatefulSet, pods []*corev1.Pod) (create, remove []*corev1.Pod) {
	desired := replicas(s.Spec.Replicas)
	hash := templateHash(s.Spec.Template)
	byOrdinal := map[int]*corev1.Pod{}
	for _, p := range pods {
		n, err := strconv.Atoi(strings.TrimPrefix(p.Name, s.Name+"-"))
		if err != nil {
			continue
		}
		byOrdinal[n] = p
		if p.DeletionTimestamp == nil && (n >= desired || Ended(p)) {
			remove = append(remove, p)
		}
	}
	parallel := s.Spec.PodManagementPolicy == appsv1.ParallelPodManagement
	allReady := true
	for n := range desired {
		p := byOrdinal[n]
		if p == nil {
			create = append(create, ordinalPod(s, n, hash))
		}
		if p == nil || !Ready(p) {
			allReady = false
			if !parallel {
				break
			}
		}
	}
	if !allReady || s.Spec.UpdateStrategy.Type == appsv1.OnDeleteStatefulSetStrategyType {
		return create, append(remove, broken(byOrdinal, hash)...)
	}
	for n := desired - 1; n >= 0; n-- {
		if byOrdinal[n].Labels[appsv1.ControllerRevisionHashLabelKey] != hash {
			return create, append(remove, byOrdinal[n])
		}
	}
	return create, remove
}

// broken are pods of an old template that are not ready: waiting for them would be for ever.
func broken(pods map[int]*corev1.Pod, hash string) []*corev1.Pod {
	var out []*corev1.Pod
	for _, p := range pods {
		if p.DeletionTimestamp == nil && !Ready(p) && !Ended(p) && p.Labels[appsv1.ControllerRevisionHashLabelKey] != hash {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(p, q *corev1.Pod) int { return strings.Compare(p.Name, q.Name) })
	return out
}

func ordinalPod(s *appsv1.StatefulSet, n int, hash string) *corev1.Pod {
	name := fmt.Sprintf("%s-%d", s.Name, n)
	p := newPod(s, s.Spec.Template, name, map[string]string{
		appsv1.ControllerRevisionHashLabelKey: hash,
		appsv1.StatefulSetPodNameLabel:        name,
		appsv1.PodIndexLabel:                  strconv.Itoa(n),
	})
	p.Spec.Hostname, p.Spec.Subdomain = name, s.Spec.ServiceName
	for _, c := range s.Spec.VolumeClaimTemplates {
		// A claim is an emptyDir here: a lab keeps nothing.
		p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{
			Name: c.Name, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}},
		})
	}
	return p
}

// daemonSets run one pod each: the lab is one node.
func daemonSets(v store.View, pods map[types.UID][]*corev1.Pod, suffix Suffix) Actions {
	var a Actions
	for _, d := range store.List[*appsv1.DaemonSet](v) {
		hash := templateHash(d.Spec.Template)
		if len(pods[d.UID]) == 0 {
			a.Create = append(a.Create, newPod(d, d.Spec.Template, d.Name+"-"+suffix(),
				map[string]string{appsv1.ControllerRevisionHashLabelKey: hash}))
		}
		for _, p := range pods[d.UID] {
			if p.DeletionTimestamp == nil && (Ended(p) || p.Labels[appsv1.ControllerRevisionHashLabelKey] != hash) {
				a.Delete = append(a.Delete, p)
			}
		}
	}
	return a
}
