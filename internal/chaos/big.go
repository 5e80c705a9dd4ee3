package chaos

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
	"github.com/meshd-io/meshd/pkg/crds"
)

// Big has n Services in one namespace, each with three pods, a slice and policies of its own.
func Big(n int) *crds.Snapshot {
	snap := &crds.Snapshot{}
	for i := range n {
		app := fmt.Sprintf("app-%05d", i)
		meta := func(name string) metav1.ObjectMeta {
			return metav1.ObjectMeta{Name: name, Namespace: "shop", Labels: map[string]string{"app": app}}
		}
		snap.Services = append(snap.Services, &corev1.Service{ObjectMeta: meta(app), Spec: corev1.ServiceSpec{
			ClusterIP: fmt.Sprintf("10.96.%d.%d", i/250, i%250+1), Selector: map[string]string{"app": app},
			Ports: []corev1.ServicePort{{Name: "http", Port: 80}},
		}})
		slice := &discoveryv1.EndpointSlice{ObjectMeta: meta(app), AddressType: discoveryv1.AddressTypeIPv4,
			Ports: []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(80))}}}
		slice.Labels = map[string]string{discoveryv1.LabelServiceName: app}
		for j := range podsEach {
			ip := fmt.Sprintf("10.%d.%d.%d", 100+j, i/250, i%250+1)
			pod := &corev1.Pod{ObjectMeta: meta(fmt.Sprintf("%s-%d", app, j)), Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: ip}}
			pod.Spec.ServiceAccountName = app
			pod.Spec.InitContainers = []corev1.Container{{Name: "meshd-proxy"}}
			snap.Pods = append(snap.Pods, pod)
			slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{ip}})
		}
		snap.EndpointSlices = append(snap.EndpointSlices, slice)
		target := meshv1a1.TargetRef{Kind: "Service", Name: app}
		snap.TrafficPolicies = append(snap.TrafficPolicies, &meshv1a1.TrafficPolicy{ObjectMeta: meta(app), Spec: meshv1a1.TrafficPolicySpec{
			TargetRefs: []meshv1a1.TargetRef{target}, TrafficSettings: meshv1a1.TrafficSettings{Timeout: &meshv1a1.Timeout{Request: "5s"}},
		}})
		snap.AuthorizationPolicies = append(snap.AuthorizationPolicies, &meshv1a1.AuthorizationPolicy{ObjectMeta: meta(app), Spec: meshv1a1.AuthorizationPolicySpec{
			TargetRefs: []meshv1a1.TargetRef{target}, Action: meshv1a1.Allow,
		}})
	}
	return snap
}

// Kind is a kind of change of a Big mesh.
type Kind struct {
	Name string
	// Make changes a copy of a state; i is the Service that it is about. The
	// same again is another change.
	Make func(s *crds.Snapshot, i int)
}

// Kinds are what happens to a mesh day by day.
func Kinds() []Kind {
	return []Kind{
		{"endpoints", func(s *crds.Snapshot, i int) {
			s.EndpointSlices = slices.Clone(s.EndpointSlices)
			s.EndpointSlices[i] = s.EndpointSlices[i].DeepCopy()
			c := &s.EndpointSlices[i].Endpoints[0].Conditions
			c.Ready = new(c.Ready != nil && !*c.Ready)
		}},
		{"policy", func(s *crds.Snapshot, i int) {
			s.TrafficPolicies = slices.Clone(s.TrafficPolicies)
			s.TrafficPolicies[i] = s.TrafficPolicies[i].DeepCopy()
			p := s.TrafficPolicies[i]
			p.Generation++
			p.Spec.Timeout.Request = meshv1a1.Duration(fmt.Sprintf("%ds", p.Generation%100+1))
		}},
		{"service", func(s *crds.Snapshot, i int) {
			s.Services = slices.Clone(s.Services)
			if last := len(s.Services) - 1; s.Services[last].Name == added {
				s.Services = s.Services[:last]
				return
			}
			one := s.Services[i].DeepCopy()
			one.Name, one.Spec.ClusterIP = added, "10.97.0.1"
			s.Services = append(s.Services, one)
		}},
		{"pod", func(s *crds.Snapshot, i int) {
			s.Pods = slices.Clone(s.Pods)
			s.Pods[i*podsEach] = s.Pods[i*podsEach].DeepCopy()
			p := s.Pods[i*podsEach]
			status := corev1.ConditionTrue
			if len(p.Status.Conditions) > 0 && p.Status.Conditions[0].Status == status {
				status = corev1.ConditionFalse
			}
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: status}}
		}},
		{"annotation", func(s *crds.Snapshot, i int) {
			s.Services = slices.Clone(s.Services)
			s.Services[i] = s.Services[i].DeepCopy()
			s.Services[i].Annotations = map[string]string{"before": fmt.Sprint(len(s.Services[i].Annotations["before"])), "more": s.Services[i].Annotations["before"]}
		}},
	}
}

// added is the name of the Service that comes and goes.
const added = "new"

// podsEach Service of a Big mesh has.
const podsEach = 3
