package status

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
	"github.com/meshd-io/meshd/internal/kubetest"
	"github.com/meshd-io/meshd/pkg/crds"
	"github.com/meshd-io/meshd/pkg/report"
)

var cluster kubetest.Shared

func TestMain(m *testing.M) {
	code := m.Run()
	cluster.Stop()
	os.Exit(code)
}

// everyKind has one object of each kind with a status; NS is the test's namespace.
const everyKind = `
apiVersion: meshd.io/v1alpha1
kind: MeshConfig
metadata: {name: default}
---
apiVersion: meshd.io/v1alpha1
kind: CertificateAuthority
metadata: {name: default}
---
apiVersion: meshd.io/v1alpha1
kind: PeerAuthentication
metadata: {namespace: NS, name: a}
spec: {targetRefs: [{kind: Namespace}], mode: Strict}
---
apiVersion: meshd.io/v1alpha1
kind: RequestAuthentication
metadata: {namespace: NS, name: a}
spec: {targetRefs: [{kind: Namespace}], jwt: [{issuer: "https://issuer.example", jwks: {uri: "https://issuer.example/keys"}}]}
---
apiVersion: meshd.io/v1alpha1
kind: AuthorizationPolicy
metadata: {namespace: NS, name: a}
spec: {targetRefs: [{kind: Service, name: s}, {kind: Service, name: t}], action: Allow}
---
apiVersion: meshd.io/v1alpha1
kind: TrafficPolicy
metadata: {namespace: NS, name: a}
spec: {targetRefs: [{kind: Service, name: s}], timeout: {request: 2s}}
---
apiVersion: meshd.io/v1alpha1
kind: Workload
metadata: {namespace: NS, name: a}
spec: {serviceAccount: s, addresses: [192.0.2.7], ports: [{name: http, port: 8090}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {namespace: NS, name: a}
spec: {ingressClassName: meshd, defaultBackend: {service: {name: s, port: {number: 80}}}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {namespace: NS, name: a}
spec: {parentRefs: [{name: edge}, {group: "", kind: Service, name: s}, {group: "", kind: Service, name: t}], rules: [{backendRefs: [{name: s, port: 80}]}]}
`

// bench is a namespace with one object of each kind.
type bench struct {
	*kubetest.Cluster
	api       client.Client
	namespace string
}

func newBench(t *testing.T) *bench {
	c := cluster.Get(t)
	theirs, err := crds.UpstreamDefinitions()
	if err != nil {
		t.Fatal(err)
	}
	c.InstallCRDs(t, theirs...)
	b := &bench{Cluster: c, api: c.Client(t), namespace: c.Namespace(t, nil)}
	for doc := range strings.SplitSeq(everyKind, "---\n") {
		o := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(strings.ReplaceAll(doc, "NS", b.namespace)), &o.Object); err != nil {
			t.Fatal(err)
		}
		if err := b.api.Create(context.Background(), o); err != nil && !apierrors.IsAlreadyExists(err) {
			t.Fatalf("%s: %v", o.GetKind(), err)
		}
	}
	return b
}

// snapshot has the namespace's objects, and those without a namespace.
func (b *bench) snapshot(t *testing.T) *crds.Snapshot {
	t.Helper()
	return &crds.Snapshot{
		MeshConfigs: list[meshv1a1.MeshConfig](t, b, &meshv1a1.MeshConfigList{}), CertificateAuthorities: list[meshv1a1.CertificateAuthority](t, b, &meshv1a1.CertificateAuthorityList{}),
		PeerAuthentications:    list[meshv1a1.PeerAuthentication](t, b, &meshv1a1.PeerAuthenticationList{}),
		RequestAuthentications: list[meshv1a1.RequestAuthentication](t, b, &meshv1a1.RequestAuthenticationList{}),
		AuthorizationPolicies:  list[meshv1a1.AuthorizationPolicy](t, b, &meshv1a1.AuthorizationPolicyList{}),
		TrafficPolicies:        list[meshv1a1.TrafficPolicy](t, b, &meshv1a1.TrafficPolicyList{}),
		Workloads:              list[meshv1a1.Workload](t, b, &meshv1a1.WorkloadList{}),
		Ingresses:              list[networkingv1.Ingress](t, b, &networkingv1.IngressList{}),
		HTTPRoutes:             list[gwv1.HTTPRoute](t, b, &gwv1.HTTPRouteList{}),
	}
}

