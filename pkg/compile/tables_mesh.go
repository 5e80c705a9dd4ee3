package compile

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
	"github.com/meshd-io/meshd/pkg/compile/policy"
	"github.com/meshd-io/meshd/pkg/compile/services"
	"github.com/meshd-io/meshd/pkg/memo"
	"github.com/meshd-io/meshd/pkg/model"
)

// podTables are who there is.
type podTables struct {
	pod          *memo.Table[model.Name, *services.Pod]
	owner        *memo.Table[netip.Addr, *services.Pod]
	profilesWith *memo.Index[label, services.Profile, struct{}]
	podsLike     *memo.Index[services.Profile, model.Name, *services.Pod]
	podsOf       *memo.Index[model.WorkloadKey, model.Name, struct{}]
	spoken       *memo.Table[model.Name, *services.Spoken]
	podAt        *memo.Table[netip.Addr, *model.Pod]
	workload     *memo.Table[model.WorkloadKey, *model.Workload]
}

// serviceTables are what there is.
type serviceTables struct {
	selected  *memo.Table[model.Name, []*services.Pod]
	endpoints *memo.Table[model.Name, *services.Endpoints]
	behindOf  *memo.Table[model.Name, *services.Behind]
	leads     *memo.Index[model.Name, services.Lead, struct{}] // by pod
	service   *memo.Table[model.Name, *model.Service]
	serviceAt *memo.Table[netip.Addr, *model.Service]
}

// pods are pods and Workload objects, with the keys of their workloads.
func (t *tables) pods() {
	t.podObjects.Compare(func(a, b *corev1.Pod) bool { return a == b })
	t.workloadObjects.Compare(func(a, b *meshv1a1.Workload) bool { return a == b })
	// Most namespaces have no Workload: their pods ask for none by name.
	withWorkloads := memo.NewNames[string](t.graph)
	memo.FeedNames(withWorkloads, t.workloadObjects.Table, func(name model.Name, _ *meshv1a1.Workload, use func(string)) { use(name.Namespace) })
	t.pod = memo.NewTable(t.graph, func(r *memo.Run, name model.Name) (*services.Pod, bool) {
		var pod *services.Pod
		if p, ok := t.podObjects.Get(r, name); ok {
			pod = services.PodOf(p, t.basis.system)
		}
		if _, some := withWorkloads.Get(r, name.Namespace); some {
			w, _ := t.workloadObjects.Get(r, name)
			pod = t.orWorkload(r, pod, w)
		}
		if pod == nil {
			return nil, false
		}
		looked := map[string]bool{}
		for _, m := range t.looked.Get(r, name.Namespace) {
			looked[m.Key] = true
		}
		r.Tell(pod.GiveKey(t.basis.defaults.TrustDomain, looked)...)
		return pod, true
	})
	memo.Follow(t.pod, t.podObjects.Table)
	memo.Follow(t.pod, t.workloadObjects.Table)

	byAddress := memo.NewIndex(t.pod, model.Name.Compare, func(name model.Name, p *services.Pod, emit memo.Emit[netip.Addr, model.Name, *services.Pod]) {
		for _, a := range p.Own() {
			emit(a, name, p)
		}
	})
	t.owner = memo.NewTable(t.graph, func(r *memo.Run, a netip.Addr) (*services.Pod, bool) {
		var all []*services.Pod
		for _, m := range byAddress.Get(r, a) {
			all = append(all, m.Value)
		}
		owner, fs := services.Owner(all, a)
		r.Tell(fs...)
		if owner != nil {
			cidrs, _ := t.cidrs.Get(r, struct{}{})
			r.Tell(uncovered(a, cidrs, owner.Origin, owner.AddressField())...)
		}
		return owner, owner != nil
	})
	memo.FollowGroups(t.owner, byAddress)

	t.podsLike = memo.NewIndex(t.pod, model.Name.Compare, func(name model.Name, p *services.Pod, emit memo.Emit[services.Profile, model.Name, *services.Pod]) {
		emit(p.Profile(), name, p)
	})
	t.podsOf = memo.NewIndex(t.pod, model.Name.Compare, func(name model.Name, p *services.Pod, emit memo.Emit[model.WorkloadKey, model.Name, struct{}]) {
		if p.InMesh {
			emit(p.Key, name, struct{}{})
		}
	})
	profiles := memo.NewNames[services.Profile](t.graph)
	memo.FeedNames(profiles, t.pod, func(_ model.Name, p *services.Pod, use func(services.Profile)) { use(p.Profile()) })
	t.profilesWith = memo.NewIndex(profiles.Table, services.Profile.Compare, func(p services.Profile, _ struct{}, emit memo.Emit[label, services.Profile, struct{}]) {
		emit(label{namespace: p.Namespace}, p, struct{}{})
		p.Pairs(func(k, v string) { emit(label{p.Namespace, k, v}, p, struct{}{}) })
	})
}

