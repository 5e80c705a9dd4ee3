package main

import (
	"log/slog"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
	"github.com/meshd-io/meshd/pkg/ca/store"
	"github.com/meshd-io/meshd/pkg/compile"
	"github.com/meshd-io/meshd/pkg/crds"
	"github.com/meshd-io/meshd/pkg/identity"
	"github.com/meshd-io/meshd/pkg/telemetry"
	"github.com/meshd-io/meshd/pkg/xds/acks"
	"github.com/meshd-io/meshd/pkg/xds/cache"
	"github.com/meshd-io/meshd/pkg/xds/scope"
)

// takeBench is a daemon whose pipeline nobody runs, with one proxy.
type takeBench struct {
	*daemon
	published func()
}

func newTakeBench(t *testing.T) *takeBench {
	t.Helper()
	b := &takeBench{
		daemon:    &daemon{home: files{}, log: slog.New(slog.DiscardHandler), metrics: telemetry.New(), book: acks.NewBook(), cache: cache.New()},
		published: func() {},
	}
	if err := b.openAuthority(&crds.Snapshot{}, "td", store.File{Dir: t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	b.pipeline = newPipeline(compile.Config{TrustDomain: "td"}, b.cache, b.book, b.metrics, b.log)
	b.cache.Watch(func(scope.Key) { b.published() })
	b.take(withMode("Strict"), nil)
	id, err := identity.New("td", "shop", "default")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.pipeline.KeyFor(scope.Node{ID: "sidecar~shop/a", Identity: id}); err != nil {
		t.Fatal(err)
	}
	b.pipeline.Work()
	return b
}

// withMode is a snapshot with one pod of the mesh, whose proxies are served something else in each mode.
func withMode(mode string) *crds.Snapshot {
	in := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: "shop", Name: name} }
	pod := &corev1.Pod{ObjectMeta: in("a"), Spec: corev1.PodSpec{
		InitContainers: []corev1.Container{{Name: "meshd-proxy"}}, Containers: []corev1.Container{{Name: "app"}},
	}}
	pod.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "10.244.0.5", PodIPs: []corev1.PodIP{{IP: "10.244.0.5"}}}
	policy := &meshv1a1.PeerAuthentication{ObjectMeta: in("default")}
	policy.Spec.Mode = meshv1a1.PeerAuthenticationMode(mode)
	return &crds.Snapshot{Pods: []*corev1.Pod{pod}, PeerAuthentications: []*meshv1a1.PeerAuthentication{policy}}
}

// TestASnapshotIsPublishedByWhoBringsIt: nobody's turn is waited for, and the
// proxies come before all others who wait for a snapshot.
func TestASnapshotIsPublishedByWhoBringsIt(t *testing.T) {
	b := newTakeBench(t)
	waiting, published := b.snapshots.wait(), 0
	b.published = func() {
		published++
		select {
		case <-waiting:
			t.Error("others were told before the proxies")
		default:
		}
	}
	b.take(withMode("Permissive"), nil)
	if published != 1 {
		t.Errorf("published %d times when the snapshot had been taken, want once", published)
	}
	select {
	case <-waiting:
	default:
		t.Error("nobody else was told")
	}
}

// TestSnapshotsOfABusyTimeAreOne: while somebody works, who brings a snapshot
// does not wait, and the newest is what counts.
func TestSnapshotsOfABusyTimeAreOne(t *testing.T) {
	b := newTakeBench(t)
	published := 0
	b.published = func() { published++ }
	b.pipeline.alone(func() {
		b.take(withMode("Strict"), nil)
		b.take(withMode("Permissive"), nil)
		b.take(withMode("Disable"), nil)
	})
	select {
	case <-b.pipeline.wake:
	default:
		t.Fatal("nobody comes after who works")
	}
	b.pipeline.alone(b.pipeline.turn)
	b.take(withMode("Disable"), nil) // is there already
	if published != 1 {
		t.Errorf("published %d times, want the newest once", published)
	}
}
