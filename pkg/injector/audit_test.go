package injector_test

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshd-io/meshd/pkg/injector"
	"github.com/meshd-io/meshd/pkg/report"
)

func TestAudit(t *testing.T) {
	now := metav1.Now()
	all := []*corev1.Namespace{
		{ObjectMeta: metav1.ObjectMeta{Name: "shop", Labels: inMesh}},
		{ObjectMeta: metav1.ObjectMeta{Name: "plain"}},
		{ObjectMeta: metav1.ObjectMeta{Name: "out", Labels: map[string]string{injector.InjectLabel: "disabled"}}},
		{ObjectMeta: metav1.ObjectMeta{Name: "kube-system"}},
		{ObjectMeta: metav1.ObjectMeta{Name: "meshd-system"}},
	}
	pod := func(namespace, name string, change ...func(*corev1.Pod)) *corev1.Pod {
		p := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app"}}},
			Status:     corev1.PodStatus{Phase: corev1.PodRunning},
		}
		for _, c := range change {
			c(p)
		}
		return p
	}
	phase := func(phase corev1.PodPhase) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Status.Phase = phase } }
	pods := []*corev1.Pod{
		pod("shop", "old"),
		pod("shop", "waits", phase(corev1.PodPending)),
		pod("shop", "meshed", func(p *corev1.Pod) { p.Spec.InitContainers = []corev1.Container{{Name: injector.ProxyContainer}} }),
		pod("shop", "gateway", func(p *corev1.Pod) { p.Spec.Containers[0].Name = injector.ProxyContainer }),
		pod("shop", "says-no", labelled("disabled")),
		pod("shop", "done", phase(corev1.PodSucceeded)),
		pod("shop", "failed", phase(corev1.PodFailed)),
		pod("shop", "ends", func(p *corev1.Pod) { p.DeletionTimestamp = &now }),
		pod("shop", "host", hostNetwork),
		pod("shop", "static", func(p *corev1.Pod) { p.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"} }),
		pod("shop", "clash", func(p *corev1.Pod) {
			p.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: injector.InboundPort}}
		}),
		pod("plain", "no"),
		pod("plain", "asks", labelled("enabled")),
		pod("plain", "asks-host", labelled("enabled"), hostNetwork),
		pod("out", "no"),
		pod("kube-system", "asks", labelled("enabled")),
		pod("meshd-system", "meshd"),
		pod("gone", "asks", labelled("enabled")),
	}
	want := []string{
		"plain/asks NoSidecar", "plain/asks-host Unsupported", "shop/clash Conflict", "shop/host NotInjected",
		"shop/old NoSidecar", "shop/static NotInjected", "shop/waits NoSidecar",
	}
	check := func(cfg injector.Config, want []string) {
		t.Helper()
		var got []string
		for _, f := range injector.Audit(pods, all, cfg) {
			if f.Object.Kind != "Pod" || f.Message == "" || f.Condition != report.Accepted {
				t.Errorf("%+v", f)
			}
			got = append(got, f.Object.Namespace+"/"+f.Object.Name+" "+string(f.Reason))
		}
		if !slices.Equal(got, want) {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	check(injector.Config{}, want)
	optOut := injector.Config{}
	optOut.Injection.Default = "OptOut"
	check(optOut, slices.Insert(slices.Clone(want), 2, "plain/no NoSidecar"))
}
