package status

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
	"github.com/meshd-io/meshd/pkg/compile/gatewayapi"
	"github.com/meshd-io/meshd/pkg/report"
)

// RouteController is meshd's name in the statuses of routes.
const RouteController gwv1.GatewayController = "meshd.io/mesh"

// RenderRouteParents gives the parents of a route's status: an entry for each
// parent that is a Service, in the places that they have now, and what other
// controllers have said. Nothing has to be written where ours is false: no
// parent is the mesh's, nor was one before. Pure.
func RenderRouteParents(in Object, refs []gwv1.ParentReference, has []gwv1.RouteParentStatus, p Progress, now metav1.Time) (out []gwv1.RouteParentStatus, ours bool) {
	wanted := map[int]bool{}
	for i, ref := range refs {
		wanted[i] = gatewayapi.OfService(ref)
		ours = ours || wanted[i]
	}
	entry := func(i int, previous []metav1.Condition) gwv1.RouteParentStatus {
		wanted[i] = false
		return gwv1.RouteParentStatus{ParentRef: refs[i], ControllerName: RouteController, Conditions: parentConditions(in, i, previous, p, now)}
	}
	out = make([]gwv1.RouteParentStatus, 0, len(has)+len(refs))
	for _, old := range has {
		if old.ControllerName != RouteController {
			out = append(out, old)
			continue
		}
		ours = true
		i := slices.IndexFunc(refs, func(ref gwv1.ParentReference) bool { return reflect.DeepEqual(ref, old.ParentRef) })
		if i >= 0 && wanted[i] {
			out = append(out, entry(i, old.Conditions))
		}
	}
	for i := range refs {
		if wanted[i] {
			out = append(out, entry(i, in.Previous))
		}
	}
	return out, ours
}

// parentConditions are Accepted, ResolvedRefs and Programmed of one parent,
// with the API's own words where they are true, and PartiallyInvalid where it is.
func parentConditions(in Object, parent int, previous []metav1.Condition, p Progress, now metav1.Time) []metav1.Condition {
	var all, dropped []report.Finding
	for _, f := range in.Findings {
		switch {
		case !concerns(f, parent):
		case f.Reason == report.PartiallyInvalid:
			dropped = append(dropped, f)
		default:
			all = append(all, f)
		}
	}
	accepted := plain(judge(all, report.Accepted))
	out := []metav1.Condition{accepted, plain(judge(all, report.ResolvedRefs)), programmed(accepted, p)}
	if len(dropped) > 0 && accepted.Status == metav1.ConditionTrue {
		out = append(out, metav1.Condition{
			Type: string(gwv1.RouteConditionPartiallyInvalid), Status: metav1.ConditionTrue, Reason: string(report.UnsupportedValue),
			Message: cut("Dropped Rule: " + messages(dropped)),
		})
	}
	for i := range out {
		out[i].ObservedGeneration = in.Generation
		out[i].LastTransitionTime = transition(previous, out[i], now)
	}
	return out
}

// OfRoute is what a route's status says of the mesh's parents: all of their
// conditions, and the generation that the oldest of them speaks of. ours is
// false where no parent is the mesh's.
func OfRoute(o *gwv1.HTTPRoute) (observed int64, conditions []metav1.Condition, ours bool) {
	ours = slices.ContainsFunc(o.Spec.ParentRefs, gatewayapi.OfService)
	observed = o.Generation
	for _, p := range o.Status.Parents {
		if p.ControllerName != RouteController {
			continue
		}
		for _, c := range p.Conditions {
			observed = min(observed, c.ObservedGeneration)
			conditions = append(conditions, c)
		}
	}
	return observed, conditions, ours
}

const parentRefs = "spec.parentRefs["

// concerns reports whether a finding is about a parent, or about all of them.
func concerns(f report.Finding, parent int) bool {
	return !strings.HasPrefix(f.Field, parentRefs) || strings.HasPrefix(f.Field, fmt.Sprintf("%s%d]", parentRefs, parent))
}

// plain is a condition whose reason is its type where it is true.
func plain(c metav1.Condition) metav1.Condition {
	if c.Status == metav1.ConditionTrue {
		c.Reason = c.Type
	}
	return c
}

// routeConditions are those of the whole route, for the console: it is accepted
// if one of its parents is.
func routeConditions(in Object, refs []gwv1.ParentReference, p Progress, now metav1.Time) []metav1.Condition {
	meshes, accepted := false, false
	for i, ref := range refs {
		if gatewayapi.OfService(ref) {
			meshes = true
			against := func(f report.Finding) bool {
				return f.Condition == report.Accepted && !f.Reason.Informs() && concerns(f, i)
			}
			accepted = accepted || !slices.ContainsFunc(in.Findings, against)
		}
	}
	in.Findings = slices.Clone(in.Findings)
	switch {
	case !meshes:
		in.Findings = append(in.Findings, report.Finding{
			Object: in.Object, Condition: report.Accepted, Reason: report.NoMatchingParent, Field: "spec.parentRefs",
			Message: `none is a Service (group: "", kind: Service): this route is left to other controllers`,
		})
	case accepted:
		for i, f := range in.Findings {
			if strings.HasPrefix(f.Field, parentRefs) {
				in.Findings[i].Reason = report.PartiallyInvalid // of the others the route is in force
			}
		}
	}
	out := conditions(in, p, now)
	for i := range out {
		out[i] = plain(out[i])
	}
	return out
}

func (r *renderer) httpRoute(o *gwv1.HTTPRoute) {
	in, p := r.about("HTTPRoute", &o.ObjectMeta, nil)
	conditions := routeConditions(in, o.Spec.ParentRefs, p, r.Now)
	parents, ours := RenderRouteParents(in, o.Spec.ParentRefs, o.Status.Parents, p, r.Now)
	st := gwv1.HTTPRouteStatus{RouteStatus: gwv1.RouteStatus{Parents: parents}}
	shown := meshv1a1.PolicyStatus{ObservedGeneration: in.Generation, Conditions: conditions, Proxies: count(p), Laggards: laggards(p)}
	r.add(&o.ObjectMeta, in, conditions, struct {
		gwv1.HTTPRouteStatus  `json:",inline"`
		meshv1a1.PolicyStatus `json:",inline"`
	}{st, shown}, o.Status)
	r.out[len(r.out)-1].Written = nil
	if ours {
		r.out[len(r.out)-1].Written = st
	}
}
