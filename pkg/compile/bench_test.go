package compile

import (
	"fmt"
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

func BenchmarkCompile(b *testing.B) {
	for _, n := range []int{100, 1000} {
		b.Run(fmt.Sprintf("%d-services", n), func(b *testing.B) {
			snap := bigMesh(n)
			b.ReportAllocs()
			for b.Loop() {
				Compile(snap, Config{})
			}
		})
	}
}
