package status

import (
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
	"github.com/meshd-io/meshd/pkg/crds"
	"github.com/meshd-io/meshd/pkg/report"
)

// BenchmarkTake is a look at 1000 policies that have the status that they should have.
func BenchmarkTake(b *testing.B) {
	var s crds.Snapshot
	for i := range 1000 {
		name := fmt.Sprintf("policy-%04d", i)
		s.TrafficPolicies = append(s.TrafficPolicies, &meshv1a1.TrafficPolicy{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID(name), Generation: 1, ResourceVersion: fmt.Sprint(i)},
			Spec:       meshv1a1.TrafficPolicySpec{TargetRefs: []meshv1a1.TargetRef{{Kind: "Service", Name: name}}},
		})
	}
	facts := Facts{
		About: func(report.Object, types.UID, int64) (Progress, []report.Finding) {
			return Progress{Total: 1000, Acknowledged: 1000}, nil
		},
		Now: metav1.NewTime(time.Unix(1, 0)),
	}
	for i, d := range All(&s, facts) { // both are sorted by name
		s.TrafficPolicies[i].Status = d.Written.(meshv1a1.PolicyStatus)
	}
	w := NewWriter(WriterConfig{})
	w.objects = map[report.Object]*written{}
	w.take(All(&s, facts))
	b.ReportAllocs()
	for b.Loop() {
		w.take(All(&s, facts))
	}
	for o, h := range w.objects {
		if h.want != nil {
			b.Fatalf("%s is to be written", o)
		}
	}
}
