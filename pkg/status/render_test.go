package status

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
	"github.com/meshd-io/meshd/pkg/report"
)

var (
	then   = metav1.NewTime(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	now    = metav1.NewTime(time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC))
	policy = report.Object{Kind: "TrafficPolicy", Namespace: "shop", Name: "loans"}
)

func TestConditions(t *testing.T) {
	refused := report.Finding{Object: policy, Condition: report.Accepted, Reason: report.Invalid, Field: "spec.timeout", Message: "too long"}
	missing := report.Finding{Object: policy, Condition: report.ResolvedRefs, Reason: report.NotFound, Message: "no Service loans"}
	loser := report.Finding{Object: policy, Condition: report.Accepted, Reason: report.Overridden, Message: "TrafficPolicy shop/older has the say"}
	cases := []struct {
		name     string
		findings []report.Finding
		progress Progress
		want     map[string]string // type -> "STATUS REASON"
	}{
		{"nothing against it", nil, Progress{Total: 2, Acknowledged: 2},
			map[string]string{"Accepted": "True Accepted", "ResolvedRefs": "True ResolvedRefs", "Programmed": "True Programmed"}},
		{"no proxy is concerned", nil, Progress{}, map[string]string{"Programmed": "True Programmed"}},
		{"a laggard", nil, Progress{Total: 2, Acknowledged: 1, Laggards: []string{"shop/a"}}, map[string]string{"Programmed": "False Pending"}},
		{"refused by an Envoy", nil, Progress{Total: 2, Acknowledged: 1, Rejected: 1, Messages: []string{"bad regex"}},
			map[string]string{"Accepted": "True Accepted", "Programmed": "False Rejected"}},
		{"refused by meshd", []report.Finding{refused}, Progress{}, map[string]string{"Accepted": "False Invalid", "Programmed": "False Invalid"}},
		{"a missing target", []report.Finding{missing}, Progress{}, map[string]string{"Accepted": "True Accepted", "ResolvedRefs": "False NotFound"}},
		{"overridden", []report.Finding{loser}, Progress{}, map[string]string{"Accepted": "True Overridden", "Programmed": "True Programmed"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got := Render(Object{Object: policy, Generation: 3, Findings: c.findings}, c.progress, now)
			for _, cond := range got.Conditions {
				want, asked := c.want[cond.Type]
				if is := string(cond.Status) + " " + cond.Reason; asked && is != want {
					t.Errorf("%s is %s, want %s", cond.Type, is, want)
				}
				if cond.ObservedGeneration != 3 || cond.LastTransitionTime != now {
					t.Errorf("%s: generation %d, time %v", cond.Type, cond.ObservedGeneration, cond.LastTransitionTime)
				}
			}
		})
	}
}

func TestTransitionTimeMovesOnlyOnATransition(t *testing.T) {
	before := []metav1.Condition{
		{Type: "Accepted", Status: metav1.ConditionTrue, LastTransitionTime: then},
		{Type: "Programmed", Status: metav1.ConditionFalse, LastTransitionTime: then},
	}
	got := Render(Object{Object: policy, Previous: before}, Progress{}, now)
	for _, cond := range got.Conditions {
		want := now
		if cond.Type == "Accepted" {
			want = then
		}
		if cond.LastTransitionTime != want {
			t.Errorf("%s moved to %v", cond.Type, cond.LastTransitionTime)
		}
	}
}

func TestTargets(t *testing.T) {
	refs := []meshv1a1.TargetRef{{Kind: "Service", Name: "a"}, {Kind: "Service", Name: "b"}}
	winner := report.Object{Kind: "TrafficPolicy", Namespace: "shop", Name: "older"}
	findings := []report.Finding{
		{Object: policy, Condition: report.ResolvedRefs, Reason: report.NotFound, Field: "spec.targetRefs[0].name", Message: "no Service a"},
		{Object: policy, Condition: report.Accepted, Reason: report.Overridden, Field: "spec.targetRefs[1]", Message: "older wins", By: winner},
	}
	got := Render(Object{Object: policy, TargetRefs: refs, Findings: findings}, Progress{}, now).Targets
	if len(got) != 2 || got[0].Conditions[1].Status != metav1.ConditionFalse || got[1].Conditions[1].Status != metav1.ConditionTrue {
		t.Fatalf("targets: %+v", got)
	}
	if len(got[0].OverriddenBy) != 0 || len(got[1].OverriddenBy) != 1 || got[1].OverriddenBy[0] != "TrafficPolicy shop/older" {
		t.Errorf("overridden by: %v, %v", got[0].OverriddenBy, got[1].OverriddenBy)
	}
}
