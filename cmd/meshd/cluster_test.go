package main

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
	"github.com/meshd-io/meshd/internal/kubetest"
)

var kube kubetest.Shared

func TestMain(m *testing.M) {
	code := m.Run()
	kube.Stop()
	os.Exit(code)
}

// startInCluster runs `meshd serve` against an API server, as one of its replicas.
func startInCluster(t *testing.T, c *kubetest.Cluster) *served {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	s := &served{cancel: cancel, done: make(chan error, 1), flags: serveFlags{
		grpcAddress: freeAddress(t), httpAddress: freeAddress(t), adminSocket: filepath.Join(t.TempDir(), "admin.sock"),
		namespace: "meshd-system", logLevel: "info", cluster: clusterFlags{
			kubeconfig: c.Kubeconfig(t), webhookAddress: freeAddress(t), debugAddress: freeAddress(t),
			webhookConfiguration: "meshd-injector", service: "meshd", agentImage: "agent:test", proxyImage: "proxy:test",
			gatewayReplicas: 3,
		},
	}}
	go func() {
		defer close(s.done)
		if err := serve(ctx, s.flags); err != nil {
			t.Errorf("serve: %v", err)
		}
	}()
	t.Cleanup(s.stop)
	until(t, "meshd is ready", func(context.Context) bool { return s.get("/readyz") == "200 ok" })
	return s
}

func until(t *testing.T, what string, holds func(context.Context) bool) {
	t.Helper()
	kubetest.Until(t, what, func(ctx context.Context) (bool, error) { return holds(ctx), nil })
}

func create(t *testing.T, c client.Client, objects ...client.Object) {
	t.Helper()
	for _, o := range objects {
		if err := c.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
}

// TestInCluster: one meshd on a real API server does everything that needs no
// kubelet. What each part does is in the tests of its package.
func TestInCluster(t *testing.T) {
	c := kube.Get(t)
	k := c.Client(t)
	system := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "meshd-system"}}
	none := admissionregistrationv1.SideEffectClassNone
	path := "/inject"
	create(t, k, system, &admissionregistrationv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "meshd-injector"},
		Webhooks: []admissionregistrationv1.MutatingWebhook{{
			Name: "namespace.inject.meshd.io", SideEffects: &none, AdmissionReviewVersions: []string{"v1"},
			ClientConfig: admissionregistrationv1.WebhookClientConfig{
				Service: &admissionregistrationv1.ServiceReference{Namespace: "meshd-system", Name: "meshd", Path: &path}},
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"meshd.io/inject": "enabled"}},
		}},
	})
	shop := c.Namespace(t, map[string]string{"meshd.io/inject": "enabled"})
	class := "meshd"
	create(t, k,
		&meshv1a1.PeerAuthentication{ObjectMeta: metav1.ObjectMeta{Namespace: shop, Name: "default"}, Spec: meshv1a1.PeerAuthenticationSpec{Mode: meshv1a1.Strict}},
		&networkingv1.IngressClass{ObjectMeta: metav1.ObjectMeta{Name: class}, Spec: networkingv1.IngressClassSpec{Controller: "meshd.io/ingress"}},
		&networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Namespace: shop, Name: "edge"}, Spec: networkingv1.IngressSpec{
			IngressClassName: &class,
			DefaultBackend:   &networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{Name: "none", Port: networkingv1.ServiceBackendPort{Number: 80}}},
		}},
	)
	s := startInCluster(t, c)

	until(t, "the policy is Programmed", func(ctx context.Context) bool {
		var p meshv1a1.PeerAuthentication
		if err := k.Get(ctx, client.ObjectKey{Namespace: shop, Name: "default"}, &p); err != nil {
			t.Fatal(err)
		}
		return p.Status.ObservedGeneration == p.Generation && meta.IsStatusConditionTrue(p.Status.Conditions, "Programmed")
	})
	var root corev1.Secret
	if err := k.Get(t.Context(), client.ObjectKey{Namespace: "meshd-system", Name: "meshd-root"}, &root); err != nil {
		t.Fatal(err)
	}
	anchor := string(root.Data["tls.crt"])
	until(t, "the webhook is known by the mesh's root", func(ctx context.Context) bool {
		var w admissionregistrationv1.MutatingWebhookConfiguration
		if err := k.Get(ctx, client.ObjectKey{Name: "meshd-injector"}, &w); err != nil {
			t.Fatal(err)
		}
		return string(w.Webhooks[0].ClientConfig.CABundle) == anchor
	})
	until(t, "the trust anchor is in the namespace", func(ctx context.Context) bool {
		var m corev1.ConfigMap
		err := k.Get(ctx, client.ObjectKey{Namespace: shop, Name: "meshd-trust"}, &m)
		return err == nil && m.Data["ca.crt"] == anchor
	})
	until(t, "the Ingress has its gateway", func(ctx context.Context) bool {
		var gateway appsv1.Deployment
		return k.Get(ctx, client.ObjectKey{Namespace: "meshd-system", Name: "meshd-ingress"}, &gateway) == nil && *gateway.Spec.Replicas == 3
	})
	debug, err := http.Get("http://" + s.flags.cluster.debugAddress + "/state")
	if err != nil || debug.StatusCode != http.StatusOK {
		t.Errorf("state by loopback: %v, %v", debug, err)
	}
	debug.Body.Close()
}
