package injector

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// operation is one of RFC 6902's.
type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value,omitempty"`
}

// patchOf is what Inject has changed, as JSON Patch; nil where that is nothing.
// It is written from what Inject does, and not found by comparing two texts of
// the pod: the API server's may have fields that this build does not know, and
// those must neither be removed nor shift anything.
func patchOf(before, after *corev1.Pod) ([]byte, error) {
	var ops []operation
	ops = append(ops, patchAnnotations(before.Annotations, after.Annotations)...)
	ops = append(ops, patchVolumes(before.Spec.Volumes, after.Spec.Volumes)...)
	first := len(after.Spec.InitContainers) - len(before.Spec.InitContainers)
	for i := range before.Spec.InitContainers {
		ops = append(ops, patchProbes(fmt.Sprintf("/spec/initContainers/%d", i), &before.Spec.InitContainers[i], &after.Spec.InitContainers[first+i])...)
	}
	for i := range before.Spec.Containers {
		ops = append(ops, patchProbes(fmt.Sprintf("/spec/containers/%d", i), &before.Spec.Containers[i], &after.Spec.Containers[i])...)
	}
	// Last, since it moves the others.
	ops = append(ops, prepend(len(before.Spec.InitContainers) == 0, after.Spec.InitContainers[:first])...)
	if len(ops) == 0 {
		return nil, nil
	}
	patch, err := json.Marshal(ops)
	if err != nil {
		return nil, fmt.Errorf("encode the patch: %w", err)
	}
	return patch, nil
}

// pointer escapes a key for a path (RFC 6901).
var pointer = strings.NewReplacer("~", "~0", "/", "~1")

func patchAnnotations(before, after map[string]string) []operation {
	var ops []operation
	if len(before) == 0 && len(after) > 0 {
		return []operation{{Op: "add", Path: "/metadata/annotations", Value: after}}
	}
	for _, k := range slices.Sorted(maps.Keys(after)) {
		if old, there := before[k]; !there || old != after[k] {
			ops = append(ops, operation{Op: "add", Path: "/metadata/annotations/" + pointer.Replace(k), Value: after[k]})
		}
	}
	return ops
}

func patchVolumes(before, after []corev1.Volume) []operation {
	added := after[len(before):]
	if len(before) == 0 && len(added) > 0 {
		return []operation{{Op: "add", Path: "/spec/volumes", Value: added}}
	}
	var ops []operation
	for _, v := range added {
		ops = append(ops, operation{Op: "add", Path: "/spec/volumes/-", Value: v})
	}
	return ops
}

func prepend(alone bool, containers []corev1.Container) []operation {
	if alone && len(containers) > 0 {
		return []operation{{Op: "add", Path: "/spec/initContainers", Value: containers}}
	}
	var ops []operation
	for i, c := range containers {
		ops = append(ops, operation{Op: "add", Path: fmt.Sprintf("/spec/initContainers/%d", i), Value: c})
	}
	return ops
}

// patchProbes changes how a probe asks, and nothing else of it.
func patchProbes(at string, before, after *corev1.Container) []operation {
	var ops []operation
	for _, p := range []struct {
		field      string
		old, wants *corev1.Probe
	}{
		{"startupProbe", before.StartupProbe, after.StartupProbe},
		{"livenessProbe", before.LivenessProbe, after.LivenessProbe},
		{"readinessProbe", before.ReadinessProbe, after.ReadinessProbe},
	} {
		if p.old == nil || reflect.DeepEqual(p.old.ProbeHandler, p.wants.ProbeHandler) {
			continue
		}
		for _, h := range []struct {
			name  string
			there bool
		}{{"tcpSocket", p.old.TCPSocket != nil}, {"grpc", p.old.GRPC != nil}} {
			if h.there {
				ops = append(ops, operation{Op: "remove", Path: at + "/" + p.field + "/" + h.name})
			}
		}
		ops = append(ops, operation{Op: "add", Path: at + "/" + p.field + "/httpGet", Value: p.wants.HTTPGet})
	}
	return ops
}
