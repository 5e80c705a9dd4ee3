package crds

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshd-io/meshd/internal/kubetest"
	"github.com/meshd-io/meshd/pkg/report"
)

func patch(t testing.TB, api client.Client, o client.Object, text string) {
	t.Helper()
	if err := api.Patch(context.Background(), o, client.RawPatch(types.MergePatchType, []byte(text))); err != nil {
		t.Fatal(err)
	}
}

func patchStatus(t testing.TB, api client.Client, o client.Object, text string) {
	t.Helper()
	if err := api.Status().Patch(context.Background(), o, client.RawPatch(types.MergePatchType, []byte(text))); err != nil {
		t.Fatal(err)
	}
}

// patchRaw does not decode the answer, which need not be of the object's type.
func patchRaw(t testing.TB, api client.Client, o client.Object, text string) {
	t.Helper()
	gvk, err := api.GroupVersionKindFor(o)
	if err != nil {
		t.Fatal(err)
	}
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(gvk)
	u.SetNamespace(o.GetNamespace())
	u.SetName(o.GetName())
	patch(t, api, u, text)
}

func TestClusterSharesWhatHasNotChanged(t *testing.T) {
	c := cluster.Get(t)
	api, ns := c.Client(t), c.Namespace(t, nil)
	changed := service(ns, "changed")
	slice := endpointSlice(ns, "s-1", "10.0.0.1")
	create(t, api, changed, service(ns, "other"), slice, endpointSlice(ns, "s-2", "10.0.0.2"))
	k := watchCluster(t, c.Config)
	before, _ := k.last()

	changed.Spec.Ports[0].Port = 81
	update(t, api, changed)
	after, _ := k.last()
	was, is := in(before.Services, ns), in(after.Services, ns)
	if is["changed"] == was["changed"] || is["changed"].Spec.Ports[0].Port != 81 || was["changed"].Spec.Ports[0].Port != 80 {
		t.Errorf("port %d before, %d after", was["changed"].Spec.Ports[0].Port, is["changed"].Spec.Ports[0].Port)
	}
	if is["other"] != was["other"] || is["other"] == nil {
		t.Error("a Service that has not changed is another pointer")
	}
	if Same(before.Services, after.Services) || !Same(before.EndpointSlices, after.EndpointSlices) || !Same(before.Pods, after.Pods) {
		t.Error("only the Services' slice is to be another")
	}

	slice.Endpoints[0].Addresses[0] = "10.0.0.9"
	update(t, api, slice)
	last, _ := k.last()
	if Same(after.EndpointSlices, last.EndpointSlices) || !Same(after.Services, last.Services) {
		t.Error("only the EndpointSlices' slice is to be another")
	}
	if after.SameButStatus(last) {
		t.Error("an endpoint counts")
	}
	if in(last.EndpointSlices, ns)["s-2"] != in(after.EndpointSlices, ns)["s-2"] {
		t.Error("a slice that has not changed is another pointer")
	}

	remove(t, api, changed)
	gone, _ := k.last()
	if now := in(gone.Services, ns); len(now) != 1 || now["other"] != is["other"] {
		t.Errorf("%d Services after a deletion, want the one that was not deleted", len(now))
	}
}