// orWorkload is the pod or, where there is none, the Workload of its name.
func (t *tables) orWorkload(r *memo.Run, pod *services.Pod, w *meshv1a1.Workload) *services.Pod {
	if w == nil {
		return pod
	}
	workload, fs := services.WorkloadOf(w)
	r.Tell(fs...)
	if pod == nil {
		return workload
	}
	if workload != nil {
		r.Tell(workload.NameTaken())
	}
	return pod
}

// behind finds what is behind each Service.
func (t *tables) behind() {
	t.selected = memo.NewTable(t.graph, func(r *memo.Run, name model.Name) ([]*services.Pod, bool) {
		s, _ := t.serviceObjects.Get(r, name)
		if !s.ok || len(s.value.Selector) == 0 {
			return nil, false
		}
		var out []*services.Pod
		for _, profile := range (inventory{t, r}).Profiles(name.Namespace, s.value.Selector) {
			if s.value.Selects(profile.Set()) {
				for _, m := range t.podsLike.Get(r, profile) {
					out = append(out, m.Value)
				}
			}
		}
		return out, len(out) > 0
	})
	slicesOf := memo.NewIndex(t.sliceObjects.Table, model.Name.Compare, func(name model.Name, s read[*services.Slice], emit memo.Emit[model.Name, model.Name, *services.Slice]) {
		if s.ok {
			emit(s.value.Service, name, s.value)
		}
	})
	t.endpoints = memo.NewTable(t.graph, func(r *memo.Run, name model.Name) (*services.Endpoints, bool) {
		s, _ := t.serviceObjects.Get(r, name)
		if !s.ok {
			return nil, false
		}
		var all []*services.Slice
		for _, m := range slicesOf.Get(r, name) {
			all = append(all, m.Value)
		}
		selected, _ := t.selected.Get(r, name)
		out, fs := services.EndpointsOf(s.value, all, selected, podFinder{t, r})
		r.Tell(fs...)
		return out, true
	})
	t.behindOf = memo.NewTable(t.graph, func(r *memo.Run, name model.Name) (*services.Behind, bool) {
		s, _ := t.serviceObjects.Get(r, name)
		endpoints, ok := t.endpoints.Get(r, name)
		if !ok {
			return nil, false
		}
		selected, _ := t.selected.Get(r, name)
		return services.BehindOf(s.value, selected, endpoints), true
	})
	memo.Follow(t.behindOf, t.serviceObjects.Table)
	t.leads = memo.NewIndex(t.behindOf, services.Lead.Compare, func(name model.Name, b *services.Behind, emit memo.Emit[model.Name, services.Lead, struct{}]) {
		b.Leads(name, func(pod model.Name, l services.Lead) { emit(pod, l, struct{}{}) })
	})
}

// podFinder implements services.Pods for one computation.
type podFinder struct {
	t *tables
	r *memo.Run
}

func (f podFinder) At(a netip.Addr) *services.Pod {
	p, _ := f.t.owner.Get(f.r, a)
	return p
}

func (f podFinder) Named(n model.Name) *services.Pod {
	p, _ := f.t.pod.Get(f.r, n)
	return p
}

// speech decides what the ports of pods speak.
func (t *tables) speech() {
	elsewhere := policy.MergeFor("", "", nil, t.basis.defaults).Carriage
	t.spoken = memo.NewTable(t.graph, func(r *memo.Run, name model.Name) (*services.Spoken, bool) {
		pod, ok := t.pod.Get(r, name)
		if !ok {
			return nil, false
		}
		var claims []services.Claim
		for _, m := range t.leads.Get(r, name) {
			s, _ := t.serviceObjects.Get(r, m.Key.Service)
			traffic, _ := t.serviceTraffic.Get(r, m.Key.Service)
			claims = append(claims, services.Claim{Lead: m.Key, Service: s.value, Carriage: traffic.Carriage})
		}
		namespace := elsewhere
		if m, ok := t.namespaceTraffic.Get(r, name.Namespace); ok {
			namespace = m.Carriage
		}
		return services.Speak(pod, claims, namespace), true
	})
	memo.Follow(t.spoken, t.pod)
	t.podAt = memo.NewTable(t.graph, func(r *memo.Run, a netip.Addr) (*model.Pod, bool) {
		owner, ok := t.owner.Get(r, a)
		if !ok {
			return nil, false
		}
		spoken, _ := t.spoken.Get(r, owner.Name)
		return spoken.Pod, true
	})
	memo.Follow(t.podAt, t.owner)
}

