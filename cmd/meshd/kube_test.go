package main

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshd-io/meshd/internal/kubetest"
	"github.com/meshd-io/meshd/internal/version"
	"github.com/meshd-io/meshd/pkg/check"
	"github.com/meshd-io/meshd/pkg/console"
)

// fixedState is a meshd that always tells the same.
type fixedState struct{ state console.State }

func (f fixedState) State() console.State         { return f.state }
func (f fixedState) Settle(context.Context) error { return nil }

// The tools have a cluster of their own, since they judge all of it.
func TestToolsInACluster(t *testing.T) {
	c := kubetest.Start(t, kubetest.Options{})
	for name, test := range map[string]func(*testing.T, *kubetest.Cluster){
		"proxies": testProxiesOfACluster, "no cluster": testNoClusterToAsk, "check": testCheckOfACluster,
		"role": testToolsNeedOnlyTheirRole, "translate": testTranslateACluster,
	} {
		t.Run(name, func(t *testing.T) { test(t, c) })
	}
}

func proxyNamed(name string, connected time.Time) console.Proxy {
	return console.Proxy{
		Name: name, Identity: "spiffe://cluster.local/ns/shop/sa/x", Synced: true,
		Connected: connected, CertificateExpires: connected.Add(time.Hour), Types: []console.ProxyType{},
	}
}

func testProxiesOfACluster(t *testing.T, c *kubetest.Cluster) {
	k := startKubelet(t, c)
	namespace := c.Namespace(t, nil)
	start := time.Now().UTC().Truncate(time.Second)
	k.meshdPod(t, c, namespace, "meshd-a", console.State{Ready: true, Proxies: []console.Proxy{proxyNamed("shop/a", start), proxyNamed("shop/b", start)}})
	k.meshdPod(t, c, namespace, "meshd-b", console.State{Ready: true, Proxies: []console.Proxy{proxyNamed("shop/b", start.Add(time.Second))}})
	args := []string{"proxies", "--kubeconfig", c.Kubeconfig(t), "-n", namespace}

	out, _, err := meshd(t, append(args, "-o", "json")...)
	if err != nil {
		t.Fatal(err)
	}
	var rows []proxyRow
	if err := json.Unmarshal([]byte(out), &rows); err != nil {
		t.Fatal(err)
	}
	if len(rows) != 2 || rows[0].Replica != "meshd-a" || rows[1].Name != "shop/b" || rows[1].Replica != "meshd-b" {
		t.Errorf("%+v", rows)
	}

	k.mu.Lock()
	k.pods["meshd-b"] = nil
	k.mu.Unlock()
	out, _, err = meshd(t, args...)
	if err == nil || !strings.Contains(err.Error(), "meshd-b") || !strings.Contains(err.Error(), "nobody listens on port 15016") || strings.Contains(err.Error(), "\n") {
		t.Errorf("a replica that does not answer: %v", err)
	}
	if !strings.Contains(out, "shop/a") {
		t.Errorf("what the other one knows is not told: %q", out)
	}
}

func testNoClusterToAsk(t *testing.T, c *kubetest.Cluster) {
	namespace := c.Namespace(t, nil)
	for _, command := range []string{"proxies", "check"} {
		_, _, err := meshd(t, command, "--kubeconfig", c.Kubeconfig(t), "-n", namespace)
		if err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", command, err)
		}
	}
	nowhere := t.TempDir() + "/kubeconfig"
	write(t, nowhere, `{"apiVersion":"v1","kind":"Config","current-context":"x","contexts":[{"name":"x","context":{"cluster":"x","user":"x"}}],`+
		`"clusters":[{"name":"x","cluster":{"server":"https://127.0.0.1:1"}}],"users":[{"name":"x","user":{}}]}`)
	for _, args := range [][]string{{"proxies"}, {"check"}, {"translate", "--workload", "shop/x"}} {
		_, _, err := meshd(t, append(args, "--kubeconfig", nowhere)...)
		if err == nil || !strings.Contains(err.Error(), "https://127.0.0.1:1 cannot be reached") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", args[0], err)
		}
	}
}