// TestClusterOffersNothingForNothing: what no stage reads wakes no stage.
func TestClusterOffersNothingForNothing(t *testing.T) {
	c := cluster.Get(t)
	api, ns := c.Client(t), c.Namespace(t, nil)
	s, slice, policy := service(ns, "s"), endpointSlice(ns, "s-1", "10.0.0.1"), trafficPolicy(ns, "p")
	pod := &corev1.Pod{ObjectMeta: named(ns, "a"), Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app"}}}}
	node := &corev1.Node{ObjectMeta: named("", ns), Spec: corev1.NodeSpec{PodCIDR: "10.78.1.0/24", PodCIDRs: []string{"10.78.1.0/24"}}}
	create(t, api, s, slice, policy, pod, node)
	defer remove(t, api, node)
	k := watchCluster(t, c.Config)
	before, count := k.last()

	for name, change := range map[string]func(){
		"annotation": func() { patch(t, api, s, `{"metadata": {"annotations": {"example.com/a": "b"}}}`) },
		"last-applied annotation": func() {
			patch(t, api, policy, `{"metadata": {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"}}}`)
		},
		"trigger time of a slice": func() {
			patch(t, api, slice, `{"metadata": {"annotations": {"`+corev1.EndpointsLastChangeTriggerTime+`": "2026-01-01T00:00:00Z"}}}`)
		},
		"finalizer":      func() { patch(t, api, s, `{"metadata": {"finalizers": ["example.com/f"]}}`) },
		"finalizer away": func() { patch(t, api, s, `{"metadata": {"finalizers": null}}`) },
		"a condition that is no readiness": func() {
			patchStatus(t, api, pod, `{"status": {"conditions": [{"type": "PodScheduled", "status": "True"}]}}`)
		},
		"a node's heartbeat": func() { patchStatus(t, api, node, `{"status": {"conditions": [{"type": "Ready", "status": "True"}]}}`) },
		"a node's label":     func() { patch(t, api, node, `{"metadata": {"labels": {"a": "b"}}}`) },
		"managed fields": func() {
			if err := api.Update(context.Background(), policy, client.FieldOwner("someone")); err != nil {
				t.Fatal(err)
			}
		},
	} {
		change()
		if after, now := k.last(); now != count || after != before {
			t.Errorf("%s: %d snapshots more, want none", name, now-count)
			before, count = after, now
		}
	}

	patchStatus(t, api, pod, `{"status": {"conditions": [{"type": "Ready", "status": "True"}]}}`)
	if after, now := k.last(); now <= count || len(in(after.Pods, ns)["a"].Status.Conditions) != 1 {
		t.Error("a pod's readiness is to be offered")
	}
}

func TestClusterTellsStatusesApart(t *testing.T) {
	c := cluster.Get(t)
	api, ns := c.Client(t), c.Namespace(t, nil)
	policy := trafficPolicy(ns, "p")
	create(t, api, policy)
	k := watchCluster(t, c.Config)
	before, _ := k.last()
	patchStatus(t, api, policy, `{"status": {"observedGeneration": 1, "proxies": {"total": 3, "acknowledged": 2, "rejected": 0}}}`)
	after, _ := k.last()
	if got := in(after.TrafficPolicies, ns)["p"].Status.Proxies.Total; got != 3 {
		t.Errorf("the status has %d proxies, want 3", got)
	}
	if !after.SameButStatus(before) || Same(after.TrafficPolicies, before.TrafficPolicies) {
		t.Error("another status is another object, and the same input")
	}
	policy.Spec.Protocol = "GRPC"
	update(t, api, policy)
	if last, _ := k.last(); last.SameButStatus(after) || in(last.TrafficPolicies, ns)["p"].Generation != 2 {
		t.Error("another spec is another input")
	}
}

// TestClusterKeepsLittleOfAPod: memory is what limits how large a cluster may be.
func TestClusterKeepsLittleOfAPod(t *testing.T) {
	c := cluster.Get(t)
	api, ns := c.Client(t), c.Namespace(t, nil)
	uid := int64(1000)
	pod := &corev1.Pod{ObjectMeta: named(ns, "large"), Spec: corev1.PodSpec{
		NodeName: "n", ServiceAccountName: "app",
		InitContainers: []corev1.Container{{Name: "meshd-capture", Image: "agent", Args: []string{"capture", "--exclude-inbound-ports=9000"}}},
		Containers: []corev1.Container{{
			Name: "app", Image: "registry.example.com/app:1", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}},
			SecurityContext: &corev1.SecurityContext{RunAsUser: &uid},
		}},
	}}
	pod.Labels = map[string]string{"app": "large"}
	pod.Annotations = map[string]string{"example.com/large": strings.Repeat("x", 50<<10), "meshd.io/identity": "agent"}
	for range 100 {
		pod.Spec.Containers[0].Env = append(pod.Spec.Containers[0].Env, corev1.EnvVar{Name: "E", Value: strings.Repeat("y", 500)})
	}
	create(t, api, pod)
	patchStatus(t, api, pod, `{"status": {"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}], "conditions": [{"type": "Ready", "status": "True", "message": "m"}]}}`)
	k := watchCluster(t, c.Config)
	s, _ := k.now()
	kept := in(s.Pods, ns)["large"]
	data, err := json.Marshal(kept)
	if err != nil {
		t.Fatal(err)
	}
	if len(data) > 1500 {
		t.Errorf("%d bytes are kept of a pod of 100 kB:\n%s", len(data), data)
	}
	for _, want := range []string{
		`"uid":`, `"app":"large"`, `"meshd.io/identity":"agent"`, `"nodeName":"n"`, `"serviceAccountName":"app"`, `"phase":"Running"`,
		`"name":"http","containerPort":8080`, `"--exclude-inbound-ports=9000"`, `"runAsUser":1000`, `"type":"Ready","status":"True"`, `"podIPs":[{"ip":"10.0.0.1"}]`,
	} {
		if !strings.Contains(string(data), want) {
			t.Errorf("%s is not kept:\n%s", want, data)
		}
	}
}

