package kubelet

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/meshd-io/meshd/pkg/lab/store"
)

// environment is what a container's processes get, in the order of Kubernetes:
// envFrom, then env, each able to use $(NAME) of those before it.
func environment(v store.View, p *corev1.Pod, c corev1.Container) (map[string]string, error) {
	vars := map[string]string{}
	for _, from := range c.EnvFrom {
		data, err := envFrom(v, p.Namespace, from)
		if err != nil {
			return nil, err
		}
		for k, val := range data {
			vars[from.Prefix+k] = val
		}
	}
	for _, e := range c.Env {
		if e.ValueFrom == nil {
			vars[e.Name] = expand(e.Value, vars)
			continue
		}
		val, ok, err := valueFrom(v, p, c, e.ValueFrom)
		if err != nil {
			return nil, fmt.Errorf("env %s: %w", e.Name, err)
		}
		if ok {
			vars[e.Name] = val
		}
	}
	return vars, nil
}

// environ writes variables as a process takes them, sorted.
func environ(vars map[string]string) []string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(vars)) {
		out = append(out, k+"="+vars[k])
	}
	return out
}

func envFrom(v store.View, namespace string, from corev1.EnvFromSource) (map[string]string, error) {
	switch {
	case from.ConfigMapRef != nil:
		data, err := configMap(v, namespace, from.ConfigMapRef.Name)
		if err != nil && optional(from.ConfigMapRef.Optional) {
			return nil, nil
		}
		return data, err
	case from.SecretRef != nil:
		data, err := secret(v, namespace, from.SecretRef.Name)
		if err != nil && optional(from.SecretRef.Optional) {
			return nil, nil
		}
		return data, err
	}
	return nil, nil
}

// valueFrom is a variable's value; ok is false where an optional one is left out.
func valueFrom(v store.View, p *corev1.Pod, c corev1.Container, s *corev1.EnvVarSource) (val string, ok bool, err error) {
	switch {
	case s.FieldRef != nil:
		val, err = field(p, s.FieldRef.FieldPath)
		return val, err == nil, err
	case s.ResourceFieldRef != nil:
		val = resourceField(p, c, s.ResourceFieldRef)
		return val, err == nil, err
	case s.ConfigMapKeyRef != nil:
		data, err := configMap(v, p.Namespace, s.ConfigMapKeyRef.Name)
		return key(data, err, "ConfigMap "+s.ConfigMapKeyRef.Name, s.ConfigMapKeyRef.Key, s.ConfigMapKeyRef.Optional)
	case s.SecretKeyRef != nil:
		data, err := secret(v, p.Namespace, s.SecretKeyRef.Name)
		return key(data, err, "Secret "+s.SecretKeyRef.Name, s.SecretKeyRef.Key, s.SecretKeyRef.Optional)
	}
	return "", false, fmt.Errorf("valueFrom has no source that the lab knows")
}

func key(data map[string]string, err error, of, name string, opt *bool) (string, bool, error) {
	val, ok := data[name]
	if err == nil && !ok {
		err = fmt.Errorf("%s has no key %q", of, name)
	}
	if err != nil && optional(opt) {
		return "", false, nil
	}
	return val, err == nil, err
}

func optional(b *bool) bool { return b != nil && *b }

func configMap(v store.View, namespace, name string) (map[string]string, error) {
	m, ok := store.Get[*corev1.ConfigMap](v, "ConfigMap", namespace, name)
	if !ok {
		return nil, fmt.Errorf("ConfigMap %s/%s does not exist", namespace, name)
	}
	data := maps.Clone(m.Data)
	if data == nil {
		data = map[string]string{}
	}
	for k, b := range m.BinaryData {
		data[k] = string(b)
	}
	return data, nil
}

func secret(v store.View, namespace, name string) (map[string]string, error) {
	s, ok := store.Get[*corev1.Secret](v, "Secret", namespace, name)
	if !ok {
		return nil, fmt.Errorf("the Secret %s/%s does not exist", namespace, name)
	}
	data := map[string]string{}
	for k, b := range s.Data {
		data[k] = string(b)
	}
	return data, nil
}

// field is the downward API.
func field(p *corev1.Pod, path string) (string, error) {
	switch path {
	case "metadata.name":
		return p.Name, nil
	case "metadata.namespace":
		return p.Namespace, nil
	case "metadata.uid":
		return string(p.UID), nil
	case "metadata.labels":
		return properties(p.Labels), nil
	case "metadata.annotations":
		return properties(p.Annotations), nil
	case "spec.serviceAccountName":
		return serviceAccount(p), nil
	case "spec.nodeName":
		return p.Spec.NodeName, nil
	case "status.podIP":
		return p.Status.PodIP, nil
	case "status.hostIP":
		return p.Status.HostIP, nil
	case "status.podIPs":
		return joined(p.Status.PodIPs, func(ip corev1.PodIP) string { return ip.IP }), nil
	case "status.hostIPs":
		return joined(p.Status.HostIPs, func(ip corev1.HostIP) string { return ip.IP }), nil
	}
	if name, ok := subscript(path, "metadata.labels"); ok {
		return p.Labels[name], nil
	}
	if name, ok := subscript(path, "metadata.annotations"); ok {
		return p.Annotations[name], nil
	}
	return "", fmt.Errorf("field %q is not one of the downward API", path)
}

func joined[T any](in []T, f func(T) string) string {
	var out []string
	for _, x := range in {
		out = append(out, f(x))
	}
	return strings.Join(out, ",")
}

// subscript reads metadata.labels['NAME'].
func subscript(path, of string) (string, bool) {
	s, ok := strings.CutPrefix(path, of+"['")
	if !ok {
		return "", false
	}
	return strings.CutSuffix(s, "']")
}

// properties writes labels or annotations as kubelet does: KEY="VALUE", a line each, sorted.
func properties(m map[string]string) string {
	var lines []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		lines = append(lines, k+"="+strconv.Quote(m[k]))
	}
	return strings.Join(lines, "\n")
}

// resourceField reads a container's requests and limits; what is not set is 0.
func resourceField(p *corev1.Pod, c corev1.Container, r *corev1.ResourceFieldSelector) string {
	if r.ContainerName != "" && r.ContainerName != c.Name {
		for _, other := range append(slices.Clone(p.Spec.Containers), p.Spec.InitContainers...) {
			if other.Name == r.ContainerName {
				c = other
			}
		}
	}
	list, name, _ := strings.Cut(r.Resource, ".")
	quantities := map[string]corev1.ResourceList{"limits": c.Resources.Limits, "requests": c.Resources.Requests}[list]
	q, ok := quantities[corev1.ResourceName(name)]
	if !ok {
		return "0"
	}
	divisor := r.Divisor.MilliValue()
	if divisor == 0 {
		divisor = 1000
	}
	// Rounded up, as kubelet does.
	return strconv.FormatInt((q.MilliValue()+divisor-1)/divisor, 10)
}

func serviceAccount(p *corev1.Pod) string {
	if p.Spec.ServiceAccountName == "" {
		return "default"
	}
	return p.Spec.ServiceAccountName
}
