package store

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshd-io/meshd/pkg/report"
)

func testStore() *Store {
	return New(Options{Addresses: NewAddresses(netip.MustParsePrefix("10.96.0.0/27"), netip.MustParsePrefix("fd00::/120"))})
}

func service(name string, change func(*corev1.ServiceSpec)) *corev1.Service {
	s := &corev1.Service{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}},
	}
	if change != nil {
		change(&s.Spec)
	}
	return s
}

func TestClusterIPs(t *testing.T) {
	require, prefer, single := corev1.IPFamilyPolicyRequireDualStack, corev1.IPFamilyPolicyPreferDualStack, corev1.IPFamilyPolicySingleStack
	for _, c := range []struct {
		name   string
		change func(*corev1.ServiceSpec)
		want   string
		reason report.Reason
	}{
		{name: "IPv4 unless said otherwise", want: "10.96.0.20"},
		{name: "both preferred", change: func(s *corev1.ServiceSpec) { s.IPFamilyPolicy = &prefer }, want: "10.96.0.20 fd00::14"},
		{name: "IPv6 first", change: func(s *corev1.ServiceSpec) {
			s.IPFamilyPolicy, s.IPFamilies = &require, []corev1.IPFamily{corev1.IPv6Protocol}
		}, want: "fd00::14 10.96.0.20"},
		{name: "IPv6 alone", change: func(s *corev1.ServiceSpec) { s.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol} }, want: "fd00::14"},
		{name: "given", change: func(s *corev1.ServiceSpec) { s.ClusterIP = "10.96.0.5" }, want: "10.96.0.5"},
		{name: "given, IPv6", change: func(s *corev1.ServiceSpec) { s.ClusterIP = "fd00::9" }, want: "fd00::9"},
		{name: "headless", change: func(s *corev1.ServiceSpec) { s.ClusterIP = "None" }, want: "None"},
		{name: "taken", change: func(s *corev1.ServiceSpec) { s.ClusterIP = "10.96.0.7" }, reason: report.Conflict},
		{name: "of another range", change: func(s *corev1.ServiceSpec) { s.ClusterIP = "10.97.0.7" }, reason: report.Invalid},
		{name: "single with two", change: func(s *corev1.ServiceSpec) {
			s.IPFamilyPolicy, s.IPFamilies = &single, []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
		}, reason: report.Invalid},
		{name: "external name", change: func(s *corev1.ServiceSpec) { s.Type, s.ExternalName = corev1.ServiceTypeExternalName, "x.org" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := testStore()
			if f := s.Apply(service("other", func(s *corev1.ServiceSpec) { s.ClusterIP = "10.96.0.7" })); f != nil {
				t.Fatal(f)
			}
			f := s.Apply(service("web", c.change))
			if f != nil || c.reason != "" {
				if f == nil || f.Reason != c.reason || f.Field == "" {
					t.Fatalf("finding: %+v", f)
				}
				return
			}
			v, _ := s.View()
			svc, _ := Get[*corev1.Service](v, "Service", "shop", "web")
			if got := strings.Join(svc.Spec.ClusterIPs, " "); got != c.want {
				t.Errorf("clusterIPs %q, want %q", got, c.want)
			}
		})
	}
}

func TestAddressesRunOutAndComeBack(t *testing.T) {
	s := testStore()
	n := 0
	for ; s.Apply(service("s"+string(rune('a'+n)), nil)) == nil; n++ {
	}
	if n != 12 { // .20 to .31 of a /27
		t.Errorf("%d addresses", n)
	}
	s.Delete(report.Object{Kind: "Service", Namespace: "shop", Name: "sa"})
	if f := s.Apply(service("next", nil)); f != nil {
		t.Error(f)
	}
}