func list[T any](t *testing.T, b *bench, into client.ObjectList) []*T {
	t.Helper()
	if err := b.api.List(context.Background(), into, client.InNamespace(b.namespace)); err != nil {
		t.Fatal(err)
	}
	items := reflect.ValueOf(into).Elem().FieldByName("Items").Addr().Interface().(*[]T)
	out := make([]*T, 0, len(*items))
	for i := range *items {
		out = append(out, &(*items)[i])
	}
	return out
}

// desired are the statuses of everything when the proxies are so far.
func (b *bench) desired(t *testing.T, p Progress, at metav1.Time, findings ...report.Finding) []Desired {
	t.Helper()
	return All(b.snapshot(t), Facts{
		Now: at, Authority: Authority{Phase: "Stable", Roots: []meshv1a1.CertificateStatus{{Fingerprint: "00", NotAfter: then}}},
		About: func(o report.Object, _ types.UID, _ int64) (Progress, []report.Finding) {
			var own []report.Finding
			for _, f := range findings {
				if f.Object.Kind == o.Kind {
					own = append(own, f)
				}
			}
			return p, own
		},
		Ingress: func(*networkingv1.Ingress) *networkingv1.IngressStatus {
			return &networkingv1.IngressStatus{LoadBalancer: networkingv1.IngressLoadBalancerStatus{
				Ingress: []networkingv1.IngressLoadBalancerIngress{{IP: "192.0.2.1"}}}}
		},
	})
}

