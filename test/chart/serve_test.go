package chart

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
	"github.com/meshd-io/meshd/internal/kubetest"
)

// TestRightsSuffice runs the real meshd as the chart's service account. It does
// all of its work, and the API server's audit log has no refusal.
func TestRightsSuffice(t *testing.T) {
	dir := t.TempDir()
	audit := filepath.Join(dir, "audit.log")
	policy := filepath.Join(dir, "audit.yaml")
	if err := os.WriteFile(policy, []byte("apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules: [{level: Metadata}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := kubetest.Start(t, kubetest.Options{NoCRDs: true, Args: map[string][]string{"audit-log-path": {audit}, "audit-policy-file": {policy}}})
	mustHelm(t, c, "install", "meshd", chartDir, "-n", namespace, "--create-namespace")
	api := c.Client(t)
	shop := c.Namespace(t, map[string]string{"meshd.io/inject": "enabled"})
	class, path := "meshd", networkingv1.PathTypePrefix
	for _, o := range []client.Object{
		&meshv1a1.PeerAuthentication{ObjectMeta: metav1.ObjectMeta{Namespace: shop, Name: "default"}, Spec: meshv1a1.PeerAuthenticationSpec{Mode: meshv1a1.Strict}},
		&networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Namespace: shop, Name: "edge"}, Spec: networkingv1.IngressSpec{
			IngressClassName: &class,
			Rules: []networkingv1.IngressRule{{IngressRuleValue: networkingv1.IngressRuleValue{HTTP: &networkingv1.HTTPIngressRuleValue{
				Paths: []networkingv1.HTTPIngressPath{{Path: "/", PathType: &path, Backend: networkingv1.IngressBackend{
					Service: &networkingv1.IngressServiceBackend{Name: "none", Port: networkingv1.ServiceBackendPort{Number: 80}}}}}}}}},
		}},
	} {
		if err := api.Create(context.Background(), o); err != nil {
			t.Fatal(err)
		}
	}
	stop := serve(t, c, readFile(t, "testdata/default.yaml"))
	for what, done := range map[string]func(context.Context) (bool, error){
		"the policy is Programmed": func(ctx context.Context) (bool, error) {
			var p meshv1a1.PeerAuthentication
			err := api.Get(ctx, client.ObjectKey{Namespace: shop, Name: "default"}, &p)
			return err == nil && meta.IsStatusConditionTrue(p.Status.Conditions, "Programmed"), err
		},
		"the API server knows the webhook": func(ctx context.Context) (bool, error) {
			var w admissionregistrationv1.MutatingWebhookConfiguration
			err := api.Get(ctx, client.ObjectKey{Name: "meshd-injector"}, &w)
			return err == nil && len(w.Webhooks) == 2 && len(w.Webhooks[0].ClientConfig.CABundle) > 0 && len(w.Webhooks[1].ClientConfig.CABundle) > 0, err
		},
		"the trust anchor is in the namespace": func(ctx context.Context) (bool, error) {
			return there(api.Get(ctx, client.ObjectKey{Namespace: shop, Name: "meshd-trust"}, &corev1.ConfigMap{}))
		},
		"the trust anchor is a ClusterTrustBundle": func(ctx context.Context) (bool, error) {
			return there(api.Get(ctx, client.ObjectKey{Name: "meshd.io:workload:anchor"}, &certificatesv1.ClusterTrustBundle{}))
		},
		"the gateway is there": func(ctx context.Context) (bool, error) {
			return there(api.Get(ctx, client.ObjectKey{Namespace: namespace, Name: "meshd-ingress"}, &appsv1.Deployment{}))
		},
		"an Event tells of the Ingress's missing Service": func(ctx context.Context) (bool, error) {
			var list eventsv1.EventList
			err := api.List(ctx, &list, client.InNamespace(shop))
			return slices.ContainsFunc(list.Items, func(e eventsv1.Event) bool { return e.Regarding.Name == "edge" }), err
		},
	} {
		kubetest.Until(t, what, done)
	}
	stop()
	used := map[string]bool{}
	for _, e := range auditOf(t, audit) {
		if e.ImpersonatedUser == nil || e.ImpersonatedUser.Username != "system:serviceaccount:"+namespace+":meshd" || e.ObjectRef == nil {
			continue
		}
		what := fmt.Sprintf("%s %s.%s/%s", e.Verb, e.ObjectRef.Resource, e.ObjectRef.APIGroup, e.ObjectRef.Subresource)
		used[what] = true
		if e.ResponseStatus != nil && e.ResponseStatus.Code == http.StatusForbidden {
			t.Errorf("refused: %s of %s/%s: %s", what, e.ObjectRef.Namespace, e.ObjectRef.Name, e.ResponseStatus.Message)
		}
	}
	for _, want := range []string{"watch pods./", "watch secrets./", "create secrets./", "create leases.coordination.k8s.io/", "patch peerauthentications.meshd.io/status"} {
		if !used[want] {
			t.Errorf("the audit log has no %q", want)
		}
	}
}

