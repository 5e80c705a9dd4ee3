package compile

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
	"github.com/meshd-io/meshd/pkg/crds"
)

// bigMesh has n Services in one namespace, each with three pods, a slice and policies of its own.
func bigMesh(n int) *crds.Snapshot {
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
		for j := range 3 {
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

var benchConfig = Config{CIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}

// BenchmarkCompile compiles from nothing.
func BenchmarkCompile(b *testing.B) {
	for _, n := range []int{100, 1000, 10000} {
		b.Run(fmt.Sprintf("%d-services", n), func(b *testing.B) {
			snap := bigMesh(n)
			b.ReportAllocs()
			for b.Loop() {
				Compile(snap, benchConfig)
			}
		})
	}
}

// BenchmarkChange compiles after one object has changed.
func BenchmarkChange(b *testing.B) {
	changes := []struct {
		name string
		make func(snap *crds.Snapshot, i, turn int)
	}{
		{"endpoints", func(s *crds.Snapshot, i, turn int) {
			s.EndpointSlices = slices.Clone(s.EndpointSlices)
			s.EndpointSlices[i] = s.EndpointSlices[i].DeepCopy()
			s.EndpointSlices[i].Endpoints[0].Conditions.Ready = new(turn%2 == 0)
		}},
		{"policy", func(s *crds.Snapshot, i, turn int) {
			s.TrafficPolicies = slices.Clone(s.TrafficPolicies)
			s.TrafficPolicies[i] = s.TrafficPolicies[i].DeepCopy()
			s.TrafficPolicies[i].Generation++
			s.TrafficPolicies[i].Spec.Timeout.Request = meshv1a1.Duration(fmt.Sprintf("%ds", 1+turn%2))
		}},
		{"service", func(s *crds.Snapshot, i, turn int) {
			s.Services = slices.Clone(s.Services)
			if turn%2 == 1 {
				s.Services = slices.DeleteFunc(s.Services, func(s *corev1.Service) bool { return s.Name == "new" })
				return
			}
			added := s.Services[i].DeepCopy()
			added.Name, added.Spec.ClusterIP = "new", "10.97.0.1"
			s.Services = append(s.Services, added)
		}},
		{"pod", func(s *crds.Snapshot, i, turn int) {
			s.Pods = slices.Clone(s.Pods)
			s.Pods[i] = s.Pods[i].DeepCopy()
			s.Pods[i].Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: []corev1.ConditionStatus{"True", "False"}[turn%2]}}
		}},
		{"annotation", func(s *crds.Snapshot, i, turn int) {
			s.Services = slices.Clone(s.Services)
			s.Services[i] = s.Services[i].DeepCopy()
			s.Services[i].Annotations = map[string]string{"turn": fmt.Sprint(turn)}
		}},
	}
	for _, n := range []int{100, 1000, 10000} {
		c := NewCompiler()
		snap := bigMesh(n)
		c.Compile(snap, benchConfig)
		for _, change := range changes {
			b.Run(fmt.Sprintf("%s/%d-services", change.name, n), func(b *testing.B) {
				b.ReportAllocs()
				turn := 0
				for b.Loop() {
					b.StopTimer()
					next := *snap
					change.make(&next, turn%n, turn)
					snap = &next
					turn++
					b.StartTimer()
					c.Compile(snap, benchConfig)
				}
			})
		}
	}
}