func (b *bench) server(t *testing.T, config *rest.Config) *Server {
	t.Helper()
	s, err := NewServer(config)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (b *bench) policy(t *testing.T) *meshv1a1.TrafficPolicy {
	t.Helper()
	o := &meshv1a1.TrafficPolicy{}
	if err := b.api.Get(context.Background(), client.ObjectKey{Namespace: b.namespace, Name: "a"}, o); err != nil {
		t.Fatal(err)
	}
	return o
}

// apply writes those that a Writer would, and gives how many.
func (b *bench) apply(t *testing.T, s *Server, all []Desired) int {
	t.Helper()
	n := 0
	for _, d := range all {
		if covers(encode(d.Live), encode(d.Written)) {
			continue
		}
		n++
		if _, err := s.ApplyStatus(context.Background(), d); err != nil {
			t.Errorf("%s: %v", d.Object, err)
		}
	}
	return n
}

var synced = Progress{Total: 3, Acknowledged: 3}

func TestEveryKindIsWrittenAndReadBack(t *testing.T) {
	b := newBench(t)
	s := b.server(t, b.Config)
	lagging := Progress{Total: 9, Acknowledged: 2, Rejected: 1, Laggards: []string{"a", "b", "c", "d", "e", "f", "g"}, Messages: []string{"no such filter"}}
	missing := report.Finding{Object: report.Object{Kind: "AuthorizationPolicy"}, Condition: report.ResolvedRefs, Reason: report.NotFound, Field: "spec.targetRefs[1]", Message: "no Service t"}
	if n := b.apply(t, s, b.desired(t, lagging, then, missing)); n < 6 {
		t.Errorf("%d written", n)
	}
	b.apply(t, s, b.desired(t, synced, now))
	for _, d := range b.desired(t, synced, metav1.Now()) {
		if !covers(encode(d.Live), encode(d.Written)) {
			t.Errorf("%s has\n%s\nwant\n%s", d.Object, encode(d.Live), encode(d.Written))
		}
	}
	p := b.policy(t)
	for _, want := range []struct {
		kind string
		at   metav1.Time
	}{{"Accepted", then}, {"Programmed", now}} {
		c := meta.FindStatusCondition(p.Status.Conditions, want.kind)
		if c == nil || c.Status != metav1.ConditionTrue || c.ObservedGeneration != p.Generation || !c.LastTransitionTime.Equal(&want.at) {
			t.Errorf("%s: %+v", want.kind, c)
		}
	}
	if p.Status.Proxies.Total != 3 || len(p.Status.Laggards) != 0 {
		t.Errorf("%+v", p.Status)
	}
}

func TestNothingIsWrittenTwice(t *testing.T) {
	b := newBench(t)
	s := b.server(t, b.Config)
	b.apply(t, s, b.desired(t, synced, then))
	before := b.policy(t).ResourceVersion
	if n := b.apply(t, s, b.desired(t, synced, now)); n != 0 { // as a new leader would
		t.Errorf("%d are written again", n)
	}
	for _, d := range b.desired(t, synced, now) { // and even if it does, nothing moves
		if _, err := s.ApplyStatus(context.Background(), d); err != nil {
			t.Error(err)
		}
	}
	if after := b.policy(t).ResourceVersion; after != before {
		t.Errorf("resourceVersion went from %s to %s", before, after)
	}
}

func TestOthersConditionsStay(t *testing.T) {
	b := newBench(t)
	p := b.policy(t)
	p.Status.Conditions = []metav1.Condition{{Type: "Reviewed", Status: metav1.ConditionTrue, Reason: "ByHand", LastTransitionTime: then}}
	if err := b.api.Status().Update(context.Background(), p, client.FieldOwner("somebody")); err != nil {
		t.Fatal(err)
	}
	s := b.server(t, b.Config)
	b.apply(t, s, b.desired(t, Progress{Total: 1, Laggards: []string{"shop/a"}}, then))
	b.apply(t, s, b.desired(t, synced, now))
	got := b.policy(t).Status
	if len(got.Conditions) != 4 || !meta.IsStatusConditionTrue(got.Conditions, "Reviewed") || !meta.IsStatusConditionTrue(got.Conditions, "Programmed") {
		t.Errorf("%+v", got.Conditions)
	}
	if b.apply(t, s, b.desired(t, synced, now)) != 0 {
		t.Error("written again because of another's condition")
	}
}

// TestOtherControllersParentsStay: a route's status is one list for all controllers.
func TestOtherControllersParentsStay(t *testing.T) {
	b := newBench(t)
	route := func() *gwv1.HTTPRoute {
		o := &gwv1.HTTPRoute{}
		if err := b.api.Get(context.Background(), client.ObjectKey{Namespace: b.namespace, Name: "a"}, o); err != nil {
			t.Fatal(err)
		}
		return o
	}
	controllers := func(o *gwv1.HTTPRoute) (out []string) {
		for _, p := range o.Status.Parents {
			out = append(out, string(p.ControllerName)+" "+string(p.ParentRef.Name))
		}
		return out
	}
	s := b.server(t, b.Config)
	b.apply(t, s, b.desired(t, synced, then))
	o := route()
	o.Status.Parents = append(o.Status.Parents, gwv1.RouteParentStatus{
		ParentRef: o.Spec.ParentRefs[0], ControllerName: "example.com/edge",
		Conditions: []metav1.Condition{{Type: "Accepted", Status: metav1.ConditionTrue, Reason: "Accepted", LastTransitionTime: then}},
	})
	if err := b.api.Status().Update(context.Background(), o, client.FieldOwner("edge")); err != nil {
		t.Fatal(err)
	}
	if n := b.apply(t, s, b.desired(t, synced, now)); n != 0 {
		t.Errorf("%d are written again because of another's entry", n)
	}
	b.apply(t, s, b.desired(t, Progress{Total: 1, Laggards: []string{"shop/a"}}, now))
	if got, want := controllers(route()), []string{"meshd.io/mesh s", "meshd.io/mesh t", "example.com/edge edge"}; !slices.Equal(got, want) {
		t.Errorf("parents %v, want %v", got, want)
	}
	o = route()
	o.Spec.ParentRefs = o.Spec.ParentRefs[:2]
	if err := b.api.Update(context.Background(), o); err != nil {
		t.Fatal(err)
	}
	b.apply(t, s, b.desired(t, synced, now))
	if got, want := controllers(route()), []string{"meshd.io/mesh s", "example.com/edge edge"}; !slices.Equal(got, want) {
		t.Errorf("parents %v, want %v", got, want)
	}
	o = route()
	o.Spec.ParentRefs = o.Spec.ParentRefs[:1]
	if err := b.api.Update(context.Background(), o); err != nil {
		t.Fatal(err)
	}
	b.apply(t, s, b.desired(t, synced, now))
	if got, want := controllers(route()), []string{"example.com/edge edge"}; !slices.Equal(got, want) {
		t.Errorf("parents %v, want %v", got, want)
	}
}

// TestWhatIsMeantForAnotherObjectIsRefused: a status does not come to an object
// that was made after the one it speaks of, nor does it make one.
func TestWhatIsMeantForAnotherObjectIsRefused(t *testing.T) {
	b := newBench(t)
	s := b.server(t, b.Config)
	of := func(d []Desired) Desired {
		for _, d := range d {
			if d.Kind == "TrafficPolicy" {
				return d
			}
		}
		t.Fatal("no TrafficPolicy")
		return Desired{}
	}
	old := of(b.desired(t, synced, then))
	p := b.policy(t)
	if err := b.api.Delete(context.Background(), p); err != nil {
		t.Fatal(err)
	}
	if _, err := s.ApplyStatus(context.Background(), old); !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		t.Errorf("for an object that is gone: %v", err)
	}
	p.ResourceVersion, p.UID = "", ""
	if err := b.api.Create(context.Background(), p); err != nil {
		t.Fatal(err)
	}
	if _, err := s.ApplyStatus(context.Background(), old); !apierrors.IsConflict(err) {
		t.Errorf("for the next object of the name: %v", err)
	}
	if got := b.policy(t).Status; len(got.Conditions) != 0 {
		t.Errorf("it has %+v", got.Conditions)
	}
	if _, err := s.ApplyStatus(context.Background(), of(b.desired(t, synced, then))); err != nil {
		t.Errorf("for the object as it is: %v", err)
	}
}

