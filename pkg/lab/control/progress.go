package control

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// Progress is how far a controller's pods are.
type Progress struct {
	Want  int // pods of the present template
	Ready int // of these, ready
	Old   int // others, those that are about to end too
	Pods  []*corev1.Pod
}

// Done reports whether all pods are of the present template and ready.
func (p Progress) Done() bool { return p.Ready == p.Want && p.Old == 0 }

// Rollout is how far a Deployment is.
func Rollout(d *appsv1.Deployment, pods []*corev1.Pod) Progress {
	return progress(replicas(d.Spec.Replicas), hashLabel, templateHash(d.Spec.Template), pods)
}

// OrderedRollout is how far a StatefulSet is.
func OrderedRollout(s *appsv1.StatefulSet, pods []*corev1.Pod) Progress {
	return progress(replicas(s.Spec.Replicas), appsv1.ControllerRevisionHashLabelKey, templateHash(s.Spec.Template), pods)
}

// DaemonRollout is how far a DaemonSet is.
func DaemonRollout(d *appsv1.DaemonSet, pods []*corev1.Pod) Progress {
	return progress(1, appsv1.ControllerRevisionHashLabelKey, templateHash(d.Spec.Template), pods)
}

func progress(want int, label, hash string, pods []*corev1.Pod) Progress {
	p := Progress{Want: want, Pods: pods}
	for _, pod := range pods {
		switch {
		case pod.Labels[label] != hash || pod.DeletionTimestamp != nil:
			p.Old++
		case Ready(pod):
			p.Ready++
		}
	}
	return p
}
