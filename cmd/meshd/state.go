package main

import (
	"cmp"
	"context"
	"encoding/json"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
	"github.com/meshd-io/meshd/pkg/console"
	"github.com/meshd-io/meshd/pkg/crds"
	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/report"
	"github.com/meshd-io/meshd/pkg/status"
	"github.com/meshd-io/meshd/pkg/xds/acks"
	"github.com/meshd-io/meshd/pkg/xds/cache"
	"github.com/meshd-io/meshd/pkg/xds/scope"
)

// rescanner reads the sources anew and returns when they have been offered to the pipeline.
type rescanner interface {
	Rescan(ctx context.Context) error
}

// stater answers the operator: what objects, proxies and findings there are.
type stater struct {
	pipeline  *pipeline
	book      *acks.Book
	cache     *cache.Cache
	source    rescanner
	authority func() status.Authority

	mu       sync.Mutex
	previous map[report.Object][]metav1.Condition // conditions as they were last told
}

// Settle implements console.Source.
func (s *stater) Settle(ctx context.Context) error {
	if err := s.source.Rescan(ctx); err != nil {
		return err
	}
	return s.pipeline.Settled(ctx)
}

// State implements console.Source.
func (s *stater) State() console.State {
	findings, snapshot := s.pipeline.allFindings()
	ledger := s.book.Ledger()
	out := console.State{Ready: snapshot != nil, Findings: findings, Proxies: []console.Proxy{}, Objects: []console.Object{}}
	idle, _ := s.pipeline.idle()
	out.Synced = idle && s.pipeline.synced()
	for _, p := range ledger.Proxies() {
		out.Proxies = append(out.Proxies, consoleProxy(p))
	}
	if snapshot != nil {
		out.Objects = s.objects(snapshot, findings, ledger)
	}
	return out
}

// objects renders the status of every object that has one.
func (s *stater) objects(snapshot *crds.Snapshot, findings []report.Finding, ledger acks.Ledger) []console.Object {
	byObject := map[report.Object][]report.Finding{}
	for _, f := range findings {
		byObject[f.Object] = append(byObject[f.Object], f)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	next := map[report.Object][]metav1.Condition{}
	r := renderer{
		findings: byObject, previous: s.previous, told: next, now: metav1.NewTime(time.Now().UTC().Truncate(time.Second)),
		progress: func(o report.Object, generation int64) status.Progress {
			concerned := func(key scope.Key) []acks.Resource { return s.cache.Concerned(key, o) }
			return status.Progress(acks.ProgressOf(ledger, concerned, generation))
		},
	}
	for _, o := range snapshot.MeshConfigs {
		r.add(&o.ObjectMeta, "MeshConfig", nil, func(in status.Object, p status.Progress) (any, []metav1.Condition) {
			st := status.RenderMeshConfig(in, p, r.now)
			return st, st.Conditions
		})
	}
	for _, o := range snapshot.CertificateAuthorities {
		r.add(&o.ObjectMeta, "CertificateAuthority", nil, func(in status.Object, p status.Progress) (any, []metav1.Condition) {
			st := status.RenderCertificateAuthority(in, p, s.authority(), r.now)
			return st, st.Conditions
		})
	}
	for _, o := range snapshot.PeerAuthentications {
		r.add(&o.ObjectMeta, "PeerAuthentication", o.Spec.TargetRefs, nil)
	}
	for _, o := range snapshot.RequestAuthentications {
		r.add(&o.ObjectMeta, "RequestAuthentication", o.Spec.TargetRefs, nil)
	}
	for _, o := range snapshot.AuthorizationPolicies {
		r.add(&o.ObjectMeta, "AuthorizationPolicy", o.Spec.TargetRefs, nil)
	}
	for _, o := range snapshot.TrafficPolicies {
		r.add(&o.ObjectMeta, "TrafficPolicy", o.Spec.TargetRefs, nil)
	}
	for _, o := range snapshot.Workloads {
		r.add(&o.ObjectMeta, "Workload", nil, nil)
	}
	for _, o := range snapshot.Ingresses {
		r.add(&o.ObjectMeta, "Ingress", nil, ingressStatus(o))
	}
	s.previous = next
	slices.SortFunc(r.out, func(a, b console.Object) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return r.out
}

// renderer renders one object after the other.
type renderer struct {
	findings map[report.Object][]report.Finding
	previous map[report.Object][]metav1.Condition
	told     map[report.Object][]metav1.Condition
	now      metav1.Time
	progress func(report.Object, int64) status.Progress
	out      []console.Object
}

// render gives a status and the conditions in it.
type render func(status.Object, status.Progress) (any, []metav1.Condition)

func (r *renderer) add(meta *metav1.ObjectMeta, kind string, refs []meshv1a1.TargetRef, with render) {
	o := report.Object{Kind: kind, Namespace: meta.Namespace, Name: meta.Name}
	in := status.Object{Object: o, Generation: meta.Generation, TargetRefs: refs, Findings: r.findings[o], Previous: r.previous[o]}
	if with == nil {
		with = func(in status.Object, p status.Progress) (any, []metav1.Condition) {
			st := status.Render(in, p, r.now)
			return st, st.Conditions
		}
	}
	st, conditions := with(in, r.progress(o, meta.Generation))
	text, err := json.Marshal(st)
	if err != nil {
		text = []byte("null") // status types always encode
	}
	r.told[o] = conditions
	r.out = append(r.out, console.Object{Kind: kind, Namespace: o.Namespace, Name: o.Name, Generation: meta.Generation, Status: text})
}

// ingressStatus keeps what the load balancer wrote, and adds what meshd says of a policy.
func ingressStatus(ingress *networkingv1.Ingress) render {
	return func(in status.Object, p status.Progress) (any, []metav1.Condition) {
		st := status.Render(in, p, metav1.NewTime(time.Now().UTC().Truncate(time.Second)))
		return struct {
			networkingv1.IngressStatus `json:",inline"`
			meshv1a1.PolicyStatus      `json:",inline"`
		}{ingress.Status, st}, st.Conditions
	}
}

func consoleProxy(p acks.ProxyState) console.Proxy {
	out := console.Proxy{
		Name: p.Name, Kind: p.Kind, Identity: p.Identity, Workload: workloadName(p.Key), Connected: p.Connected.UTC(),
		CertificateExpires: p.CertificateExpires.UTC(), Synced: p.Synced, Destinations: p.Destinations, Types: []console.ProxyType{},
	}
	for _, t := range p.Types {
		ct := console.ProxyType{
			Type: shortType(string(t.Type)), Resources: t.Resources, Version: t.Published, Acknowledged: t.Acknowledged,
		}
		for _, r := range t.Rejected {
			ct.Rejected = append(ct.Rejected, console.Rejection{Resource: r.Name, Version: r.Version, Message: r.Message, Origins: r.Origins})
		}
		out.Types = append(out.Types, ct)
	}
	return out
}

// shortType turns a type URL into a word: listener, cluster, secret.
func shortType(url string) string {
	name := path.Ext(url)
	if name == "" {
		name = url
	}
	word := strings.TrimPrefix(name, ".")
	if strings.HasPrefix(url, "on-demand/") {
		word = "OnDemand" + word
	}
	return word
}

func workloadName(key scope.Key) string {
	kind := "sidecar"
	if key.Kind == model.GatewayProxy {
		kind = "gateway"
	}
	name := kind + " " + key.Namespace + "/" + key.ServiceAccount
	if key.Labels != "" {
		name += " {" + key.Labels + "}"
	}
	return name
}