// TestWriter has a Writer follow an object whose snapshot lags behind: each
// change is written once, in order, and what somebody else does to it is mended.
func TestWriter(t *testing.T) {
	b := newBench(t)
	s := newFakeServer()
	real := &counting{Server: b.server(t, b.Config), wrote: make(chan string, 100)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		NewWriter(WriterConfig{Applier: real, Desired: s.Desired, Changed: s.Changed, Pace: time.Millisecond}).Run(ctx)
	}()
	defer func() { cancel(); <-done }()
	only := func(all []Desired) (out []Desired) {
		for _, d := range all {
			if d.Kind == "TrafficPolicy" {
				out = append(out, d)
			}
		}
		return out
	}
	lagging := Progress{Total: 2, Acknowledged: 1, Laggards: []string{"shop/a"}}
	stale := only(b.desired(t, lagging, then))
	s.want(stale...)
	real.await(t, "Pending")
	next := only(b.desired(t, synced, now))
	next[0].ResourceVersion, next[0].Live = stale[0].ResourceVersion, stale[0].Live // the watch is late
	s.want(next...)
	real.await(t, "Programmed")

	p := b.policy(t)
	meta.SetStatusCondition(&p.Status.Conditions, metav1.Condition{Type: "Programmed", Status: metav1.ConditionFalse, Reason: "ByHand"})
	if err := b.api.Status().Update(context.Background(), p, client.FieldOwner("somebody")); err != nil {
		t.Fatal(err)
	}
	s.want(next...) // conflicts until the snapshot knows
	s.want(only(b.desired(t, synced, now))...)
	real.await(t, "Programmed")
	if got := b.policy(t).Status; !meta.IsStatusConditionTrue(got.Conditions, "Programmed") {
		t.Errorf("%+v", got.Conditions)
	}
}

// counting tells what was written, by the reason of Programmed.
type counting struct {
	*Server
	wrote chan string
}

func (c *counting) ApplyStatus(ctx context.Context, d Desired) (string, error) {
	version, err := c.Server.ApplyStatus(ctx, d)
	if err == nil {
		c.wrote <- meta.FindStatusCondition(d.Conditions, "Programmed").Reason
	}
	return version, err
}

