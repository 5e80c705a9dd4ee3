package compile

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
	"github.com/meshd-io/meshd/pkg/compile/gatewayapi"
	"github.com/meshd-io/meshd/pkg/compile/ingress"
	"github.com/meshd-io/meshd/pkg/compile/object"
	"github.com/meshd-io/meshd/pkg/compile/policy"
	"github.com/meshd-io/meshd/pkg/compile/services"
	"github.com/meshd-io/meshd/pkg/crds"
	"github.com/meshd-io/meshd/pkg/memo"
	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/report"
)

// read is what a table of objects holds: what was read of one, and what is wrong with it.
type read[V any] struct {
	value    V
	ok       bool
	findings []report.Finding
}

// feed brings the tables of objects from the last snapshot to this one.
func (c *Compiler) feed(snap *crds.Snapshot) {
	t, last, m := c.tables, c.last, c.memory
	feed(t.podObjects, last.Pods, snap.Pods, func(p *corev1.Pod) *corev1.Pod { return p })
	feed(t.workloadObjects, last.Workloads, snap.Workloads, func(w *meshv1a1.Workload) *meshv1a1.Workload { return w })
	feed(t.serviceObjects, last.Services, snap.Services, func(s *corev1.Service) read[*services.Service] {
		service, ok := services.ServiceOf(s)
		return read[*services.Service]{service, ok, nil}
	})
	feed(t.sliceObjects, last.EndpointSlices, snap.EndpointSlices, func(s *discoveryv1.EndpointSlice) read[*services.Slice] {
		slice, ok := services.SliceOf(s)
		return read[*services.Slice]{slice, ok, nil}
	})
	feed(t.routeObjects, last.HTTPRoutes, snap.HTTPRoutes, func(o *gwv1.HTTPRoute) read[*gatewayapi.Route] {
		route, findings := gatewayapi.RouteOf(o)
		return read[*gatewayapi.Route]{route, true, findings}
	})
	feed(t.secretObjects, last.Secrets, snap.Secrets, func(s *corev1.Secret) *corev1.Secret { return s })
	feedPolicies(t.peerObjects, m.peerAuthentications, last.PeerAuthentications, snap.PeerAuthentications, policy.ReadPeerAuthentication, nil)
	feedPolicies(t.trafficObjects, m.trafficPolicies, last.TrafficPolicies, snap.TrafficPolicies, policy.ReadTraffic, nil)
	readAuthorization := func(obj *meshv1a1.AuthorizationPolicy) (*policy.Authorization, []report.Finding) {
		return policy.ReadAuthorization(obj, c.basis.defaults)
	}
	feedPolicies(t.authzObjects, m.authorizationPolicies, last.AuthorizationPolicies, snap.AuthorizationPolicies, readAuthorization, (*policy.Authorization).Closed)
	if !slices.Equal(last.Ingresses, snap.Ingresses) || !slices.Equal(last.IngressClasses, snap.IngressClasses) {
		t.ingresses.Set(struct{}{}, ingress.Ours(snap.Ingresses, snap.IngressClasses))
	}
}

// feedPolicies sets those that are in force; otherwise, where it is not nil, gives what holds instead of one that is not.
func feedPolicies[O policy.Object, V any](
	table memo.Input[model.Name, read[V]], last map[model.Name]O, before, after []O, of func(O) (V, []report.Finding), otherwise func(V) V,
) {
	gone := feed(table, before, after, func(obj O) read[V] {
		value, ok, findings := inForce(last, obj, of)
		if !ok && otherwise != nil {
			value, ok = otherwise(value), true
		}
		return read[V]{value, ok, findings}
	})
	for name := range gone {
		delete(last, name)
	}
}

// feed sets what is another object than before, and deletes what is gone. Both
// lists are in the order of names, which makes it quick, but need not be.
func feed[O interface {
	comparable
	metav1.Object
}, V any](table memo.Input[model.Name, V], before, after []O, of func(O) V) (gone map[model.Name]bool) {
	if crds.Same(before, after) {
		return nil
	}
	gone = map[model.Name]bool{}
	var come []O
	for len(before) > 0 && len(after) > 0 {
		if before[0] == after[0] {
			before, after = before[1:], after[1:]
			continue
		}
		order := object.Name(before[0]).Compare(object.Name(after[0]))
		if order <= 0 {
			gone[object.Name(before[0])] = true
			before = before[1:]
		}
		if order >= 0 {
			come = append(come, after[0])
			after = after[1:]
		}
	}
	for _, obj := range before {
		gone[object.Name(obj)] = true
	}
	for _, obj := range append(come, after...) {
		delete(gone, object.Name(obj))
		table.Set(object.Name(obj), of(obj))
	}
	for name := range gone {
		table.Delete(name)
	}
	return gone
}
