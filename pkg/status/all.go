package status

import (
	"slices"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
	"github.com/meshd-io/meshd/pkg/crds"
	"github.com/meshd-io/meshd/pkg/report"
)

// Facts are what the statuses of a snapshot's objects are made from.
type Facts struct {
	// About tells how far the proxies are with a generation of an object, and what was found about it.
	About     func(o report.Object, uid types.UID, generation int64) (Progress, []report.Finding)
	Authority Authority
	// Previous are the conditions that were last told of an object; nil means
	// those that the object itself has. nil is allowed.
	Previous func(o report.Object, uid types.UID) []metav1.Condition
	// Ingress is the status that an Ingress should have; nil leaves it alone. nil is allowed.
	Ingress func(*networkingv1.Ingress) *networkingv1.IngressStatus
	Now     metav1.Time
}

// Desired is the status that an object should have.
type Desired struct {
	report.Object
	UID             types.UID
	ResourceVersion string
	// Generation that the status speaks of.
	Generation int64
	Conditions []metav1.Condition
	// Shown is the status for the console, Written for the API server (nil: nothing
	// is written). They differ for an Ingress, whose API has no conditions, and for a
	// route, whose API has them for each parent only.
	Shown, Written any
	// Live is the status that the object has in the snapshot.
	Live any
}

// All gives the statuses of a snapshot's objects, sorted by kind, namespace, name. Pure.
func All(snapshot *crds.Snapshot, facts Facts) []Desired {
	r := renderer{Facts: facts, out: make([]Desired, 0, len(snapshot.MeshConfigs)+len(snapshot.CertificateAuthorities)+
		len(snapshot.PeerAuthentications)+len(snapshot.RequestAuthentications)+len(snapshot.AuthorizationPolicies)+
		len(snapshot.TrafficPolicies)+len(snapshot.Workloads)+len(snapshot.Ingresses)+len(snapshot.HTTPRoutes))}
	for _, o := range snapshot.MeshConfigs {
		in, p := r.about("MeshConfig", &o.ObjectMeta, o.Status.Conditions)
		st := RenderMeshConfig(in, p, r.Now)
		r.add(&o.ObjectMeta, in, st.Conditions, st, o.Status)
	}
	for _, o := range snapshot.CertificateAuthorities {
		in, p := r.about("CertificateAuthority", &o.ObjectMeta, o.Status.Conditions)
		st := RenderCertificateAuthority(in, p, r.Authority, r.Now)
		r.add(&o.ObjectMeta, in, st.Conditions, st, o.Status)
	}
	for _, o := range snapshot.PeerAuthentications {
		r.policy("PeerAuthentication", &o.ObjectMeta, o.Spec.TargetRefs, o.Status)
	}
	for _, o := range snapshot.RequestAuthentications {
		r.policy("RequestAuthentication", &o.ObjectMeta, o.Spec.TargetRefs, o.Status)
	}
	for _, o := range snapshot.AuthorizationPolicies {
		r.policy("AuthorizationPolicy", &o.ObjectMeta, o.Spec.TargetRefs, o.Status)
	}
	for _, o := range snapshot.TrafficPolicies {
		r.policy("TrafficPolicy", &o.ObjectMeta, o.Spec.TargetRefs, o.Status)
	}
	for _, o := range snapshot.Workloads {
		r.policy("Workload", &o.ObjectMeta, nil, o.Status)
	}
	for _, o := range snapshot.Ingresses {
		r.ingress(o)
	}
	for _, o := range snapshot.HTTPRoutes {
		r.httpRoute(o)
	}
	slices.SortFunc(r.out, func(a, b Desired) int { return a.Compare(b.Object) })
	return r.out
}

type renderer struct {
	Facts
	out []Desired
}

// about collects what is known of an object that has these conditions now.
func (r *renderer) about(kind string, meta *metav1.ObjectMeta, has []metav1.Condition) (Object, Progress) {
	o := report.Object{Kind: kind, Namespace: meta.Namespace, Name: meta.Name}
	p, findings := r.About(o, meta.UID, meta.Generation)
	in := Object{Object: o, Generation: meta.Generation, Findings: findings, Previous: has}
	if r.Previous != nil {
		if told := r.Previous(o, meta.UID); told != nil {
			in.Previous = told
		}
	}
	return in, p
}

func (r *renderer) policy(kind string, meta *metav1.ObjectMeta, refs []meshv1a1.TargetRef, has meshv1a1.PolicyStatus) {
	in, p := r.about(kind, meta, has.Conditions)
	in.TargetRefs, in.PreviousTargets = refs, has.Targets
	st := Render(in, p, r.Now)
	r.add(meta, in, st.Conditions, st, has)
}

func (r *renderer) ingress(o *networkingv1.Ingress) {
	in, p := r.about("Ingress", &o.ObjectMeta, nil)
	st := Render(in, p, r.Now)
	shown := o.Status
	var wanted *networkingv1.IngressStatus
	if r.Ingress != nil {
		wanted = r.Ingress(o)
	}
	if wanted != nil {
		shown = *wanted
	}
	r.add(&o.ObjectMeta, in, st.Conditions, struct {
		networkingv1.IngressStatus `json:",inline"`
		meshv1a1.PolicyStatus      `json:",inline"`
	}{shown, st}, o.Status)
	r.out[len(r.out)-1].Written = nil
	if wanted != nil {
		r.out[len(r.out)-1].Written = *wanted
	}
}

func (r *renderer) add(meta *metav1.ObjectMeta, in Object, conditions []metav1.Condition, st, live any) {
	r.out = append(r.out, Desired{
		Object: in.Object, UID: meta.UID, ResourceVersion: meta.ResourceVersion, Generation: meta.Generation,
		Conditions: conditions, Shown: st, Written: st, Live: live,
	})
}
