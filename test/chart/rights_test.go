package chart

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/meshd-io/meshd/internal/golden"
	"github.com/meshd-io/meshd/internal/kubetest"
)

// rules is what `kubectl auth can-i --list` shows of meshd in a namespace, less
// what every service account may do.
func rules(t *testing.T, c *kubetest.Cluster, namespace, account, in string) []string {
	t.Helper()
	list := func(account string) []string {
		review, err := kubernetes.NewForConfigOrDie(c.As(namespace, account)).AuthorizationV1().SelfSubjectRulesReviews().Create(context.Background(),
			&authorizationv1.SelfSubjectRulesReview{Spec: authorizationv1.SelfSubjectRulesReviewSpec{Namespace: in}}, metav1.CreateOptions{})
		if err != nil || review.Status.Incomplete {
			t.Fatalf("%v, incomplete: %v", err, review.Status.Incomplete)
		}
		var out []string
		for _, r := range review.Status.ResourceRules {
			for _, group := range r.APIGroups {
				for _, resource := range r.Resources {
					names := r.ResourceNames
					if len(names) == 0 {
						names = []string{""}
					}
					for _, name := range names {
						slices.Sort(r.Verbs)
						out = append(out, strings.TrimSuffix(fmt.Sprintf("%s.%s %s", resource, group, name), " ")+": "+strings.Join(r.Verbs, " "))
					}
				}
			}
		}
		for _, r := range review.Status.NonResourceRules {
			for _, url := range r.NonResourceURLs {
				out = append(out, url+": "+strings.Join(r.Verbs, " "))
			}
		}
		slices.Sort(out)
		return slices.Compact(out)
	}
	anyone := list("anyone")
	return slices.DeleteFunc(list(account), func(rule string) bool { return slices.Contains(anyone, rule) })
}

// The exact list, in meshd's own namespace and in any other.
func TestRights(t *testing.T) {
	c := installed(t)
	elsewhere := c.Namespace(t, nil)
	everywhere := rules(t, c, namespace, "meshd", elsewhere)
	own := slices.DeleteFunc(rules(t, c, namespace, "meshd", namespace), func(rule string) bool { return slices.Contains(everywhere, rule) })
	text := "In every namespace\n  " + strings.Join(everywhere, "\n  ") + "\nIn its own as well\n  " + strings.Join(own, "\n  ") + "\n"
	golden.Check(t, "testdata/rights.txt", []byte(text))
	if strings.Contains(text, "*") {
		t.Error("a wildcard")
	}
}

// What the Job of an upgrade and the pod of helm test may do, while they are there.
func TestRightsOfHooks(t *testing.T) {
	c := kubetest.Start(t, kubetest.Options{NoCRDs: true})
	api := c.Client(t)
	if err := api.Create(context.Background(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}); err != nil {
		t.Fatal(err)
	}
	for _, o := range objects(t, readFile(t, "testdata/default.yaml")) {
		if o.GroupVersionKind().Group == "rbac.authorization.k8s.io" {
			if err := api.Create(context.Background(), o); err != nil {
				t.Fatal(err)
			}
		}
	}
	var text strings.Builder
	for _, account := range []string{"meshd-crds", "meshd-check"} {
		everywhere := rules(t, c, namespace, account, "default")
		own := slices.DeleteFunc(rules(t, c, namespace, account, namespace), func(rule string) bool { return slices.Contains(everywhere, rule) })
		fmt.Fprintf(&text, "%s, in every namespace\n  %s\nand in its own as well\n  %s\n", account, strings.Join(everywhere, "\n  "), strings.Join(own, "\n  "))
	}
	golden.Check(t, "testdata/rights-hooks.txt", []byte(text.String()))
}

