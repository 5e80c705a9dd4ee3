package control

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func endpointPod(n int, ready bool, port int32) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: fmt.Sprintf("p%d", n), Labels: map[string]string{"app": "web"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: port}}}}},
		Status:     corev1.PodStatus{PodIPs: []corev1.PodIP{{IP: fmt.Sprintf("10.0.0.%d", n)}, {IP: fmt.Sprintf("fd00::%d", n)}}},
	}
	if ready {
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	}
	return p
}

func TestSlicesOf(t *testing.T) {
	ending, ended, other, otherNamespace := endpointPod(3, true, 80), endpointPod(4, true, 80), endpointPod(5, true, 80), endpointPod(6, true, 80)
	ending.DeletionTimestamp = &metav1.Time{}
	ended.Status.Phase = corev1.PodSucceeded
	other.Labels = nil
	otherNamespace.Namespace = "bank"
	pods := []*corev1.Pod{endpointPod(2, false, 80), endpointPod(1, true, 80), ending, ended, other, otherNamespace}
	v4, v6 := corev1.IPv4Protocol, corev1.IPv6Protocol
	for _, c := range []struct {
		name   string
		change func(*corev1.Service)
		pods   []*corev1.Pod
		want   string
	}{
		{name: "ready, unready and ending ones", pods: pods,
			want: "web-ipv4-0 8080: 10.0.0.1 ready serving, 10.0.0.2, 10.0.0.3 serving terminating"},
		{name: "both families", pods: pods[1:2], change: func(s *corev1.Service) { s.Spec.IPFamilies = []corev1.IPFamily{v4, v6} },
			want: "web-ipv4-0 8080: 10.0.0.1 ready serving\nweb-ipv6-0 8080: fd00::1 ready serving"},
		{name: "not ready, but published", pods: pods[:1], change: func(s *corev1.Service) { s.Spec.PublishNotReadyAddresses = true },
			want: "web-ipv4-0 8080: 10.0.0.2 ready"},
		{name: "a named port that differs", pods: []*corev1.Pod{endpointPod(1, true, 80), endpointPod(2, true, 81)},
			change: func(s *corev1.Service) { s.Spec.Ports[0].TargetPort = intstr.FromString("http") },
			want:   "web-ipv4-0 80: 10.0.0.1 ready serving\nweb-ipv4-1 81: 10.0.0.2 ready serving"},
		{name: "a named port that a pod lacks", pods: pods[1:2],
			change: func(s *corev1.Service) { s.Spec.Ports[0].TargetPort = intstr.FromString("grpc") },
			want:   "web-ipv4-0: 10.0.0.1 ready serving"},
		{name: "no pods", want: "web-ipv4-0: "},
		{name: "no selector", change: func(s *corev1.Service) { s.Spec.Selector = nil }, pods: pods},
	} {
		t.Run(c.name, func(t *testing.T) {
			svc := &corev1.Service{
				ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"},
				Spec: corev1.ServiceSpec{
					Selector: map[string]string{"app": "web"}, IPFamilies: []corev1.IPFamily{v4},
					Ports: []corev1.ServicePort{{Name: "web", Port: 80, TargetPort: intstr.FromInt32(8080), Protocol: corev1.ProtocolTCP}},
				},
			}
			if c.change != nil {
				c.change(svc)
			}
			if got := render(svc, c.pods); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

func render(svc *corev1.Service, pods []*corev1.Pod) string {
	var lines []string
	for _, s := range SlicesOf(svc, pods) {
		line := s.Name
		for _, p := range s.Ports {
			line += fmt.Sprintf(" %d", *p.Port)
		}
		var ends []string
		for _, e := range s.Endpoints {
			text := e.Addresses[0]
			for word, is := range map[string]*bool{"ready": e.Conditions.Ready} {
				if *is {
					text += " " + word
				}
			}
			if *e.Conditions.Serving {
				text += " serving"
			}
			if *e.Conditions.Terminating {
				text += " terminating"
			}
			ends = append(ends, text)
		}
		lines = append(lines, line+": "+strings.Join(ends, ", "))
	}
	return strings.Join(lines, "\n")
}
