package main

import (
	"reflect"
	"testing"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
	"github.com/meshd-io/meshd/pkg/compile"
	"github.com/meshd-io/meshd/pkg/crds"
	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/peer"
	"github.com/meshd-io/meshd/pkg/report"
	"github.com/meshd-io/meshd/pkg/status"
	"github.com/meshd-io/meshd/pkg/xds/acks"
	"github.com/meshd-io/meshd/pkg/xds/cache"
	"github.com/meshd-io/meshd/pkg/xds/envoy"
	"github.com/meshd-io/meshd/pkg/xds/scope"
)

var somePolicy = report.Object{Kind: "TrafficPolicy", Namespace: "shop", Name: "p"}

func keyOf(account string) scope.Key { return scope.Key{Namespace: "shop", ServiceAccount: account} }

// routes is a translation with one RouteConfiguration; a generation is an
// origin's, 0 is no origin, and the domain tells versions apart.
func routes(domain string, generation int64) envoy.Resources {
	r := envoy.Resource{Name: "r", Proto: &routev3.RouteConfiguration{Name: "r", VirtualHosts: []*routev3.VirtualHost{{Name: "v", Domains: []string{domain}}}}}
	if generation > 0 {
		r.Origins = []report.Origin{{Object: somePolicy, Generation: generation}}
	}
	return envoy.Resources{envoy.RouteType: {r}}
}

// holding is the version of resource r that a proxy says to hold.
type holding string

func (h holding) Version(name string) (string, bool) { return string(h), name == "r" }

// bench has a cache and two proxies, of accounts a and b.
type statusBench struct {
	cache *cache.Cache
	book  *acks.Book
	state *stater
}

func newStatusBench(accounts ...string) *statusBench {
	b := &statusBench{cache: cache.New(), book: acks.NewBook()}
	b.state = &stater{
		pipeline: newPipeline(compile.Config{}, b.cache, b.book, nil, nil), book: b.book, cache: b.cache,
		authority: func() status.Authority { return status.Authority{} },
	}
	for _, a := range accounts {
		b.book.Record(acks.Event{Kind: acks.Connected, At: time.Unix(1, 0), Proxy: proxyOf(a)})
		b.book.Record(acks.Event{Kind: acks.Acknowledged, Proxy: proxyOf(a), Type: envoy.ListenerType})
	}
	return b
}

func proxyOf(account string) acks.Proxy {
	return acks.Proxy{Name: "shop/" + account, Key: keyOf(account)}
}

// acknowledge has a proxy hold what is published for it now.
func (b *statusBench) acknowledge(account string) {
	var held holding
	if it := b.cache.Snapshot(keyOf(account)).Set(envoy.RouteType).Get("r"); it != nil {
		held = holding(it.Version)
	}
	b.book.Record(acks.Event{Kind: acks.Acknowledged, Proxy: proxyOf(account), Type: envoy.RouteType, Held: held})
}

func (b *statusBench) progress(generation int64) status.Progress {
	p, _ := b.state.about(nil, b.book.Ledger())(somePolicy, "u", generation)
	return p
}

func TestFormerTargetsHaveToLetGo(t *testing.T) {
	for name, gone := range map[string]envoy.Resources{"changed": routes("without", 0), "removed": {}} {
		t.Run(name, func(t *testing.T) {
			b := newStatusBench("a", "b")
			b.cache.Publish(keyOf("a"), routes("with", 1))
			b.cache.Publish(keyOf("b"), routes("without", 0))
			b.acknowledge("a")
			b.acknowledge("b")
			check := func(generation int64, want status.Progress) {
				t.Helper()
				if got := b.progress(generation); !reflect.DeepEqual(got, want) {
					t.Errorf("generation %d: %+v, want %+v", generation, got, want)
				}
			}
			check(1, status.Progress{Total: 1, Acknowledged: 1})
			b.cache.Publish(keyOf("a"), gone)
			b.cache.Publish(keyOf("b"), routes("with", 2))
			check(2, status.Progress{Total: 2, Laggards: []string{"shop/a", "shop/b"}})
			b.acknowledge("b")
			check(2, status.Progress{Total: 2, Acknowledged: 1, Laggards: []string{"shop/a"}})
			b.acknowledge("a")
			check(2, status.Progress{Total: 1, Acknowledged: 1})
			check(2, status.Progress{Total: 1, Acknowledged: 1})
		})
	}
}

