package gateway

import (
	"context"
	"log/slog"
	"os"
	"slices"
	"sync"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshd-io/meshd/internal/kubetest"
	"github.com/meshd-io/meshd/pkg/injector"
)

var cluster kubetest.Shared

func TestMain(m *testing.M) {
	code := m.Run()
	cluster.Stop()
	os.Exit(code)
}

// rules are all that an Applier needs, in meshd's own namespace: to know what there is, and to
// write what has the gateway's name.
var rules = append(
	rulesFor([]string{"list", "watch"}),
	rulesFor([]string{"create", "patch", "delete"}, IngressName)...)

func rulesFor(verbs []string, names ...string) []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"serviceaccounts", "services"}, Verbs: verbs, ResourceNames: names},
		{APIGroups: []string{"policy"}, Resources: []string{"poddisruptionbudgets"}, Verbs: verbs, ResourceNames: names},
		{APIGroups: []string{"apps"}, Resources: []string{"deployments"}, Verbs: verbs, ResourceNames: names},
	}
}

// bench is a namespace in which an Applier works, with no more rights than it needs.
type bench struct {
	api       client.Client
	namespace string
	config    *rest.Config
	stop      func()

	mu      sync.Mutex
	wanted  Wanted
	changed chan struct{}
}

func newBench(t *testing.T) *bench {
	c := cluster.Get(t)
	b := &bench{api: c.Client(t), changed: make(chan struct{})}
	// As strict as a namespace may be: the API server itself judges the gateway's pods.
	b.namespace = c.Namespace(t, map[string]string{"pod-security.kubernetes.io/enforce": "restricted"})
	b.wanted.Owner = &metav1.OwnerReference{APIVersion: "v1", Kind: "ServiceAccount", Name: "meshd", UID: "of-meshd"}
	b.wanted.Config = injector.Config{
		AgentImage: "agent:test", Bootstrap: func(injector.BootstrapInput) (injector.Bootstrap, error) {
			return injector.Bootstrap{Config: "{}"}, nil
		},
	}
	b.grant(t)
	b.config = c.As(b.namespace, "meshd")
	b.run(t, 2)
	return b
}

func (b *bench) grant(t *testing.T) {
	t.Helper()
	for _, o := range []client.Object{
		&rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: "meshd"}, Rules: rules},
		&rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: "meshd"},
			RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "meshd"},
			Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: b.namespace, Name: "meshd"}}},
	} {
		if err := b.api.Create(context.Background(), o); err != nil {
			t.Fatal(err)
		}
	}
	// RBAC is eventual: the API server reads its roles by watches.
	kubetest.Until(t, "the rights", func(ctx context.Context) (bool, error) {
		review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
			User:               "system:serviceaccount:" + b.namespace + ":meshd",
			ResourceAttributes: &authorizationv1.ResourceAttributes{Namespace: b.namespace, Verb: "delete", Group: "apps", Resource: "deployments", Name: IngressName},
		}}
		err := b.api.Create(ctx, review)
		return review.Status.Allowed, err
	})
}

