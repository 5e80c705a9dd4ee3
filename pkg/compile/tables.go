package compile

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
	"github.com/meshd-io/meshd/pkg/compile/gatewayapi"
	"github.com/meshd-io/meshd/pkg/compile/ingress"
	"github.com/meshd-io/meshd/pkg/compile/policy"
	"github.com/meshd-io/meshd/pkg/compile/services"
	"github.com/meshd-io/meshd/pkg/memo"
	"github.com/meshd-io/meshd/pkg/model"
)

// tables are everything between a snapshot and its Mesh, in the order in which
// they read each other (newTables).
type tables struct {
	graph *memo.Graph
	basis basis
	sources
	policyTables
	podTables
	serviceTables
	routeTables
	gateway *memo.Table[struct{}, *model.Gateway]

	// What is published, by edits of what was before.
	workloadsEdit         *model.MapEdit[model.WorkloadKey, *model.Workload]
	podsEdit              *model.MapEdit[model.Name, *model.Pod]
	podsByAddressEdit     *model.MapEdit[netip.Addr, *model.Pod]
	servicesEdit          *model.MapEdit[model.Name, *model.Service]
	servicesByAddressEdit *model.MapEdit[netip.Addr, *model.Service]
	gatewaysEdit          *model.MapEdit[model.WorkloadKey, *model.Gateway]
	routingsEdit          *model.MapEdit[model.RoutingKey, *model.Routing]
	consumedEdit          *model.MapEdit[string, *model.Consumed]
}

// sources are the objects of the snapshot, read one by one where more than one table reads them.
type sources struct {
	cidrs           memo.Input[struct{}, []netip.Prefix]
	podObjects      memo.Input[model.Name, *corev1.Pod]
	workloadObjects memo.Input[model.Name, *meshv1a1.Workload]
	serviceObjects  memo.Input[model.Name, read[*services.Service]]
	sliceObjects    memo.Input[model.Name, read[*services.Slice]]
	secretObjects   memo.Input[model.Name, *corev1.Secret]
	peerObjects     memo.Input[model.Name, read[*policy.PeerAuthentication]]
	authzObjects    memo.Input[model.Name, read[*policy.Authorization]]
	trafficObjects  memo.Input[model.Name, read[*policy.Traffic]]
	routeObjects    memo.Input[model.Name, read[*gatewayapi.Route]]
	ingresses       memo.Input[struct{}, []*networkingv1.Ingress]
}

func newTables(b basis) *tables {
	g := memo.NewGraph()
	t := &tables{graph: g, basis: b, sources: sources{
		cidrs:           memo.NewInput[struct{}, []netip.Prefix](g),
		podObjects:      memo.NewInput[model.Name, *corev1.Pod](g),
		workloadObjects: memo.NewInput[model.Name, *meshv1a1.Workload](g),
		serviceObjects:  memo.NewInput[model.Name, read[*services.Service]](g),
		sliceObjects:    memo.NewInput[model.Name, read[*services.Slice]](g),
		secretObjects:   memo.NewInput[model.Name, *corev1.Secret](g),
		peerObjects:     memo.NewInput[model.Name, read[*policy.PeerAuthentication]](g),
		authzObjects:    memo.NewInput[model.Name, read[*policy.Authorization]](g),
		trafficObjects:  memo.NewInput[model.Name, read[*policy.Traffic]](g),
		routeObjects:    memo.NewInput[model.Name, read[*gatewayapi.Route]](g),
		ingresses:       memo.NewInput[struct{}, []*networkingv1.Ingress](g),
	}}
	t.labels()
	t.pods()
	t.selection()
	t.behind()
	t.traffic()
	t.speech()
	t.workloads()
	t.services()
	t.routes()
	t.ingress()
	t.publish()
	return t
}

