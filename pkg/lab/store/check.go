package store

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/meshd-io/meshd/pkg/report"
)

// Check says whether the lab can run an object: nil, or what to change.
func Check(o Object) *report.Finding {
	spec, field := podSpec(o)
	if spec == nil {
		return nil
	}
	if f := checkSelector(o); f != nil {
		return f
	}
	if spec.HostNetwork {
		return refusal(o, field+".hostNetwork", report.Unsupported,
			"the lab gives every pod a network of its own; leave hostNetwork out")
	}
	if len(spec.Containers) == 0 {
		return refusal(o, field+".containers", report.Invalid, "a pod needs at least one container")
	}
	for i, c := range spec.InitContainers {
		if f := checkContainer(o, c, fmt.Sprintf("%s.initContainers[%d]", field, i)); f != nil {
			return f
		}
	}
	for i, c := range spec.Containers {
		if f := checkContainer(o, c, fmt.Sprintf("%s.containers[%d]", field, i)); f != nil {
			return f
		}
	}
	for i, v := range spec.Volumes {
		if f := checkVolume(o, v, fmt.Sprintf("%s.volumes[%d]", field, i)); f != nil {
			return f
		}
	}
	return nil
}

func checkContainer(o Object, c corev1.Container, field string) *report.Finding {
	if len(c.Command) == 0 {
		return refusal(o, field+".command", report.Invalid, fmt.Sprintf(
			"container %q of %s has no command; the lab does not look at images, so give the program and its arguments in command",
			c.Name, KeyOf(o)))
	}
	return nil
}

func checkVolume(o Object, v corev1.Volume, field string) *report.Finding {
	s := v.VolumeSource
	switch {
	case s.EmptyDir != nil, s.ConfigMap != nil, s.Secret != nil, s.Projected != nil, s.DownwardAPI != nil:
		return nil
	case s.HostPath != nil:
		// It is mounted read-only: a lab must not be able to change its machine.
		return nil
	case s == (corev1.VolumeSource{}):
		return nil // Kubernetes takes a volume without a source as an emptyDir.
	}
	return refusal(o, field, report.Unsupported, fmt.Sprintf(
		"volume %q is of a kind that the lab does not have; use emptyDir, configMap, secret, projected, downwardAPI or hostPath", v.Name))
}

// checkSelector refuses a controller that would not find its own pods.
func checkSelector(o Object) *report.Finding {
	var sel *metav1.LabelSelector
	var template corev1.PodTemplateSpec
	switch o := o.(type) {
	case *appsv1.Deployment:
		sel, template = o.Spec.Selector, o.Spec.Template
	case *appsv1.StatefulSet:
		sel, template = o.Spec.Selector, o.Spec.Template
	case *appsv1.DaemonSet:
		sel, template = o.Spec.Selector, o.Spec.Template
	default:
		return nil
	}
	s, err := metav1.LabelSelectorAsSelector(sel)
	if err != nil {
		return refusal(o, "spec.selector", report.Invalid, err.Error())
	}
	if sel == nil || s.Empty() || !s.Matches(labels.Set(template.Labels)) {
		return refusal(o, "spec.selector", report.Invalid, "the selector must match the labels in spec.template.metadata.labels")
	}
	return nil
}

// podSpec is the pod that an object runs, and where it is in the object.
func podSpec(o Object) (*corev1.PodSpec, string) {
	switch o := o.(type) {
	case *corev1.Pod:
		return &o.Spec, "spec"
	case *appsv1.Deployment:
		return &o.Spec.Template.Spec, "spec.template.spec"
	case *appsv1.StatefulSet:
		return &o.Spec.Template.Spec, "spec.template.spec"
	case *appsv1.DaemonSet:
		return &o.Spec.Template.Spec, "spec.template.spec"
	case *batchv1.Job:
		return &o.Spec.Template.Spec, "spec.template.spec"
	}
	return nil, ""
}

func refusal(o Object, field string, reason report.Reason, message string) *report.Finding {
	return &report.Finding{
		Object: KeyOf(o), Generation: o.GetGeneration(), Condition: report.Accepted, Reason: reason, Field: field, Message: message,
	}
}