func TestApplyKeepsWhatTheLabKnows(t *testing.T) {
	s := testStore()
	get := func() *corev1.Service {
		v, _ := s.View()
		svc, _ := Get[*corev1.Service](v, "Service", "shop", "web")
		return svc
	}
	s.Apply(service("web", nil))
	first := get()
	s.Apply(service("web", nil))
	if get() != first {
		t.Error("a repetition is a change")
	}
	annotated := service("web", nil)
	annotated.Annotations = map[string]string{"a": "b"}
	s.Apply(annotated)
	if g := get(); g.Generation != 1 || g.UID != first.UID || g.Spec.ClusterIP != first.Spec.ClusterIP {
		t.Errorf("annotated: %+v", g.ObjectMeta)
	}
	s.Apply(service("web", func(s *corev1.ServiceSpec) { s.Ports[0].Port = 81 }))
	if g := get(); g.Generation != 2 || g.UID != first.UID || g.Spec.ClusterIP != first.Spec.ClusterIP || g.ResourceVersion == first.ResourceVersion {
		t.Errorf("changed: %+v", g.ObjectMeta)
	}
	v, _ := s.View()
	if _, ok := Get[*corev1.ServiceAccount](v, "ServiceAccount", "shop", "default"); !ok {
		t.Error("no default service account")
	}
}

func TestDeleteOfNamespaceTakesAll(t *testing.T) {
	s := testStore()
	s.Apply(service("web", nil))
	p := &corev1.Pod{TypeMeta: metav1.TypeMeta{Kind: "Pod"}, ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "p"}}
	s.Put(p)
	if !s.Delete(report.Object{Kind: "Namespace", Name: "shop"}) {
		t.Fatal("it is not there")
	}
	v, _ := s.View()
	left, ok := Get[*corev1.Pod](v, "Pod", "shop", "p")
	if len(v) != 1 || !ok || left.DeletionTimestamp == nil {
		t.Errorf("%v", v)
	}
	s.RemovePod("shop", "p", "another")
	s.RemovePod("shop", "p", left.UID)
	if v, _ := s.View(); len(v) != 0 {
		t.Errorf("%v", v)
	}
}

func TestCheck(t *testing.T) {
	container := corev1.Container{Name: "app", Command: []string{"app"}}
	for _, c := range []struct {
		name  string
		spec  corev1.PodSpec
		field string
	}{
		{name: "fine", spec: corev1.PodSpec{Containers: []corev1.Container{container}}},
		{name: "no command", spec: corev1.PodSpec{Containers: []corev1.Container{container, {Name: "side"}}}, field: "spec.template.spec.containers[1].command"},
		{name: "no command in an init container", spec: corev1.PodSpec{Containers: []corev1.Container{container}, InitContainers: []corev1.Container{{Name: "i"}}},
			field: "spec.template.spec.initContainers[0].command"},
		{name: "no container", field: "spec.template.spec.containers"},
		{name: "host network", spec: corev1.PodSpec{HostNetwork: true, Containers: []corev1.Container{container}}, field: "spec.template.spec.hostNetwork"},
		{name: "a claim", spec: corev1.PodSpec{Containers: []corev1.Container{container}, Volumes: []corev1.Volume{{Name: "v",
			VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{}}}}}, field: "spec.template.spec.volumes[0]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			labels := map[string]string{"app": "x"}
			d := &appsv1.Deployment{
				TypeMeta: metav1.TypeMeta{Kind: "Deployment"},
				Spec: appsv1.DeploymentSpec{
					Selector: &metav1.LabelSelector{MatchLabels: labels},
					Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: c.spec},
				},
			}
			f := Check(d)
			if f == nil && c.field != "" || f != nil && f.Field != c.field {
				t.Errorf("%+v", f)
			}
		})
	}
}

func TestMirror(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "config")
	m, err := NewMirror(dir)
	if err != nil {
		t.Fatal(err)
	}
	s := testStore()
	s.Apply(service("web", nil))
	s.Put(&corev1.ConfigMap{TypeMeta: metav1.TypeMeta{Kind: "ConfigMap"}, ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "c"}})
	v, _ := s.View()
	if err := m.Sync(v); err != nil {
		t.Fatal(err)
	}
	if got, want := files(t, dir), "namespace..shop.yaml service.shop.web.yaml serviceaccount.shop.default.yaml"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	s.Delete(report.Object{Kind: "Service", Namespace: "shop", Name: "web"})
	v, _ = s.View()
	if err := m.Sync(v); err != nil {
		t.Fatal(err)
	}
	if got, want := files(t, dir), "namespace..shop.yaml serviceaccount.shop.default.yaml"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func files(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return strings.Join(out, " ")
}