// install makes what the chart and meshd would, all of it well.
func install(t *testing.T, c *kubetest.Cluster, k *kubelet, namespace string) {
	t.Helper()
	bundle := rootPEM(t)
	labels := map[string]string{"app.kubernetes.io/name": "meshd", "app.kubernetes.io/component": "control-plane"}
	one := int32(1)
	deployment := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "meshd", Labels: labels},
		Spec: appsv1.DeploymentSpec{Replicas: &one, Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "meshd", Image: "meshd"}}},
		}},
	}
	path, port, none := "/inject", int32(443), admissionregistrationv1.SideEffectClassNone
	fail := admissionregistrationv1.Fail
	var entries []admissionregistrationv1.MutatingWebhook
	for _, name := range []string{"namespace.inject.meshd.io", "pod.inject.meshd.io"} {
		entries = append(entries, admissionregistrationv1.MutatingWebhook{
			Name: name, SideEffects: &none, FailurePolicy: &fail, AdmissionReviewVersions: []string{"v1"},
			ObjectSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"nobody": "has-this"}},
			ClientConfig: admissionregistrationv1.WebhookClientConfig{CABundle: bundle,
				Service: &admissionregistrationv1.ServiceReference{Namespace: namespace, Name: "meshd", Path: &path, Port: &port}},
			Rules: []admissionregistrationv1.RuleWithOperations{{Operations: []admissionregistrationv1.OperationType{"CREATE"},
				Rule: admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}}}},
		})
	}
	webhook := &admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: webhookConfiguration}, Webhooks: entries}
	yes := true
	create(t, c.Client(t), deployment, webhook,
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "meshd-trust"}, Data: map[string]string{"ca.crt": string(bundle)}},
		&discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Namespace: namespace, Name: "meshd-x", Labels: map[string]string{discoveryv1.LabelServiceName: "meshd"}},
			AddressType: discoveryv1.AddressTypeIPv4,
			Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{"10.244.0.2"}, Conditions: discoveryv1.EndpointConditions{Ready: &yes}}},
		})
	t.Cleanup(func() { _ = c.Client(t).Delete(context.Background(), webhook) })
	deployment.Status = appsv1.DeploymentStatus{
		ObservedGeneration: 1, Replicas: 1, ReadyReplicas: 1, UpdatedReplicas: 1, AvailableReplicas: 1,
		Conditions: []appsv1.DeploymentCondition{{Type: appsv1.DeploymentAvailable, Status: corev1.ConditionTrue}},
	}
	if err := c.Client(t).Status().Update(t.Context(), deployment); err != nil {
		t.Fatal(err)
	}
	root, err := x509Certificate(bundle)
	if err != nil {
		t.Fatal(err)
	}
	k.meshdPod(t, c, namespace, "meshd-a", console.State{
		Ready: true, Synced: true, Version: version.Version, Authority: &console.Authority{Roots: []console.Certificate{root}, Issuer: root},
	})
}

type checkOutput struct {
	Healthy bool
	Checks  []check.Result
}

func runCheck(t *testing.T, args ...string) (checkOutput, error) {
	t.Helper()
	text, _, err := meshd(t, append([]string{"check", "-o", "json"}, args...)...)
	var out checkOutput
	if text != "" {
		if err := json.Unmarshal([]byte(text), &out); err != nil {
			t.Fatal(err)
		}
	}
	return out, err
}

func (o checkOutput) of(name string) check.Result {
	for _, r := range o.Checks {
		if r.Check == name {
			return r
		}
	}
	return check.Result{}
}

func testCheckOfACluster(t *testing.T, c *kubetest.Cluster) {
	k := startKubelet(t, c)
	namespace := c.Namespace(t, nil)
	args := []string{"--kubeconfig", c.Kubeconfig(t), "-n", namespace}

	before, err := runCheck(t, args...)
	if err == nil || before.Healthy || before.of("deployment").Level != check.Fail || before.of("webhook").Level != check.Fail {
		t.Errorf("an empty cluster: %v, %+v", err, before)
	}
	if got := before.of("definitions"); got.Level != check.OK {
		t.Errorf("what the API server makes of the definitions is not what they are: %+v", got)
	}
	install(t, c, k, namespace)
	after, err := runCheck(t, args...)
	for _, r := range after.Checks {
		if r.Level != check.OK && r.Check != "objects" { // which the tests of a shared cluster leave behind
			t.Errorf("%+v", r)
		}
	}
	if (err == nil) != after.Healthy {
		t.Errorf("healthy %t, and the exit says %v", after.Healthy, err)
	}
	text, _, _ := meshd(t, append([]string{"check"}, args...)...)
	if lines := strings.Count(text, "\n"); lines != 1+len(after.Checks) {
		t.Errorf("%d lines for %d checks:\n%s", lines, len(after.Checks), text)
	}
}