// ingress compiles the one gateway of all Ingresses.
func (t *tables) ingress() {
	certificates := memo.NewTable(t.graph, func(r *memo.Run, name model.Name) (ingress.Certificate, bool) {
		secret, ok := t.secretObjects.Get(r, name)
		if !ok {
			return ingress.Certificate{}, false
		}
		return ingress.CertificateOf(secret), true
	})
	type portOf struct {
		service model.Name
		port    networkingv1.ServiceBackendPort
	}
	backends := memo.NewTable(t.graph, func(r *memo.Run, p portOf) (ingress.Backend, bool) {
		s, _ := t.service.Get(r, p.service)
		return ingress.BackendOf(s, p.port), true
	})
	key := model.WorkloadKey{Kind: model.GatewayProxy, Namespace: t.basis.system, ServiceAccount: services.IngressServiceAccount}
	t.gateway = memo.NewTable(t.graph, func(r *memo.Run, _ struct{}) (*model.Gateway, bool) {
		list, _ := t.ingresses.Get(r, struct{}{})
		g, fs := ingress.Compile(list, key, surroundings{
			backend: func(s model.Name, p networkingv1.ServiceBackendPort) ingress.Backend {
				b, _ := backends.Get(r, portOf{s, p})
				return b
			},
			certificate: func(n model.Name) ingress.Certificate {
				c, _ := certificates.Get(r, n)
				return c
			},
		})
		r.Tell(fs...)
		return g, g != nil
	})
	memo.Follow(t.gateway, t.ingresses.Table)
}

// surroundings implements ingress.Surroundings.
type surroundings struct {
	backend     func(model.Name, networkingv1.ServiceBackendPort) ingress.Backend
	certificate func(model.Name) ingress.Certificate
}

func (s surroundings) Backend(n model.Name, p networkingv1.ServiceBackendPort) ingress.Backend {
	return s.backend(n, p)
}

func (s surroundings) Certificate(n model.Name) ingress.Certificate { return s.certificate(n) }

// publish has the changes of the last tables made in the Mesh.
func (t *tables) publish() {
	t.workloadsEdit = editOf(t.workload)
	t.podsEdit = model.Map[model.Name, *model.Pod]{}.Edit()
	t.spoken.Watch(func(n model.Name, _ *services.Spoken, _ bool, s *services.Spoken, is bool) {
		if is {
			t.podsEdit.Set(n, s.Pod)
		} else {
			t.podsEdit.Delete(n)
		}
	})
	t.podsByAddressEdit = editOf(t.podAt)
	t.servicesEdit = editOf(t.service)
	t.servicesByAddressEdit = editOf(t.serviceAt)
	t.routingsEdit = editOf(t.routing)
	t.consumedEdit = editOf(t.consumed)
	t.gatewaysEdit = model.Map[model.WorkloadKey, *model.Gateway]{}.Edit()
	t.gateway.Watch(func(_ struct{}, old *model.Gateway, was bool, g *model.Gateway, is bool) {
		if was {
			t.gatewaysEdit.Delete(old.Key)
		}
		if is {
			t.gatewaysEdit.Set(g.Key, g)
		}
	})
}

// editOf follows a table's values.
func editOf[K comparable, V comparable](table *memo.Table[K, V]) *model.MapEdit[K, V] {
	edit := model.Map[K, V]{}.Edit()
	table.Watch(func(k K, _ V, _ bool, v V, is bool) {
		if is {
			edit.Set(k, v)
		} else {
			edit.Delete(k)
		}
	})
	return edit
}

func (t *tables) mesh() *model.Mesh {
	return &model.Mesh{
		Workloads: t.workloadsEdit.Map(), Pods: t.podsEdit.Map(), PodsByAddress: t.podsByAddressEdit.Map(),
		Services: t.servicesEdit.Map(), ServicesByAddress: t.servicesByAddressEdit.Map(), Gateways: t.gatewaysEdit.Map(),
		Routings: t.routingsEdit.Map(), Consumed: t.consumedEdit.Map(),
	}
}

// label is a label of pods of a namespace; without a key it stands for all of them.
type label struct{ namespace, key, value string }

// labelKey is a label that a selector of a namespace looks at.
type labelKey struct{ namespace, key string }

// place is where a policy applies: a namespace, or in it a Service, an HTTPRoute or the pods of a profile.
type place struct {
	namespace string
	kind      placeKind
	name      string // of the Service or the route, or the profile's labels
}

type placeKind uint8

const (
	wholeNamespace placeKind = iota
	oneService
	oneRoute
	oneProfile
)

func placeOf(p services.Profile) place { return place{p.Namespace, oneProfile, p.Labels} }
