package control

import (
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meshd-io/meshd/pkg/lab/store"
)

const defaultBackoffLimit = 6

func jobs(v store.View, pods map[types.UID][]*corev1.Pod, suffix Suffix) Actions {
	var a Actions
	for _, j := range store.List[*batchv1.Job](v) {
		create, status := work(j, pods[j.UID])
		for range create {
			a.Create = append(a.Create, newPod(j, j.Spec.Template, j.Name+"-"+suffix(), map[string]string{
				batchv1.JobNameLabel: j.Name, batchv1.ControllerUidLabel: string(j.UID),
			}))
		}
		if j.Status.Active != status.Active || j.Status.Succeeded != status.Succeeded ||
			j.Status.Failed != status.Failed || len(j.Status.Conditions) != len(status.Conditions) {
			c := j.DeepCopy()
			c.Status = status
			a.Put = append(a.Put, c)
		}
	}
	return a
}

// work says how many pods of a job to start, and where the job stands.
func work(j *batchv1.Job, pods []*corev1.Pod) (create int, status batchv1.JobStatus) {
	for _, p := range pods {
		switch {
		case p.Status.Phase == corev1.PodSucceeded:
			status.Succeeded++
		case p.Status.Phase == corev1.PodFailed:
			status.Failed++
		case p.DeletionTimestamp == nil:
			status.Active++
		}
	}
	completions, parallelism, limit := int32(1), int32(1), int32(defaultBackoffLimit)
	if j.Spec.Parallelism != nil {
		parallelism = *j.Spec.Parallelism
	}
	if j.Spec.Completions != nil {
		completions = *j.Spec.Completions
	}
	if j.Spec.BackoffLimit != nil {
		limit = *j.Spec.BackoffLimit
	}
	switch {
	case status.Succeeded >= completions:
		status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobComplete, Status: corev1.ConditionTrue}}
	case status.Failed > limit:
		status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobFailed, Status: corev1.ConditionTrue, Reason: "BackoffLimitExceeded"}}
	default:
		create = int(max(0, min(parallelism, completions-status.Succeeded)-status.Active))
	}
	return create, status
}

// Finished reports whether a job is over, and whether well.
func Finished(j *batchv1.Job) (over, well bool) {
	for _, c := range j.Status.Conditions {
		if c.Status == corev1.ConditionTrue {
			return true, c.Type == batchv1.JobComplete
		}
	}
	return false, false
}