func TestMayNot(t *testing.T) {
	c := installed(t)
	elsewhere := c.Namespace(t, nil)
	api := kubernetes.NewForConfigOrDie(c.As(namespace, "meshd"))
	may := func(a authorizationv1.ResourceAttributes) bool {
		review, err := api.AuthorizationV1().SelfSubjectAccessReviews().Create(context.Background(),
			&authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &a}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return review.Status.Allowed
	}
	for _, in := range []string{namespace, elsewhere, ""} {
		for _, a := range []authorizationv1.ResourceAttributes{
			{Resource: "pods", Verb: "create"}, {Resource: "pods", Verb: "patch"}, {Resource: "pods", Verb: "delete"},
			{Resource: "pods", Subresource: "exec", Verb: "create"}, {Resource: "pods", Subresource: "exec", Verb: "get"},
			{Resource: "pods", Subresource: "attach", Verb: "create"}, {Resource: "pods", Subresource: "portforward", Verb: "create"},
			{Resource: "pods", Subresource: "ephemeralcontainers", Verb: "patch"}, {Resource: "pods", Subresource: "log", Verb: "get"},
			{Resource: "secrets", Verb: "update", Name: "meshd-root"}, {Resource: "secrets", Verb: "patch"}, {Resource: "secrets", Verb: "delete"},
			{Resource: "serviceaccounts", Subresource: "token", Verb: "create"},
			{Resource: "serviceaccounts", Verb: "impersonate"}, {Resource: "users", Verb: "impersonate"},
			{Resource: "nodes", Verb: "patch"}, {Resource: "nodes", Subresource: "proxy", Verb: "get"}, {Resource: "namespaces", Verb: "patch"},
			{Resource: "configmaps", Verb: "get", Name: "kube-root-ca.crt"}, {Resource: "configmaps", Verb: "delete", Name: "meshd-trust"},
			{Group: "apps", Resource: "daemonsets", Verb: "create"}, {Group: "apps", Resource: "deployments", Verb: "patch", Name: "meshd"},
			{Group: "batch", Resource: "jobs", Verb: "create"},
			{Group: "rbac.authorization.k8s.io", Resource: "clusterroles", Verb: "bind"}, {Group: "rbac.authorization.k8s.io", Resource: "roles", Verb: "escalate"},
			{Group: "rbac.authorization.k8s.io", Resource: "rolebindings", Verb: "create"},
			{Group: "meshd.io", Resource: "meshconfigs", Verb: "update"}, {Group: "networking.k8s.io", Resource: "ingresses", Verb: "patch"},
			{Group: "apiextensions.k8s.io", Resource: "customresourcedefinitions", Verb: "update", Name: "meshconfigs.meshd.io"},
			{Group: "certificates.k8s.io", Resource: "signers", Verb: "sign", Name: "kubernetes.io/kube-apiserver-client"},
			{Group: "certificates.k8s.io", Resource: "signers", Verb: "approve", Name: "meshd.io/workload"},
			{Group: "certificates.k8s.io", Resource: "clustertrustbundles", Verb: "patch", Name: "someone.else"},
			{Group: "admissionregistration.k8s.io", Resource: "mutatingwebhookconfigurations", Verb: "create", Name: "meshd-injector"},
			{Group: "admissionregistration.k8s.io", Resource: "mutatingwebhookconfigurations", Verb: "patch", Name: "someone-else"},
			{Group: "admissionregistration.k8s.io", Resource: "validatingwebhookconfigurations", Verb: "create"},
			{Group: "coordination.k8s.io", Resource: "leases", Verb: "update", Name: "kube-controller-manager"},
		} {
			a.Namespace = in
			if may(a) {
				t.Errorf("meshd may %s %s/%s %s.%s in %q", a.Verb, a.Resource, a.Subresource, a.Name, a.Group, in)
			}
		}
	}
	for _, in := range []string{elsewhere, ""} {
		for _, a := range []authorizationv1.ResourceAttributes{
			{Resource: "secrets", Verb: "create"}, {Resource: "services", Verb: "create", Name: "meshd-ingress"},
			{Group: "apps", Resource: "deployments", Verb: "list"}, {Group: "apps", Resource: "deployments", Verb: "create", Name: "meshd-ingress"},
			{Group: "coordination.k8s.io", Resource: "leases", Verb: "get", Name: "meshd"},
		} {
			a.Namespace = in
			if may(a) {
				t.Errorf("outside of its namespace meshd may %s %s.%s in %q", a.Verb, a.Resource, a.Group, in)
			}
		}
	}
}

// An apply is bounded by name even where it creates, which a create is not.
func TestTrustIsBoundedByName(t *testing.T) {
	c := installed(t)
	in := c.Namespace(t, nil)
	maps := kubernetes.NewForConfigOrDie(c.As(namespace, "meshd")).CoreV1().ConfigMaps(in)
	options := metav1.ApplyOptions{FieldManager: "meshd-trust", Force: true}
	for range 2 { // made, then changed
		if _, err := maps.Apply(context.Background(), corev1ac.ConfigMap("meshd-trust", in).WithData(map[string]string{"ca.crt": "x"}), options); err != nil {
			t.Error(err)
		}
	}
	if _, err := maps.Apply(context.Background(), corev1ac.ConfigMap("other", in), options); !apierrors.IsForbidden(err) {
		t.Errorf("apply of another: %v", err)
	}
	if _, err := maps.Create(context.Background(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "other"}}, metav1.CreateOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("create of another: %v", err)
	}
}
