package crds

import (
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// fed is a source whose watches are played by the benchmark.
func fed(b *testing.B) (*ClusterSource, func(client.Object)) {
	s := &ClusterSource{feeds: clusterFeeds(), snapshot: &Snapshot{}, log: slog.New(slog.DiscardHandler), wake: make(chan struct{}, 1)}
	feeds := map[string]told{}
	for _, f := range s.feeds {
		feeds[f.gvk.Kind] = f.begin(func() {}, s.poke)
		if err := feeds[f.gvk.Kind].Replace(nil, ""); err != nil {
			b.Fatal(err)
		}
	}
	return s, func(o client.Object) {
		kind := strings.TrimPrefix(strings.TrimPrefix(fmt.Sprintf("%T", o), "*v1."), "*v1alpha1.")
		if err := feeds[kind].Add(o); err != nil {
			b.Fatal(err)
		}
	}
}

func benchPod(namespace, name string) *corev1.Pod {
	out := &corev1.Pod{ObjectMeta: named(namespace, name), Spec: corev1.PodSpec{NodeName: "node-1", ServiceAccountName: "app"}}
	out.UID, out.ResourceVersion = types.UID(strings.Clone("0b1c2d3e-0000-4000-8000-"+name)), "123456"
	out.Labels = map[string]string{"app": strings.Clone(name), "pod-template-hash": "5d4f6c7b8", "topology.kubernetes.io/zone": "zone-a"}
	out.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kubelet", FieldsV1: metav1.NewFieldsV1(strings.Repeat("f", 2048))}}
	for _, c := range []string{"meshd-capture", "meshd-agent", "meshd-proxy", "app"} {
		container := corev1.Container{Name: c, Image: strings.Clone("registry.example.com/team/application:1.2.3"), Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080, Protocol: "TCP"}}}
		for i := range 10 {
			container.Env = append(container.Env, corev1.EnvVar{Name: fmt.Sprint("NAME_", i), Value: strings.Repeat("v", 30)})
		}
		out.Spec.Containers = append(out.Spec.Containers, container)
		out.Status.ContainerStatuses = append(out.Status.ContainerStatuses, corev1.ContainerStatus{Name: c, ImageID: strings.Repeat("i", 100), ContainerID: strings.Repeat("c", 80)})
	}
	for i := range 6 {
		out.Spec.Volumes = append(out.Spec.Volumes, corev1.Volume{Name: fmt.Sprint("volume-", i)})
		out.Status.Conditions = append(out.Status.Conditions, corev1.PodCondition{Type: corev1.PodReady, Status: "True", Message: strings.Repeat("m", 20)})
	}
	out.Status.Phase, out.Status.PodIP, out.Status.PodIPs = corev1.PodRunning, "10.0.0.1", []corev1.PodIP{{IP: "10.0.0.1"}}
	return out
}

func benchSlice(namespace, name string, version int) *discoveryv1.EndpointSlice {
	yes, zone, node, port, portName := true, strings.Clone("zone-a"), strings.Clone("node-1"), int32(8080), "http"
	out := endpointSlice(namespace, name)
	out.ResourceVersion = fmt.Sprint(1000000 + version)
	out.Annotations = map[string]string{corev1.EndpointsLastChangeTriggerTime: "2026-01-01T00:00:00Z"}
	out.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kube-controller-manager", FieldsV1: metav1.NewFieldsV1(strings.Repeat("f", 500))}}
	out.Ports = []discoveryv1.EndpointPort{{Name: &portName, Port: &port}}
	for i := range 10 {
		out.Endpoints = append(out.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{fmt.Sprintf("10.%d.%d.%d", version>>8&255, version&255, i)}, NodeName: &node, Zone: &zone,
			Conditions: discoveryv1.EndpointConditions{Ready: &yes, Serving: &yes},
			TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: namespace, Name: strings.Clone(name), UID: "0b1c2d3e-0000-4000-8000-000000000000"},
		})
	}
	return out
}

// BenchmarkClusterEndpointSlice: one event among 1000 Services with 1000 slices
// of 10 endpoints and 2000 pods, from the reflector's call to the new Snapshot;
// all is the same state from nothing.
func BenchmarkClusterEndpointSlice(b *testing.B) {
	fill := func(tell func(client.Object)) {
		for i := range 1000 {
			tell(service("shop", fmt.Sprint("s-", i)))
			tell(benchSlice("shop", fmt.Sprint("s-", i), 0))
			tell(benchPod("shop", fmt.Sprint("a-", i)))
			tell(benchPod("shop", fmt.Sprint("b-", i)))
		}
	}
	b.Run("event", func(b *testing.B) {
		s, tell := fed(b)
		fill(tell)
		s.turn()
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			tell(benchSlice("shop", fmt.Sprint("s-", i%1000), i+1))
			if !s.turn() {
				b.Fatal("nothing was offered")
			}
		}
	})
	b.Run("nothing", func(b *testing.B) {
		s, tell := fed(b)
		fill(tell)
		s.turn()
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			tell(benchSlice("shop", fmt.Sprint("s-", i%1000), 0))
			if s.turn() {
				b.Fatal("something was offered")
			}
		}
	})
	b.Run("all", func(b *testing.B) {
		for b.Loop() {
			s, tell := fed(b)
			fill(tell)
			s.turn()
		}
	})
}

// BenchmarkClusterMemory prints what is held of an object, beside what it takes whole.
func BenchmarkClusterMemory(b *testing.B) {
	const n = 2000
	for kind, object := range map[string]func(i int) client.Object{
		"Pod":           func(i int) client.Object { return benchPod("shop", fmt.Sprint("a-", i)) },
		"EndpointSlice": func(i int) client.Object { return benchSlice("shop", fmt.Sprint("s-", i), i) },
		"Service":       func(i int) client.Object { return service("shop", fmt.Sprint("s-", i)) },
	} {
		b.Run(kind, func(b *testing.B) {
			for b.Loop() {
				b.ReportMetric(held(func() any {
					whole := make([]client.Object, n)
					for i := range whole {
						whole[i] = object(i)
					}
					return whole
				})/n, "B/whole")
				b.ReportMetric(held(func() any {
					s, tell := fed(b)
					for i := range n {
						tell(object(i))
					}
					s.turn()
					return s
				})/n, "B/kept")
			}
		})
	}
}

// held is how many bytes of the heap a value takes.
func held(value func() any) float64 {
	heap := func() float64 {
		runtime.GC()
		runtime.GC() // what the first one has finalised
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc)
	}
	before := heap()
	v := value()
	after := heap()
	runtime.KeepAlive(v)
	return after - before
}