// run has an Applier work in place of the one before.
func (b *bench) run(t *testing.T, replicas int32) {
	t.Helper()
	if b.stop != nil {
		b.stop()
	}
	d, err := dynamic.NewForConfig(b.config)
	if err != nil {
		t.Fatal(err)
	}
	a := NewApplier(ApplierConfig{
		Client: d, Namespace: b.namespace, Replicas: replicas, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
		Wanted:  func() (Wanted, bool) { b.mu.Lock(); defer b.mu.Unlock(); return b.wanted, true },
		Changed: func() <-chan struct{} { b.mu.Lock(); defer b.mu.Unlock(); return b.changed },
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := a.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	b.stop = func() { cancel(); <-done }
	t.Cleanup(b.stop)
}

func (b *bench) want(change func(*Wanted)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change(&b.wanted)
	close(b.changed)
	b.changed = make(chan struct{})
}

// deployment waits until it is as it should be.
func (b *bench) deployment(t *testing.T, what string, is func(*appsv1.Deployment) bool) *appsv1.Deployment {
	t.Helper()
	d := &appsv1.Deployment{}
	kubetest.Until(t, what, func(ctx context.Context) (bool, error) {
		err := b.api.Get(ctx, client.ObjectKey{Namespace: b.namespace, Name: IngressName}, d)
		if apierrors.IsNotFound(err) {
			return false, nil
		}
		return err == nil && is(d), err
	})
	return d
}

func (b *bench) all() []client.Object {
	meta := metav1.ObjectMeta{Namespace: b.namespace, Name: IngressName}
	return []client.Object{
		&corev1.ServiceAccount{ObjectMeta: meta}, &corev1.Service{ObjectMeta: meta},
		&policyv1.PodDisruptionBudget{ObjectMeta: meta}, &appsv1.Deployment{ObjectMeta: meta},
	}
}

// versions of the objects, "" for those that are not there.
func (b *bench) versions(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, o := range b.all() {
		if err := b.api.Get(context.Background(), client.ObjectKeyFromObject(o), o); err != nil && !apierrors.IsNotFound(err) {
			t.Fatal(err)
		}
		out = append(out, o.GetResourceVersion())
	}
	return out
}

func replicasAre(n int32) func(*appsv1.Deployment) bool {
	return func(d *appsv1.Deployment) bool { return *d.Spec.Replicas == n }
}

func TestGatewayComesAndGoes(t *testing.T) {
	b := newBench(t)
	if got := b.versions(t); !slices.Equal(got, []string{"", "", "", ""}) {
		t.Errorf("there although nobody wants them: %v", got)
	}
	b.want(func(w *Wanted) { w.Ingress = true })
	d := b.deployment(t, "made", replicasAre(2))
	if slices.Contains(b.versions(t), "") {
		t.Errorf("not all is made: %v", b.versions(t))
	}

	// Its pods keep to the restricted standard, by the API server's own judgement.
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, GenerateName: "try-"}, Spec: d.Spec.Template.Spec}
	if err := b.api.Create(context.Background(), pod, client.DryRunAll); err != nil {
		t.Errorf("a pod of the gateway: %v", err)
	}

	// What somebody changes is mended, what somebody adds stays, a new configuration goes out.
	d.Spec.Template.Spec.Containers[0].Image = "evil:1"
	d.Labels[Label+"-seen"] = "yes"
	if err := b.api.Update(context.Background(), d, client.FieldOwner("somebody")); err != nil {
		t.Fatal(err)
	}
	b.deployment(t, "mended", func(d *appsv1.Deployment) bool {
		return d.Spec.Template.Spec.Containers[0].Image == injector.DefaultProxyImage && d.Labels[Label+"-seen"] == "yes"
	})
	b.want(func(w *Wanted) { w.Config.AgentImage = "agent:next" })
	b.deployment(t, "renewed", func(d *appsv1.Deployment) bool { return d.Spec.Template.Spec.InitContainers[0].Image == "agent:next" })
	for _, o := range b.all() {
		if err := b.api.Delete(context.Background(), o); err != nil {
			t.Fatal(err)
		}
	}
	b.deployment(t, "made again", replicasAre(2))
	kubetest.Until(t, "all again", func(context.Context) (bool, error) { return !slices.Contains(b.versions(t), ""), nil })

	b.want(func(w *Wanted) { w.Ingress = false })
	kubetest.Until(t, "gone", func(context.Context) (bool, error) { return slices.Equal(b.versions(t), []string{"", "", "", ""}), nil })
}