func (c *counting) await(t *testing.T, want string) {
	t.Helper()
	select {
	case got := <-c.wrote:
		if got != want {
			t.Errorf("written %s, want %s", got, want)
		}
	case <-time.After(kubetest.Patience):
		t.Fatalf("%s is not written", want)
	}
}

// TestKubectlWait: what kubectl waits for is this generation and no other.
func TestKubectlWait(t *testing.T) {
	b := newBench(t)
	kubectl := filepath.Join(os.Getenv("MESHD_KUBE"), "kubectl")
	if _, err := os.Stat(kubectl); err != nil {
		t.Skip("NOT TESTED: there is no kubectl in MESHD_KUBE")
	}
	config := b.Kubeconfig(t)
	waits := func(timeout string) error {
		return exec.Command(kubectl, "--kubeconfig", config, "-n", b.namespace, "wait", "trafficpolicy/a", "--for=condition=Programmed", "--timeout="+timeout).Run()
	}
	s := b.server(t, b.Config)
	b.apply(t, s, b.desired(t, synced, then))
	if err := waits("30s"); err != nil {
		t.Fatal(err)
	}
	p := b.policy(t)
	request := meshv1a1.Duration("3s")
	p.Spec.Timeout.Request = request
	if err := b.api.Update(context.Background(), p); err != nil {
		t.Fatal(err)
	}
	if waits("1s") == nil {
		t.Error("the old generation's status counts for the new one")
	}
	b.apply(t, s, b.desired(t, synced, now))
	if err := waits("30s"); err != nil {
		t.Error(err)
	}
}

// rules are all that a Server needs.
var rules = []rbacv1.PolicyRule{
	{APIGroups: []string{"meshd.io"}, Verbs: []string{"patch"}, Resources: []string{
		"meshconfigs/status", "certificateauthorities/status", "peerauthentications/status", "requestauthentications/status",
		"authorizationpolicies/status", "trafficpolicies/status", "workloads/status"}},
	{APIGroups: []string{"networking.k8s.io"}, Verbs: []string{"patch"}, Resources: []string{"ingresses/status"}},
	{APIGroups: []string{"gateway.networking.k8s.io"}, Verbs: []string{"patch"}, Resources: []string{"httproutes/status"}},
}

func TestRights(t *testing.T) {
	b := newBench(t)
	grant(t, b, "writer", rules)
	if b.apply(t, b.server(t, b.As(b.namespace, "writer")), b.desired(t, synced, then)) == 0 {
		t.Error("nothing was written")
	}
	if _, err := b.server(t, b.As(b.namespace, "other")).ApplyStatus(context.Background(), b.desired(t, synced, now)[0]); !apierrors.IsForbidden(err) {
		t.Errorf("without a role: %v", err)
	}
}

// grant gives a service account rights in all namespaces.
func grant(t *testing.T, b *bench, account string, rules []rbacv1.PolicyRule) {
	t.Helper()
	name := b.namespace + "-" + account
	for _, o := range []client.Object{
		&rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: rules},
		&rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: name},
			RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
			Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: b.namespace, Name: account}}},
	} {
		if err := b.api.Create(context.Background(), o); err != nil {
			t.Fatal(err)
		}
	}
	// RBAC is eventual: the API server reads its roles by watches.
	last := rules[len(rules)-1]
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User:               "system:serviceaccount:" + b.namespace + ":" + account,
		ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: last.Verbs[0], Group: last.APIGroups[0]},
	}}
	review.Spec.ResourceAttributes.Resource, review.Spec.ResourceAttributes.Subresource, _ = strings.Cut(last.Resources[0], "/")
	b.until(t, "rights", func() (bool, error) {
		answer := review.DeepCopy()
		err := b.api.Create(context.Background(), answer)
		return answer.Status.Allowed, err
	})
}

func (b *bench) until(t *testing.T, what string, is func() (bool, error)) {
	t.Helper()
	err := wait.PollUntilContextTimeout(context.Background(), 10*time.Millisecond, kubetest.Patience, true,
		func(context.Context) (bool, error) { return is() })
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}