// TestClusterRefusesOneObject: an object that the API server took under another
// schema breaks nothing but itself.
func TestClusterRefusesOneObject(t *testing.T) {
	c := kubetest.Start(t, kubetest.Options{})
	api := c.Client(t)
	for _, crd := range kubetest.CRDs() {
		if crd.Spec.Names.Kind == "TrafficPolicy" { // a schema that says nothing
			spec := crd.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"]
			keep := true
			spec.XPreserveUnknownFields, spec.Properties, spec.Required, spec.XValidations = &keep, nil, nil, nil
			crd.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"] = spec
			crd.Spec.Versions[0].Schema.OpenAPIV3Schema.XValidations = nil
			c.InstallCRDs(t, crd)
		}
	}
	turned, bad := trafficPolicy("default", "turned"), trafficPolicy("default", "bad")
	create(t, api, trafficPolicy("default", "good"), turned, bad)
	patchRaw(t, api, bad, `{"spec": {"retry": {"attempts": "many"}}}`)
	k := watchCluster(t, c.Config)
	s, _ := k.last()
	if got := in(s.TrafficPolicies, "default"); len(got) != 2 || got["good"] == nil || got["turned"] == nil {
		t.Errorf("%d policies, want the two good ones", len(got))
	}
	if fs := k.findings; len(fs) == 0 || fs[0].Object.Name != "bad" || fs[0].Field != "spec.retry.attempts" || fs[0].Generation != 2 || fs[0].File != "" || fs[0].Line != 0 {
		t.Errorf("findings %+v", fs)
	}

	patchRaw(t, api, turned, `{"spec": {"protocol": "Smoke"}}`)
	s, _ = k.last()
	if got := in(s.TrafficPolicies, "default")["turned"]; got == nil || got.Spec.Protocol != "HTTP2" || got.Generation != 1 {
		t.Errorf("the last good version is to stay, not %+v", got)
	}
	if fs := k.findings; len(fs) < 2 || fs[len(fs)-1].Object.Name != "turned" {
		t.Errorf("findings %+v", fs)
	}

	patchRaw(t, api, bad, `{"spec": {"retry": {"attempts": 2}}}`)
	patchRaw(t, api, turned, `{"spec": {"protocol": "GRPC", "surprise": 1}}`)
	s, _ = k.last()
	if fs := k.findings; len(fs) != 1 || fs[0].Object.Name != "turned" || fs[0].Field != "spec.surprise" {
		t.Errorf("findings %+v", fs)
	}
	if got := in(s.TrafficPolicies, "default"); len(got) != 3 {
		t.Errorf("%d policies, want 3", len(got))
	}
	// The same name, another object: the version that was good is none of its.
	// What can be read of it is better than to have no policy at all.
	remove(t, api, turned)
	again := trafficPolicy("default", "turned")
	again.Spec.Protocol = "Smoke"
	create(t, api, again)
	for _, protocol := range []string{"Smoke", "Mirrors"} {
		patchRaw(t, api, again, `{"spec": {"protocol": "`+protocol+`"}}`)
		s, _ = k.last()
		if got := in(s.TrafficPolicies, "default")["turned"]; got == nil || got.Spec.Protocol != protocol || got.UID != again.UID {
			t.Errorf("what can be read of an object that was never good is %+v, want protocol %s", got, protocol)
		}
	}
	if fs := k.findings; len(fs) != 1 || fs[0].Object.Name != "turned" || fs[0].Field != "spec.protocol" {
		t.Errorf("findings %+v", fs)
	}
	remove(t, api, again)
	if k.last(); len(k.findings) != 0 {
		t.Errorf("findings %+v about objects that are gone", k.findings)
	}
}

func TestClusterRescanEnds(t *testing.T) {
	c := cluster.Get(t)
	source, err := NewClusterSource(c.Config, ClusterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	soon, cancelSoon := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancelSoon()
	if _, _, err := source.Load(ctx); err != nil {
		t.Fatal(err)
	}
	if err := source.Rescan(soon); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("before Run: %v", err)
	}
	cancel()
	if err := source.Run(ctx, func(*Snapshot, []report.Finding) {}); err != nil {
		t.Error(err)
	}
	if err := source.Rescan(context.Background()); !errors.Is(err, ErrStopped) {
		t.Errorf("after Run: %v", err)
	}
}
