package trust

import (
	"context"
	"log/slog"
	"os"
	"slices"
	"sync"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshd-io/meshd/internal/kubetest"
	"github.com/meshd-io/meshd/pkg/ca"
	"github.com/meshd-io/meshd/pkg/ca/catest"
)

var cluster = kubetest.Shared{Options: kubetest.Options{NoCRDs: true}}

func TestMain(m *testing.M) {
	code := m.Run()
	cluster.Stop()
	os.Exit(code)
}

// authority is one whose bundle a test changes.
type authority struct {
	mu      sync.Mutex
	bundle  string
	changed chan struct{}
}

func newAuthority(bundle string) *authority {
	return &authority{bundle: bundle, changed: make(chan struct{})}
}

func (a *authority) Bundle() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.bundle
}

func (a *authority) Changed() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.changed
}

func (a *authority) set(bundle string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.bundle = bundle
	close(a.changed)
	a.changed = make(chan struct{})
}

// namespaces is a list that a test changes.
type namespaces struct {
	mu      sync.Mutex
	names   []string
	changes chan struct{}
}

func (n *namespaces) list() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.names)
}

func (n *namespaces) add(name string) {
	n.mu.Lock()
	n.names = append(n.names, name)
	n.mu.Unlock()
	n.changes <- struct{}{}
}

// rules are all that the publisher may do in a cluster: objects of one name.
func rules() []rbacv1.PolicyRule {
	verbs := []string{"get", "list", "watch", "create", "patch"}
	return []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"configmaps"}, ResourceNames: []string{ConfigMap}, Verbs: verbs},
		{APIGroups: []string{"certificates.k8s.io"}, Resources: []string{"clustertrustbundles"}, ResourceNames: []string{Bundle}, Verbs: verbs},
		{APIGroups: []string{"certificates.k8s.io"}, Resources: []string{"signers"}, ResourceNames: []string{Signer}, Verbs: []string{"attest"}},
	}
}

// publish runs a publisher as the account meshd, with these rights alone, until the end of the test.
func publish(t *testing.T, c *kubetest.Cluster, a Authority, n *namespaces) {
	t.Helper()
	system := c.Namespace(t, nil)
	name := "publisher-" + system
	for _, o := range []client.Object{
		&rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: rules()},
		&rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: name}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
			Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: system, Name: "meshd"}},
		},
	} {
		if err := c.Client(t).Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	p, err := New(c.As(system, "meshd"), Options{Authority: a, Namespaces: n.list, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if !p.ServesBundles() {
		t.Error("the cluster's ClusterTrustBundles were not found")
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx, n.changes) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// published waits until namespace has the bundle, and gives the object's version.
func published(t *testing.T, admin client.Client, namespace, bundle string) string {
	t.Helper()
	var cm corev1.ConfigMap
	kubetest.Until(t, "namespace "+namespace+" has the bundle", func(ctx context.Context) (bool, error) {
		err := admin.Get(ctx, client.ObjectKey{Namespace: namespace, Name: ConfigMap}, &cm)
		return err == nil && cm.Data[Key] == bundle, err
	})
	return cm.ResourceVersion
}

// bundled waits until the ClusterTrustBundle has the bundle.
func bundled(t *testing.T, admin client.Client, bundle string) string {
	t.Helper()
	var ctb certificatesv1.ClusterTrustBundle
	kubetest.Until(t, "the ClusterTrustBundle has the bundle", func(ctx context.Context) (bool, error) {
		err := admin.Get(ctx, client.ObjectKey{Name: Bundle}, &ctb)
		return err == nil && ctb.Spec.TrustBundle == bundle && ctb.Spec.SignerName == Signer, err
	})
	return ctb.ResourceVersion
}

// TestPublished: the anchor comes, changes, spreads and is put back; what is right is not written again.
func TestPublished(t *testing.T) {
	c := cluster.Get(t)
	admin := c.Client(t)
	one := catest.New(t, ca.Lifetimes{}, nil).Authority.Bundle()
	two := one + catest.New(t, ca.Lifetimes{}, nil).Authority.Bundle()
	first, second := c.Namespace(t, nil), c.Namespace(t, nil)
	a, n := newAuthority(one), &namespaces{names: []string{first, "no-such-namespace"}, changes: make(chan struct{})}
	publish(t, c, a, n)
	published(t, admin, first, one)
	bundled(t, admin, one)

	n.add(second)
	published(t, admin, second, one)

	a.set(two)
	published(t, admin, first, two)
	version := published(t, admin, second, two)
	bundled(t, admin, two)

	// Others change it and delete it.
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: first, Name: ConfigMap}, Data: map[string]string{Key: "mine"}}
	if err := admin.Update(t.Context(), cm); err != nil {
		t.Fatal(err)
	}
	published(t, admin, first, two)
	if err := admin.Delete(t.Context(), cm); err != nil {
		t.Fatal(err)
	}
	published(t, admin, first, two)
	ctb := &certificatesv1.ClusterTrustBundle{ObjectMeta: metav1.ObjectMeta{Name: Bundle}}
	if err := admin.Delete(t.Context(), ctb); err != nil {
		t.Fatal(err)
	}
	bundled(t, admin, two)
	if v := published(t, admin, second, two); v != version {
		t.Error("what was right was written again")
	}
}

// TestAPIServerAway: what changes meanwhile is published when it is back.
func TestAPIServerAway(t *testing.T) {
	c := cluster.Get(t)
	admin := c.Client(t)
	one := catest.New(t, ca.Lifetimes{}, nil).Authority.Bundle()
	two := one + catest.New(t, ca.Lifetimes{}, nil).Authority.Bundle()
	namespace := c.Namespace(t, nil)
	a := newAuthority(one)
	publish(t, c, a, &namespaces{names: []string{namespace}, changes: make(chan struct{})})
	published(t, admin, namespace, one)
	c.StopAPI(t)
	a.set(two)
	c.StartAPI(t)
	published(t, admin, namespace, two)
	bundled(t, admin, two)
}

// TestNamespaceThatGoes is passed over, and others are served.
func TestNamespaceThatGoes(t *testing.T) {
	c := cluster.Get(t)
	admin := c.Client(t)
	going, staying := c.Namespace(t, nil), c.Namespace(t, nil)
	// Nobody empties namespaces here: it stays in this state.
	if err := admin.Delete(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: going}}); err != nil {
		t.Fatal(err)
	}
	bundle := catest.New(t, ca.Lifetimes{}, nil).Authority.Bundle()
	n := &namespaces{names: []string{going, staying}, changes: make(chan struct{})}
	publish(t, c, newAuthority(bundle), n)
	published(t, admin, staying, bundle)
	later := c.Namespace(t, nil)
	n.add(later) // at once: no failure has made it wait
	published(t, admin, later, bundle)
}
