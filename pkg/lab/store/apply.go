package store

import (
	"bytes"
	"encoding/json"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meshd-io/meshd/pkg/report"
)

const defaultNamespace = "default"

// clusterScoped are the kinds without a namespace.
func clusterScoped(kind string) bool {
	switch kind {
	case "Namespace", "IngressClass", "MeshConfig", "CertificateAuthority", "GatewayClass":
		return true
	}
	return false
}

// Apply stores what a user gave: it creates or replaces, and keeps what the
// lab knows about the object (uid, status, addresses). The finding, if any,
// says why the object was refused; nothing is changed then.
func (s *Store) Apply(o Object) *report.Finding {
	o = o.DeepCopyObject().(Object)
	if o.GetNamespace() == "" && !clusterScoped(KeyOf(o).Kind) {
		o.SetNamespace(defaultNamespace)
	}
	if f := Check(o); f != nil {
		return f
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if o.GetNamespace() != "" {
		s.ensureNamespace(o.GetNamespace())
	}
	k := KeyOf(o)
	if before, ok := s.applied[k]; ok && same(before, o) {
		return nil
	}
	given := o.DeepCopyObject().(Object)
	old, exists := s.objects[k]
	if f := s.admit(o, old); f != nil {
		return f
	}
	if exists {
		o.SetGeneration(old.GetGeneration())
		if before, ok := s.applied[k]; ok && !sameSpec(before, given) {
			o.SetGeneration(old.GetGeneration() + 1)
		}
	}
	if p, ok := o.(*corev1.Pod); ok && s.mutate != nil {
		mutated, f := s.mutate(s.objects, p)
		if f != nil {
			return f
		}
		o = mutated
	}
	s.put(o)
	s.applied[k] = given
	if ns, ok := o.(*corev1.Namespace); ok {
		s.ensureServiceAccount(ns.Name)
	}
	return nil
}

// admit fills in what an API server fills in.
func (s *Store) admit(o, old Object) *report.Finding {
	switch o := o.(type) {
	case *corev1.Namespace:
		if o.Labels == nil {
			o.Labels = map[string]string{}
		}
		o.Labels[corev1.LabelMetadataName] = o.Name
	case *corev1.Service:
		before, _ := old.(*corev1.Service)
		defaultService(o)
		return s.addresses.Assign(o, before)
	case *corev1.Secret:
		for k, v := range o.StringData {
			if o.Data == nil {
				o.Data = map[string][]byte{}
			}
			o.Data[k] = []byte(v)
		}
		o.StringData = nil
	case *corev1.Pod:
		if old != nil {
			return &report.Finding{
				Object: KeyOf(o), Condition: report.Accepted, Reason: report.Immutable, Field: "spec",
				Message: "a pod cannot be changed; delete it first, or run it by a Deployment",
			}
		}
	}
	return nil
}

func (s *Store) ensureNamespace(name string) {
	if _, ok := s.objects[report.Object{Kind: "Namespace", Name: name}]; !ok {
		s.put(&corev1.Namespace{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"},
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelMetadataName: name}},
			Status:     corev1.NamespaceStatus{Phase: corev1.NamespaceActive},
		})
	}
	s.ensureServiceAccount(name)
}

func (s *Store) ensureServiceAccount(namespace string) {
	k := report.Object{Kind: "ServiceAccount", Namespace: namespace, Name: "default"}
	if _, ok := s.objects[k]; ok {
		return
	}
	s.put(&corev1.ServiceAccount{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ServiceAccount"},
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "default"},
	})
}

func defaultService(s *corev1.Service) {
	if s.Spec.Type == "" {
		s.Spec.Type = corev1.ServiceTypeClusterIP
	}
	if s.Spec.SessionAffinity == "" {
		s.Spec.SessionAffinity = corev1.ServiceAffinityNone
	}
	for i := range s.Spec.Ports {
		p := &s.Spec.Ports[i]
		if p.Protocol == "" {
			p.Protocol = corev1.ProtocolTCP
		}
		if p.TargetPort == (intstr.IntOrString{}) {
			p.TargetPort = intstr.FromInt32(p.Port)
		}
	}
}

// same reports whether two objects say the same, apart from what the store itself counts.
func same(a, b Object) bool {
	return bytes.Equal(content(a, true), content(b, true))
}

// sameSpec reports whether two objects differ in metadata or status only.
func sameSpec(a, b Object) bool {
	return bytes.Equal(content(a, false), content(b, false))
}

// content is a canonical form of an object.
func content(o Object, metadata bool) []byte {
	raw, err := json.Marshal(o)
	if err != nil {
		return nil
	}
	var m map[string]any
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil
	}
	if !metadata {
		delete(m, "metadata")
		delete(m, "status")
	}
	if meta, ok := m["metadata"].(map[string]any); ok {
		for _, f := range []string{"resourceVersion", "generation", "uid", "creationTimestamp", "managedFields"} {
			delete(meta, f)
		}
	}
	// A map marshals with sorted keys.
	out, err := json.Marshal(m)
	if err != nil {
		return nil
	}
	return out
}