func there(err error) (bool, error) { return err == nil, client.IgnoreNotFound(err) }

// TestTrustDomainComesFirst: helm makes MeshConfig after the Deployment, or changes it after. A pod
// that is faster than helm has the trust domain of the values all the same.
func TestTrustDomainComesFirst(t *testing.T) {
	c := kubetest.Start(t, kubetest.Options{NoCRDs: true})
	const values = "meshConfig: {trustDomain: new.test, scope: All}"
	mustHelm(t, c, "install", "meshd", chartDir, "-n", namespace, "--create-namespace", "--values", file(t, values))
	api := c.Client(t)
	for name, before := range map[string]*meshv1a1.MeshConfigSpec{
		"before it is made": nil, "before it is changed": {TrustDomain: "old.test"}, "before it says so": {Scope: "All"},
	} {
		t.Run(name, func(t *testing.T) {
			config := &meshv1a1.MeshConfig{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
			if err := api.Delete(t.Context(), config); client.IgnoreNotFound(err) != nil {
				t.Fatal(err)
			}
			if before != nil {
				config.Spec = *before
				if err := api.Create(t.Context(), config); err != nil {
					t.Fatal(err)
				}
			}
			address := free(t)
			stop := serve(t, c, render(t, values), "--grpc-address="+address)
			defer stop()
			kubetest.Until(t, "meshd shows a certificate of new.test", func(ctx context.Context) (bool, error) {
				conn, err := (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}).DialContext(ctx, "tcp", address)
				if err != nil {
					return false, err // it is starting
				}
				defer conn.Close()
				if got := conn.(*tls.Conn).ConnectionState().PeerCertificates[0].URIs; len(got) != 1 || got[0].Host != "new.test" {
					return false, fmt.Errorf("it is of %v", got)
				}
				return true, nil
			})
		})
	}
}

// serve runs meshd as the Deployment of a rendered chart would, with the rights of its account.
func serve(t *testing.T, c *kubetest.Cluster, rendered string, more ...string) (stop func()) {
	t.Helper()
	if os.Getenv("MESHD_BIN") == "" {
		t.Skip("NOT TESTED: MESHD_BIN is not set")
	}
	config, err := clientcmd.LoadFromFile(c.Kubeconfig(t))
	if err != nil {
		t.Fatal(err)
	}
	as := c.As(namespace, "meshd").Impersonate
	for _, user := range config.AuthInfos {
		user.Impersonate, user.ImpersonateGroups = as.UserName, as.Groups
	}
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*config, kubeconfig); err != nil {
		t.Fatal(err)
	}
	var deployment appsv1.Deployment
	read(t, find(objects(t, rendered), "Deployment", "meshd"), &deployment)
	args := slices.Concat(deployment.Spec.Template.Spec.Containers[0].Args, []string{
		"--kubeconfig=" + kubeconfig, "--grpc-address=" + free(t), "--http-address=" + free(t), "--webhook-address=" + free(t), "--debug-address=" + free(t),
		"--admin-socket=" + filepath.Join(t.TempDir(), "admin.sock"),
	}, more)
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, filepath.Join(os.Getenv("MESHD_BIN"), "meshd"), args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = kubetest.Patience
	log := &bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = cmd.Wait() }()
	stop = func() {
		cancel()
		<-ended
		if t.Failed() {
			t.Logf("meshd said:\n%s", log)
		}
	}
	t.Cleanup(stop)
	return stop
}

func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func auditOf(t *testing.T, path string) []auditv1.Event {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out []auditv1.Event
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e auditv1.Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatal(err)
		}
		out = append(out, e)
	}
	return out
}
