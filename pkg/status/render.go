package status

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
	"github.com/meshd-io/meshd/pkg/report"
)

// Object is one object whose status is wanted.
type Object struct {
	report.Object
	Generation int64
	// TargetRefs of a policy; none for other kinds.
	TargetRefs []meshv1a1.TargetRef
	// Findings about this object only.
	Findings []report.Finding
	// Previous are the conditions that its status has now, PreviousTargets those of its targets.
	Previous        []metav1.Condition
	PreviousTargets []meshv1a1.TargetStatus
}

// Render gives the status of a namespaced kind (API.md): conditions, proxies,
// laggards and, for a policy, its targets. Pure.
func Render(in Object, p Progress, now metav1.Time) meshv1a1.PolicyStatus {
	return meshv1a1.PolicyStatus{
		ObservedGeneration: in.Generation,
		Conditions:         conditions(in, p, now),
		Proxies:            count(p),
		Laggards:           laggards(p),
		Targets:            targets(in, now),
	}
}

// RenderMeshConfig gives the status of a MeshConfig. Pure.
func RenderMeshConfig(in Object, p Progress, now metav1.Time) meshv1a1.MeshConfigStatus {
	return meshv1a1.MeshConfigStatus{
		ObservedGeneration: in.Generation, Conditions: conditions(in, p, now), Proxies: count(p), Laggards: laggards(p),
	}
}

// Authority is what the CA says of itself.
type Authority struct {
	Phase          string
	Roots, Issuers []meshv1a1.CertificateStatus
}

// RenderCertificateAuthority gives the status of a CertificateAuthority. Pure.
func RenderCertificateAuthority(in Object, p Progress, ca Authority, now metav1.Time) meshv1a1.CertificateAuthorityStatus {
	return meshv1a1.CertificateAuthorityStatus{
		ObservedGeneration: in.Generation, Phase: ca.Phase, Roots: ca.Roots, Issuers: ca.Issuers,
		Proxies: count(p), Laggards: laggards(p), Conditions: conditions(in, p, now),
	}
}

func count(p Progress) meshv1a1.ProxyCount {
	return meshv1a1.ProxyCount{Total: int32(p.Total), Acknowledged: int32(p.Acknowledged), Rejected: int32(p.Rejected)} // counts of proxies
}

// maxLaggards bounds status.laggards, by the API's schema.
const maxLaggards = 5

func laggards(p Progress) []string { return p.Laggards[:min(len(p.Laggards), maxLaggards)] }

// targets gives each target reference what was found about it: findings that
// name it, or whose field lies in spec.targetRefs[i].
func targets(in Object, now metav1.Time) []meshv1a1.TargetStatus {
	out := make([]meshv1a1.TargetStatus, 0, len(in.TargetRefs))
	for i, ref := range in.TargetRefs {
		field := fmt.Sprintf("spec.targetRefs[%d]", i)
		var own []report.Finding
		var by []string
		for _, f := range in.Findings {
			if f.Target != field && f.Field != field && !strings.HasPrefix(f.Field, field+".") {
				continue
			}
			own = append(own, f)
			if f.Reason == report.Overridden && f.By.Name != "" && !slices.Contains(by, f.By.String()) {
				by = append(by, f.By.String())
			}
		}
		conds := []metav1.Condition{judge(own, report.Accepted), judge(own, report.ResolvedRefs)}
		previous := in.Previous
		if k := slices.IndexFunc(in.PreviousTargets, func(t meshv1a1.TargetStatus) bool { return reflect.DeepEqual(t.Ref, ref) }); k >= 0 {
			previous = in.PreviousTargets[k].Conditions
		}
		for j := range conds {
			conds[j].ObservedGeneration = in.Generation
			conds[j].LastTransitionTime = transition(previous, conds[j], now)
		}
		out = append(out, meshv1a1.TargetStatus{Ref: ref, Conditions: conds, OverriddenBy: by})
	}
	return out
}