// The chart's roles are what the tools need, and all that they need.
func testToolsNeedOnlyTheirRole(t *testing.T, c *kubetest.Cluster) {
	k := startKubelet(t, c)
	namespace := c.Namespace(t, nil)
	install(t, c, k, namespace)
	nobody := userKubeconfig(t, c, namespace, "nobody")
	for _, args := range [][]string{{"proxies"}, {"translate", "--workload", "shop/x"}} {
		_, _, err := meshd(t, append(args, "--kubeconfig", nobody, "-n", namespace)...)
		if err == nil || !strings.Contains(err.Error(), "refuses") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", args[0], err)
		}
	}
	blind, err := runCheck(t, "--kubeconfig", nobody, "-n", namespace)
	if err == nil || blind.Healthy {
		t.Errorf("%v, %+v", err, blind)
	}
	for _, r := range blind.Checks {
		if r.Level != check.Warn || !strings.Contains(r.Message, "not known") {
			t.Errorf("%+v", r)
		}
	}
	grant(t, c, namespace, "viewer")
	viewer := userKubeconfig(t, c, namespace, "viewer")
	awaitRole(t, c, namespace, "viewer")
	seen, _ := runCheck(t, "--kubeconfig", viewer, "-n", namespace)
	for _, r := range seen.Checks {
		if strings.Contains(r.Message, "not known") {
			t.Errorf("%+v", r)
		}
	}
	if _, _, err := meshd(t, "proxies", "--kubeconfig", viewer, "-n", namespace); err != nil {
		t.Error(err)
	}
	if _, _, err := meshd(t, "translate", "--workload", "shop/x", "--kubeconfig", viewer); err == nil || !strings.Contains(err.Error(), "there is no pod") {
		t.Errorf("%v", err)
	}
}

// viewerRules are the chart's roles meshd-check, and what translate needs beside them.
func viewerRules() (everywhere, own []rbacv1.PolicyRule) {
	read := []string{"list"}
	return []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"namespaces", "pods", "nodes", "services", "serviceaccounts"}, Verbs: read},
		{APIGroups: []string{"discovery.k8s.io"}, Resources: []string{"endpointslices"}, Verbs: read},
		{APIGroups: []string{"networking.k8s.io"}, Resources: []string{"servicecidrs", "ingresses", "ingressclasses"}, Verbs: read},
		{APIGroups: []string{"meshd.io"}, Resources: []string{"*"}, Verbs: read},
		{APIGroups: []string{"apiextensions.k8s.io"}, Resources: []string{"customresourcedefinitions"}, Verbs: []string{"get"}},
		{APIGroups: []string{"admissionregistration.k8s.io"}, Resources: []string{"mutatingwebhookconfigurations"}, ResourceNames: []string{webhookConfiguration}, Verbs: []string{"get"}},
	}, []rbacv1.PolicyRule{
		{APIGroups: []string{"apps"}, Resources: []string{"deployments"}, Verbs: read},
		{APIGroups: []string{""}, Resources: []string{"configmaps"}, ResourceNames: []string{"meshd-trust"}, Verbs: []string{"get"}},
		{APIGroups: []string{""}, Resources: []string{"pods/portforward"}, Verbs: []string{"get", "create"}},
	}
}

func testTranslateACluster(t *testing.T, c *kubetest.Cluster) {
	namespace := c.Namespace(t, map[string]string{"meshd.io/inject": "enabled"})
	controller := true
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "loans-5d9-x", Labels: map[string]string{"app": "loans", "pod-template-hash": "5d9"},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "loans-5d9", UID: "1", Controller: &controller}}},
		Spec: corev1.PodSpec{ServiceAccountName: "loans", Containers: []corev1.Container{
			{Name: "app", Image: "app", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8090}}}, {Name: "meshd-proxy", Image: "envoy"},
		}},
	}
	create(t, c.Client(t), pod, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "loans"},
		Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "loans"}, Ports: []corev1.ServicePort{{Name: "http", Port: 8090}}}})
	t.Cleanup(func() { _ = c.Client(t).Delete(context.Background(), pod, client.GracePeriodSeconds(0)) }) // no meshd knows it
	pod.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "10.244.9.9", PodIPs: []corev1.PodIP{{IP: "10.244.9.9"}},
		Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}
	if err := c.Client(t).Status().Update(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	var outputs []string
	for _, name := range []string{"loans", "loans-5d9-x"} {
		out, errs, _ := meshd(t, "translate", "--kubeconfig", c.Kubeconfig(t), "--workload", namespace+"/"+name, "-o", "json")
		if !json.Valid([]byte(out)) || !strings.Contains(out, "Listener") || !strings.Contains(out, "in|8090") {
			t.Errorf("%s: %.300s %s", name, out, errs)
		}
		outputs = append(outputs, out)
	}
	if outputs[0] != outputs[1] {
		t.Error("a Deployment and its pod give different resources")
	}
	_, _, err := meshd(t, "translate", "--kubeconfig", c.Kubeconfig(t), "--workload", namespace+"/nobody")
	if err == nil || !strings.Contains(err.Error(), "there are [loans]") {
		t.Errorf("%v", err)
	}
}
