package status

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/meshd-io/meshd/pkg/crds"
	"github.com/meshd-io/meshd/pkg/report"
)

func serviceParent(name string) gwv1.ParentReference {
	return gwv1.ParentReference{Group: new(gwv1.Group("")), Kind: new(gwv1.Kind("Service")), Name: gwv1.ObjectName(name)}
}

func TestRouteStatus(t *testing.T) {
	object := report.Object{Kind: "HTTPRoute", Namespace: "shop", Name: "r"}
	finding := func(c report.Condition, r report.Reason, field string) report.Finding {
		return report.Finding{Object: object, Condition: c, Reason: r, Field: field, Message: "so it is"}
	}
	lost := finding(report.Accepted, report.NoMatchingParent, "spec.parentRefs[1].name")
	cases := []struct {
		name     string
		parents  []gwv1.ParentReference
		findings []report.Finding
		progress Progress
		// whole are the route's own conditions, parts those of each parent: "TYPE STATUS REASON".
		whole, parts map[string]string
	}{
		{"well", []gwv1.ParentReference{serviceParent("a")}, nil, synced,
			map[string]string{"Accepted": "True Accepted", "Programmed": "True Programmed"},
			map[string]string{"0 Accepted": "True Accepted", "0 ResolvedRefs": "True ResolvedRefs", "0 Programmed": "True Programmed"}},
		{"one parent is none", []gwv1.ParentReference{serviceParent("a"), serviceParent("b")}, []report.Finding{lost}, synced,
			map[string]string{"Accepted": "True Accepted", "Programmed": "True Programmed"},
			map[string]string{"0 Accepted": "True Accepted", "1 Accepted": "False NoMatchingParent", "1 Programmed": "False NoMatchingParent"}},
		{"no parent is one", []gwv1.ParentReference{{Name: "edge"}, serviceParent("b")}, []report.Finding{lost}, Progress{},
			map[string]string{"Accepted": "False NoMatchingParent"}, map[string]string{"1 Accepted": "False NoMatchingParent"}},
		{"of a Gateway", []gwv1.ParentReference{{Name: "edge"}}, nil, Progress{}, map[string]string{"Accepted": "False NoMatchingParent"}, nil},
		{"a rule is dropped", []gwv1.ParentReference{serviceParent("a")}, []report.Finding{finding(report.Accepted, report.PartiallyInvalid, "spec.rules[0].matches[0].path.value")}, synced,
			map[string]string{"Accepted": "True Accepted"},
			map[string]string{"0 Accepted": "True Accepted", "0 PartiallyInvalid": "True UnsupportedValue", "0 Programmed": "True Programmed"}},
		{"every rule is", []gwv1.ParentReference{serviceParent("a")}, []report.Finding{finding(report.Accepted, report.UnsupportedValue, "spec.rules[0].matches[0].path.value")}, Progress{},
			map[string]string{"Accepted": "False UnsupportedValue"}, map[string]string{"0 Accepted": "False UnsupportedValue", "0 PartiallyInvalid": " "}},
		{"a backend is none", []gwv1.ParentReference{serviceParent("a")}, []report.Finding{finding(report.ResolvedRefs, report.BackendNotFound, "spec.rules[0].backendRefs[0].name")}, synced,
			map[string]string{"Accepted": "True Accepted", "ResolvedRefs": "False BackendNotFound"}, map[string]string{"0 ResolvedRefs": "False BackendNotFound"}},
		{"refused by an Envoy", []gwv1.ParentReference{serviceParent("a")}, nil, Progress{Total: 1, Rejected: 1, Messages: []string{"bad"}},
			map[string]string{"Programmed": "False Rejected"}, map[string]string{"0 Accepted": "True Accepted", "0 Programmed": "False Rejected"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			route := &gwv1.HTTPRoute{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "r", Generation: 2}}
			route.Spec.ParentRefs = c.parents
			all := All(&crds.Snapshot{HTTPRoutes: []*gwv1.HTTPRoute{route}}, Facts{Now: now, About: func(report.Object, types.UID, int64) (Progress, []report.Finding) {
				return c.progress, c.findings
			}})
			got := map[string]metav1.Condition{}
			for _, cond := range all[0].Conditions {
				got[cond.Type] = cond
			}
			if (all[0].Written != nil) != (len(c.parts) > 0) {
				t.Errorf("written: %+v", all[0].Written)
			}
			if st, ok := all[0].Written.(gwv1.HTTPRouteStatus); ok {
				for _, p := range st.Parents {
					for i, ref := range c.parents {
						if ref.Name != p.ParentRef.Name {
							continue
						}
						for _, cond := range p.Conditions {
							got[string(rune('0'+i))+" "+cond.Type] = cond
						}
					}
				}
			}
			for _, want := range []map[string]string{c.whole, c.parts} {
				for kind, says := range want {
					cond := got[kind]
					if is := string(cond.Status) + " " + cond.Reason; is != says {
						t.Errorf("%s is %q, want %q", kind, is, says)
					}
					if says != " " && cond.ObservedGeneration != 2 {
						t.Errorf("%s: generation %d", kind, cond.ObservedGeneration)
					}
				}
			}
		})
	}
}
