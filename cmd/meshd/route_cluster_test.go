package main

import (
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/meshd-io/meshd/internal/kubetest"
	"github.com/meshd-io/meshd/pkg/crds"
	"github.com/meshd-io/meshd/pkg/report"
	meshstatus "github.com/meshd-io/meshd/pkg/status"
)

// TestRoutesInACluster: the Gateway API is installed while meshd runs; routes of
// Services are told how far they are, those of Gateways are left alone.
func TestRoutesInACluster(t *testing.T) {
	c := kubetest.Start(t, kubetest.Options{})
	create(t, c.Client(t), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "meshd-system"}})
	startInCluster(t, c)
	theirs, err := crds.UpstreamDefinitions()
	if err != nil {
		t.Fatal(err)
	}
	c.InstallCRDs(t, theirs...)
	k, shop := c.Client(t), c.Namespace(t, nil)
	route := func(name string, parent gwv1.ParentReference) *gwv1.HTTPRoute {
		out := &gwv1.HTTPRoute{ObjectMeta: metav1.ObjectMeta{Namespace: shop, Name: name}}
		out.Spec.ParentRefs = []gwv1.ParentReference{parent}
		ref := gwv1.HTTPBackendRef{}
		ref.Name, ref.Port = "loans", new(int32(80))
		out.Spec.Rules = []gwv1.HTTPRouteRule{{BackendRefs: []gwv1.HTTPBackendRef{ref}}}
		return out
	}
	ours := route("ours", gwv1.ParentReference{Group: new(gwv1.Group("")), Kind: new(gwv1.Kind("Service")), Name: "loans"})
	edge := route("edge", gwv1.ParentReference{Name: "edge"})
	create(t, k, edge)
	create(t, k, ours)
	is := func(condition report.Condition, status metav1.ConditionStatus, reason report.Reason) {
		t.Helper()
		until(t, string(condition)+" "+string(status)+" "+string(reason), func(ctx context.Context) bool {
			if err := k.Get(ctx, client.ObjectKeyFromObject(ours), ours); err != nil || len(ours.Status.Parents) != 1 {
				return false // until it is too late
			}
			got := meta.FindStatusCondition(ours.Status.Parents[0].Conditions, string(condition))
			return got != nil && got.Status == status && got.Reason == string(reason) && got.ObservedGeneration == ours.Generation
		})
	}
	is(report.Accepted, metav1.ConditionFalse, report.NoMatchingParent)
	create(t, k, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: shop, Name: "loans"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: 80}}}})
	is(report.Accepted, metav1.ConditionTrue, "Accepted")
	is(report.Programmed, metav1.ConditionTrue, "Programmed")
	if p := ours.Status.Parents[0]; p.ControllerName != meshstatus.RouteController || p.ParentRef.Name != "loans" {
		t.Errorf("%+v", p)
	}
	if err := k.Get(t.Context(), client.ObjectKeyFromObject(edge), edge); err != nil || len(edge.Status.Parents) > 0 {
		t.Errorf("%v, parents of a Gateway's route: %+v", err, edge.Status.Parents)
	}
}