// TestAutoscalerOwnsReplicas: whoever scales the gateway has the say from then on.
func TestAutoscalerOwnsReplicas(t *testing.T) {
	b := newBench(t)
	b.want(func(w *Wanted) { w.Ingress = true })
	d := b.deployment(t, "made", replicasAre(2))
	scale := &autoscalingv1.Scale{Spec: autoscalingv1.ScaleSpec{Replicas: 5}}
	if err := b.api.SubResource("scale").Update(context.Background(), d, client.WithSubResourceBody(scale)); err != nil {
		t.Fatal(err)
	}
	b.want(func(w *Wanted) { w.Config.AgentImage = "agent:next" })
	d = b.deployment(t, "renewed", func(d *appsv1.Deployment) bool { return d.Spec.Template.Spec.InitContainers[0].Image == "agent:next" })
	if *d.Spec.Replicas != 5 {
		t.Errorf("%d replicas", *d.Spec.Replicas)
	}
	// Somebody else's touch of another field has it look again: still 5.
	d.Spec.Paused = true
	d.Spec.Template.Spec.Containers[0].Image = "evil:1"
	if err := b.api.Update(context.Background(), d, client.FieldOwner("somebody")); err != nil {
		t.Fatal(err)
	}
	d = b.deployment(t, "mended", func(d *appsv1.Deployment) bool {
		return d.Spec.Template.Spec.Containers[0].Image == injector.DefaultProxyImage
	})
	if *d.Spec.Replicas != 5 {
		t.Errorf("%d replicas", *d.Spec.Replicas)
	}
	// Nor does a meshd that is told another number.
	b.run(t, 3)
	b.want(func(w *Wanted) { w.Config.AgentImage = "agent:after" })
	d = b.deployment(t, "renewed", func(d *appsv1.Deployment) bool { return d.Spec.Template.Spec.InitContainers[0].Image == "agent:after" })
	if *d.Spec.Replicas != 5 {
		t.Errorf("%d replicas", *d.Spec.Replicas)
	}
}

// TestReplicasFollowTheValue: what nobody has scaled gets the number that meshd is started with.
func TestReplicasFollowTheValue(t *testing.T) {
	b := newBench(t)
	b.want(func(w *Wanted) { w.Ingress = true })
	b.deployment(t, "made", replicasAre(2))
	for _, n := range []int32{3, 1} {
		b.run(t, n)
		b.deployment(t, "scaled by meshd", replicasAre(n))
	}
}

// TestNothingIsWrittenThatIsThere: what the Applier has written it finds as it
// wants it, so that an event of a rollout is no reason to write.
func TestNothingIsWrittenThatIsThere(t *testing.T) {
	b := newBench(t)
	b.want(func(w *Wanted) { w.Ingress = true })
	b.deployment(t, "made", replicasAre(2))
	c := cluster.Get(t)
	d, err := dynamic.NewForConfig(c.Config)
	if err != nil {
		t.Fatal(err)
	}
	wanted, err := objects(b.wanted, b.namespace)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range wanted {
		has, err := d.Resource(resource(o.GetKind())).Namespace(b.namespace).Get(context.Background(), IngressName, metav1.GetOptions{})
		if err != nil || !contains(has.Object, o.Object) {
			t.Errorf("%s: %v is not in %v, %v", o.GetKind(), o.Object, has.Object, err)
		}
	}
}

// TestWhatOthersMadeStays: objects of the gateway's name without meshd's hand in them are not deleted.
func TestWhatOthersMadeStays(t *testing.T) {
	b := newBench(t)
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: IngressName, Labels: map[string]string{Label: Ingress}},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}},
	}
	if err := b.api.Create(context.Background(), service); err != nil {
		t.Fatal(err)
	}
	// What is meshd's beside it is deleted: when that is gone, meshd has looked at both.
	account := &unstructured.Unstructured{}
	account.SetAPIVersion("v1")
	account.SetKind("ServiceAccount")
	account.SetNamespace(b.namespace)
	account.SetName(IngressName)
	account.SetLabels(map[string]string{Label: Ingress})
	if err := b.api.Apply(context.Background(), client.ApplyConfigurationFromUnstructured(account), client.FieldOwner(FieldManager)); err != nil {
		t.Fatal(err)
	}
	kubetest.Until(t, "deleted", func(ctx context.Context) (bool, error) {
		err := b.api.Get(ctx, client.ObjectKeyFromObject(account), &corev1.ServiceAccount{})
		return apierrors.IsNotFound(err), client.IgnoreNotFound(err)
	})
	if got := b.versions(t); got[1] == "" {
		t.Error("another's Service is deleted")
	}
}
