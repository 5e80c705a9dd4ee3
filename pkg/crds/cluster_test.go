package crds

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
	"github.com/meshd-io/meshd/internal/kubetest"
	"github.com/meshd-io/meshd/pkg/report"
)

var cluster kubetest.Shared

// withCluster stops the cluster before leaks are looked for.
type withCluster struct{ m *testing.M }

func (w withCluster) Run() int {
	ctrllog.SetLogger(logr.Discard())
	defer cluster.Stop()
	return w.m.Run()
}

// taken is what a source has offered.
type taken struct {
	t      testing.TB
	source *ClusterSource

	mu        sync.Mutex
	snapshots []*Snapshot
	findings  []report.Finding
}

func (k *taken) take(s *Snapshot, fs []report.Finding) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.snapshots, k.findings = append(k.snapshots, s), fs
}

// last waits for what is in the API server, and gives the newest snapshot and how many there were.
func (k *taken) last() (*Snapshot, int) {
	k.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), kubetest.Patience)
	defer cancel()
	if err := k.source.Rescan(ctx); err != nil {
		k.t.Fatal(err)
	}
	return k.now()
}

// now gives the newest snapshot without asking the API server.
func (k *taken) now() (*Snapshot, int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.snapshots[len(k.snapshots)-1], len(k.snapshots)
}

