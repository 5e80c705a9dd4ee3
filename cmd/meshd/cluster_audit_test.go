package main

import (
	"fmt"
	"log/slog"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshd-io/meshd/pkg/crds"
	"github.com/meshd-io/meshd/pkg/telemetry"
)

// TestPodsAreGoneThroughWhenTheyChange, and not when endpoints do: who looks at
// all pods at each event has the cost of the cluster in every change.
func TestPodsAreGoneThroughWhenTheyChange(t *testing.T) {
	c := &cluster{flags: serveFlags{namespace: "meshd-system"}, log: slog.New(slog.DiscardHandler)}
	d, l := &daemon{metrics: telemetry.New()}, &lead{cluster: c}
	if got := l.trusting(); got != nil {
		t.Errorf("%v before there is a snapshot", got)
	}
	snapshot := &crds.Snapshot{}
	for i := range 1000 {
		name := fmt.Sprint("n", i)
		snapshot.Namespaces = append(snapshot.Namespaces, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})
		snapshot.Pods = append(snapshot.Pods, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: "a"}})
	}
	c.Findings(d, snapshot)
	if got := l.trusting(); !slices.Equal(got, []string{"meshd-system"}) {
		t.Errorf("%v, want meshd's own", got)
	}

	next := *snapshot
	next.Pods = slices.Clone(next.Pods)
	next.Pods[3] = &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "n3", Name: "a", Labels: map[string]string{"meshd.io/inject": "enabled"}}}
	c.Findings(d, &next)
	if got := l.trusting(); !slices.Equal(got, []string{"meshd-system", "n3"}) {
		t.Errorf("%v, want n3 too", got)
	}

	endpoints := next
	if allocs := testing.AllocsPerRun(10, func() {
		endpoints.EndpointSlices = []*discoveryv1.EndpointSlice{{}}
		c.Findings(d, &endpoints)
		l.trusting()
	}); allocs > 10 {
		t.Errorf("%.0f allocations at a change of endpoints", allocs)
	}
}