// workloads are groups of pods, with the policies that apply to them.
func (t *tables) workloads() {
	d := t.basis.defaults
	t.workload = memo.NewTable(t.graph, func(r *memo.Run, key model.WorkloadKey) (*model.Workload, bool) {
		var pods []*services.Spoken
		for _, m := range t.podsOf.Get(r, key) {
			p, _ := t.spoken.Get(r, m.Key)
			pods = append(pods, p)
		}
		if len(pods) == 0 {
			return nil, false
		}
		w, leading, fs := services.Group(key, d.TrustDomain, pods)
		r.Tell(fs...)
		if key.Kind == model.GatewayProxy {
			w.Rest.Mode = model.Disable // it is reached in plaintext from outside: its ports are its listeners'
			return w, true
		}
		profile := services.Profile{Namespace: key.Namespace, Labels: key.Labels}
		namespace, labels := place{namespace: key.Namespace}, profile.Set()
		r.Tell(policy.BindPeers(w, labels, applying(r, t.peersAt, policy.Older[*policy.PeerAuthentication], namespace, placeOf(profile)), d)...)
		policy.BindAuthz(w, labels, applying(r, t.authzAt, policy.ByName, namespace, placeOf(profile)), func(port uint16) []*policy.Authorization {
			var places []place
			for _, s := range leading(port) {
				places = append(places, place{s.Namespace, oneService, s.Name})
			}
			return applying(r, t.authzAt, policy.ByName, places...)
		}, d)
		return w, true
	})
	memo.FollowGroups(t.workload, t.podsOf)
}

// services are whole when it is known which endpoints take mutual TLS.
func (t *tables) services() {
	d := t.basis.defaults
	t.service = memo.NewTable(t.graph, func(r *memo.Run, name model.Name) (*model.Service, bool) {
		s, _ := t.serviceObjects.Get(r, name)
		if !s.ok {
			return nil, false
		}
		endpoints, _ := t.endpoints.Get(r, name)
		traffic, _ := t.serviceTraffic.Get(r, name)
		behind, _ := t.behindOf.Get(r, name)
		var pods []*services.Pod
		for _, n := range behind.Pods {
			p, _ := t.pod.Get(r, n)
			pods = append(pods, p)
		}
		return services.Compile(s.value, endpoints, traffic.Carriage, services.Identities(pods, d.TrustDomain, d.Aliases), func(pod model.Name, port uint16) bool {
			p, _ := t.pod.Get(r, pod)
			if !p.InMesh {
				return false
			}
			w, _ := t.workload.Get(r, p.Key)
			return p.TakesMTLS(w, port)
		}), true
	})
	memo.Follow(t.service, t.serviceObjects.Table)

	byAddress := memo.NewIndex(t.service, model.Name.Compare, func(name model.Name, s *model.Service, emit memo.Emit[netip.Addr, model.Name, *model.Service]) {
		for _, a := range s.Addresses {
			emit(a, name, s)
		}
	})
	t.serviceAt = memo.NewTable(t.graph, func(r *memo.Run, a netip.Addr) (*model.Service, bool) {
		members := byAddress.Get(r, a)
		if len(members) == 0 {
			return nil, false
		}
		var all []*services.Service
		for _, m := range members {
			s, _ := t.serviceObjects.Get(r, m.Key)
			all = append(all, s.value)
		}
		holder, fs := services.Holder(all, a)
		r.Tell(fs...)
		cidrs, _ := t.cidrs.Get(r, struct{}{})
		for _, m := range members {
			if m.Key == holder.Name {
				r.Tell(uncovered(a, cidrs, m.Value.Origin, "spec.clusterIPs")...)
				return m.Value, true
			}
		}
		return nil, false
	})
	memo.FollowGroups(t.serviceAt, byAddress)
}