// watchCluster runs a source until the end of the test.
func watchCluster(t testing.TB, config *rest.Config, change ...func(*ClusterSource)) *taken {
	t.Helper()
	source, err := NewClusterSource(config, ClusterOptions{Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range change {
		f(source)
	}
	ctx, cancel := context.WithCancel(context.Background())
	if _, _, err := source.Load(ctx); err != nil {
		t.Fatal(err)
	}
	k := &taken{t: t, source: source}
	done := make(chan error, 1)
	first := make(chan struct{})
	go func() {
		once := sync.OnceFunc(func() { close(first) })
		done <- source.Run(ctx, func(s *Snapshot, fs []report.Finding) { k.take(s, fs); once() })
	}()
	<-first
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return k
}

func create(t testing.TB, api client.Client, objects ...client.Object) {
	t.Helper()
	for _, o := range objects {
		if err := api.Create(context.Background(), o); err != nil {
			t.Fatal(err)
		}
	}
}

func update(t testing.TB, api client.Client, o client.Object) {
	t.Helper()
	if err := api.Update(context.Background(), o); err != nil {
		t.Fatal(err)
	}
}

func remove(t testing.TB, api client.Client, o client.Object) {
	t.Helper()
	if err := api.Delete(context.Background(), o, client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
}

func named(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name}
}

func service(namespace, name string) *corev1.Service {
	return &corev1.Service{ObjectMeta: named(namespace, name), Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}
}

func endpointSlice(namespace, name string, addresses ...string) *discoveryv1.EndpointSlice {
	out := &discoveryv1.EndpointSlice{ObjectMeta: named(namespace, name), AddressType: discoveryv1.AddressTypeIPv4}
	out.Labels = map[string]string{discoveryv1.LabelServiceName: "s"}
	for _, a := range addresses {
		out.Endpoints = append(out.Endpoints, discoveryv1.Endpoint{Addresses: []string{a}})
	}
	return out
}

func trafficPolicy(namespace, name string) *meshv1a1.TrafficPolicy {
	return &meshv1a1.TrafficPolicy{ObjectMeta: named(namespace, name), Spec: meshv1a1.TrafficPolicySpec{
		TargetRefs:      []meshv1a1.TargetRef{{Kind: "Service", Name: "s"}},
		TrafficSettings: meshv1a1.TrafficSettings{Protocol: "HTTP2"},
	}}
}

// in gives the objects of a namespace.
func in[T client.Object](objects []T, namespace string) map[string]T {
	out := map[string]T{}
	for _, o := range objects {
		if o.GetNamespace() == namespace {
			out[o.GetName()] = o
		}
	}
	return out
}

func TestClusterReadsEveryKind(t *testing.T) {
	c := cluster.Get(t)
	api, ns := c.Client(t), c.Namespace(t, map[string]string{"meshd.io/inject": "enabled"})
	class := &networkingv1.IngressClass{ObjectMeta: named("", ns), Spec: networkingv1.IngressClassSpec{Controller: "meshd.io/ingress"}}
	pathType := networkingv1.PathTypePrefix
	ingress := &networkingv1.Ingress{ObjectMeta: named(ns, "web"), Spec: networkingv1.IngressSpec{
		IngressClassName: &ns,
		Rules: []networkingv1.IngressRule{{IngressRuleValue: networkingv1.IngressRuleValue{HTTP: &networkingv1.HTTPIngressRuleValue{
			Paths: []networkingv1.HTTPIngressPath{{Path: "/", PathType: &pathType, Backend: networkingv1.IngressBackend{
				Service: &networkingv1.IngressServiceBackend{Name: "s", Port: networkingv1.ServiceBackendPort{Number: 80}},
			}}},
		}}}},
	}}
	tls := &corev1.Secret{ObjectMeta: named(ns, "cert"), Type: corev1.SecretTypeTLS, Data: map[string][]byte{"tls.crt": []byte("c"), "tls.key": []byte("k"), "other": []byte("o")}}
	opaque := &corev1.Secret{ObjectMeta: named(ns, "password"), Data: map[string][]byte{"tls.crt": []byte("c")}}
	node := &corev1.Node{ObjectMeta: named("", ns), Spec: corev1.NodeSpec{PodCIDR: "10.77.1.0/24", PodCIDRs: []string{"10.77.1.0/24", "fd77::/64"}}}
	create(t, api, service(ns, "s"), endpointSlice(ns, "s-1", "10.77.1.2"), &corev1.ServiceAccount{ObjectMeta: named(ns, "app")},
		class, ingress, tls, opaque, node, trafficPolicy(ns, "p"),
		&meshv1a1.PeerAuthentication{ObjectMeta: named(ns, "p"), Spec: meshv1a1.PeerAuthenticationSpec{Mode: "Strict"}},
		&corev1.Pod{ObjectMeta: named(ns, "a"), Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app"}}}})
	defer remove(t, api, node)

	k := watchCluster(t, c.Config)
	s, count := k.now()
	if count != 1 {
		t.Errorf("%d snapshots at the start, want one that has everything", count)
	}
	for _, kind := range []struct {
		name string
		have int
	}{
		{"Service", len(in(s.Services, ns))}, {"EndpointSlice", len(in(s.EndpointSlices, ns))}, {"Pod", len(in(s.Pods, ns))},
		{"ServiceAccount", len(in(s.ServiceAccounts, ns))}, {"Secret", len(in(s.Secrets, ns))}, {"Ingress", len(in(s.Ingresses, ns))},
		{"TrafficPolicy", len(in(s.TrafficPolicies, ns))}, {"PeerAuthentication", len(in(s.PeerAuthentications, ns))},
		{"IngressClass", len(in(s.IngressClasses, ""))}, {"Namespace", min(1, len(in(s.Namespaces, "")))},
	} {
		if kind.have != 1 {
			t.Errorf("%d %s, want 1", kind.have, kind.name)
		}
	}
	if got := in(s.Namespaces, "")[ns]; got == nil || got.Labels["meshd.io/inject"] != "enabled" || got.Kind != "Namespace" {
		t.Errorf("namespace %v", got)
	}
	if secret := in(s.Secrets, ns)["cert"]; secret == nil || len(secret.Data) != 2 {
		t.Errorf("secret %v, want tls.crt and tls.key only", secret)
	}
	if got, want := fmt.Sprint(s.CIDRs), "[10.77.1.0/24 10.96.0.0/12 fd77::/64]"; got != want {
		t.Errorf("CIDRs %s, want %s", got, want)
	}
	if !slices.IsSortedFunc(s.Services, func(a, b *corev1.Service) int {
		return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name)
	}) {
		t.Error("Services are not sorted")
	}
	if absent := k.source.Absent(); len(absent) > 0 {
		t.Errorf("absent: %v", absent)
	}
}