// TestNothingIsToldBeforeAllIsPublished: an object of which nothing is published
// yet would seem to concern nobody.
func TestNothingIsToldBeforeAllIsPublished(t *testing.T) {
	b := newStatusBench()
	p := b.state.pipeline
	told := func() bool { _, ok := b.state.Report(); return ok }
	if told() {
		t.Error("told before the first snapshot")
	}
	p.current, p.active[keyOf("a")] = input{snapshot: &crds.Snapshot{}}, &activeKey{}
	p.mesh.Store(&model.Mesh{})
	if told() {
		t.Error("told though a key has nothing")
	}
	p.active[keyOf("a")].mesh = p.mesh.Load()
	if !told() {
		t.Error("not told though all is published")
	}
	p.mesh.Store(&model.Mesh{})
	if told() {
		t.Error("told though a key has the former mesh")
	}
}

func TestLeaderWaitsForWhatItDoesNotKnow(t *testing.T) {
	b := newStatusBench("a")
	ready := corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}
	pod := func(name, container string, st corev1.PodStatus) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}, Status: st,
			Spec: corev1.PodSpec{InitContainers: []corev1.Container{{Name: container}}}}
	}
	b.state.pipeline.current = input{snapshot: &crds.Snapshot{
		Pods:            []*corev1.Pod{pod("a", "meshd-proxy", ready), pod("b", "meshd-proxy", ready), pod("new", "meshd-proxy", corev1.PodStatus{}), pod("out", "other", ready)},
		TrafficPolicies: []*meshv1a1.TrafficPolicy{{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "p", UID: "u", Generation: 1}}},
	}}
	var others []peer.State
	l := &leader{stater: b.state, peers: func() []peer.State { return others }, until: time.Now().Add(time.Hour)}
	none := func(report.Object, types.UID) []metav1.Condition { return nil }
	if _, ok := l.Desired(none); ok {
		t.Error("a ready pod's proxy is not connected")
	}
	others = []peer.State{{Name: "meshd-b", Proxies: 1}}
	if _, ok := l.Desired(none); ok {
		t.Error("a replica has not told")
	}
	others[0].Known = true
	if _, ok := l.Desired(none); !ok {
		t.Error("all is known")
	}
	others[0].Known, l.until = false, time.Time{}
	all, ok := l.Desired(none)
	if !ok || len(all) != 1 {
		t.Fatal("it waits for ever")
	}
	if c := all[0].Conditions[2]; c.Type != "Programmed" || c.Reason != string(report.Pending) || c.Message != "waiting for what meshd's replica meshd-b knows of its proxies" {
		t.Errorf("%+v", c)
	}
}

func TestReplicas(t *testing.T) {
	pod := func(name string, change func(*corev1.Pod)) *corev1.Pod {
		p := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "meshd-system", Name: name, Labels: map[string]string{
				"app.kubernetes.io/name": "meshd", "app.kubernetes.io/component": "control-plane"}},
			Spec: corev1.PodSpec{ServiceAccountName: "meshd"},
			Status: corev1.PodStatus{PodIP: "fd00::2", Conditions: []corev1.PodCondition{
				{Type: corev1.PodReady, Status: corev1.ConditionTrue}}},
		}
		if change != nil {
			change(p)
		}
		return p
	}
	snapshot := &crds.Snapshot{Pods: []*corev1.Pod{
		pod("foreign", func(p *corev1.Pod) { p.Namespace = "bank" }),
		pod("own", nil), pod("other", nil),
		pod("unready", func(p *corev1.Pod) { p.Status.Conditions[0].Status = corev1.ConditionFalse }),
		pod("going", func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{} }),
		pod("gateway", func(p *corev1.Pod) { p.Labels = nil }),
		pod("account", func(p *corev1.Pod) { p.Spec.ServiceAccountName = "default" }),
		pod("nowhere", func(p *corev1.Pod) { p.Status.PodIP = "" }),
		pod("foreign", func(p *corev1.Pod) { p.Namespace = "shop" }),
	}}
	want := []peer.Peer{{Name: "other", Address: "[fd00::2]:15012"}}
	if got := replicas(snapshot, "meshd-system", "own", "15012"); !reflect.DeepEqual(got, want) {
		t.Errorf("%v", got)
	}
}
