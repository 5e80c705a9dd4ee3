package compile

import (
	"cmp"
	"slices"

	"github.com/meshd-io/meshd/pkg/compile/policy"
	"github.com/meshd-io/meshd/pkg/compile/services"
	"github.com/meshd-io/meshd/pkg/memo"
	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/report"
)

// policyTables are where policies apply.
type policyTables struct {
	looked *memo.Index[string, string, struct{}] // label keys that a namespace's selectors look at

	peersAt   *memo.Index[place, model.Name, *policy.PeerAuthentication]
	authzAt   *memo.Index[place, model.Name, *policy.Authorization]
	trafficAt *memo.Index[place, model.Name, *policy.Traffic]

	namespaceTraffic *memo.Table[string, *policy.Merged]
	serviceTraffic   *memo.Table[model.Name, *policy.Merged]
	routeTraffic     *memo.Table[model.Name, *policy.RouteTraffic]
}

// labels that anyone looks at make profiles of pods and keys of workloads.
func (t *tables) labels() {
	keys := memo.NewNames[labelKey](t.graph)
	memo.FeedNames(keys, t.serviceObjects.Table, func(name model.Name, s read[*services.Service], use func(labelKey)) {
		if s.ok {
			for k := range s.value.Selector {
				use(labelKey{name.Namespace, k})
			}
		}
	})
	memo.FeedNames(keys, t.peerObjects.Table, emitLabelKeys[*policy.PeerAuthentication])
	memo.FeedNames(keys, t.authzObjects.Table, emitLabelKeys[*policy.Authorization])
	t.looked = memo.NewIndex(keys.Table, cmp.Compare[string], func(k labelKey, _ struct{}, emit memo.Emit[string, string, struct{}]) {
		emit(k.namespace, k.key, struct{}{})
	})
}

func emitLabelKeys[P common](name model.Name, p read[P], use func(labelKey)) {
	if p.ok {
		p.value.LabelKeys(func(k string) { use(labelKey{name.Namespace, k}) })
	}
}

// selection finds whom policies apply to, and tells what they name in vain.
func (t *tables) selection() {
	t.peersAt = placed(t, t.peerObjects)
	t.authzAt = placed(t, t.authzObjects)
	t.trafficAt = placed(t, t.trafficObjects)
}

// resolved is a policy with the profiles that it selects.
type resolved[P comparable] struct {
	policy   P
	profiles []services.Profile
}

// common is what placed needs of a policy.
type common interface {
	comparable
	LabelKeys(func(string))
	Namespaced() bool
	Services() []model.Name
	HTTPRoutes() []model.Name
	Resolve(policy.Inventory) ([]services.Profile, []report.Finding)
}

func placed[P common](t *tables, policies memo.Input[model.Name, read[P]]) *memo.Index[place, model.Name, P] {
	table := memo.NewTable(t.graph, func(r *memo.Run, name model.Name) (resolved[P], bool) {
		p, _ := policies.Get(r, name)
		r.Tell(p.findings...)
		if !p.ok {
			return resolved[P]{}, false
		}
		profiles, fs := p.value.Resolve(inventory{t, r})
		r.Tell(fs...)
		return resolved[P]{p.value, profiles}, true
	})
	memo.Follow(table, policies.Table)
	return memo.NewIndex(table, model.Name.Compare, func(name model.Name, p resolved[P], emit memo.Emit[place, model.Name, P]) {
		if p.policy.Namespaced() {
			emit(place{namespace: name.Namespace}, name, p.policy)
		}
		for _, s := range p.policy.Services() {
			emit(place{name.Namespace, oneService, s.Name}, name, p.policy)
		}
		for _, route := range p.policy.HTTPRoutes() {
			emit(place{name.Namespace, oneRoute, route.Name}, name, p.policy)
		}
		for _, profile := range p.profiles {
			emit(placeOf(profile), name, p.policy)
		}
	})
}

// inventory implements policy.Inventory for one computation.
type inventory struct {
	t *tables
	r *memo.Run
}

func (inv inventory) Profiles(namespace string, labels map[string]string) []services.Profile {
	// Any of the labels gives all that can match: the rarest is the quickest.
	fewest := label{namespace: namespace}
	for k, v := range labels {
		if l := (label{namespace, k, v}); fewest.key == "" || inv.t.profilesWith.Len(l) < inv.t.profilesWith.Len(fewest) {
			fewest = l
		}
	}
	var out []services.Profile
	for _, m := range inv.t.profilesWith.Get(inv.r, fewest) {
		out = append(out, m.Key)
	}
	return out
}

func (inv inventory) Known(service model.Name) bool {
	s, _ := inv.t.serviceObjects.Get(inv.r, service)
	return s.ok
}

func (inv inventory) Rules(route model.Name) ([]string, bool) {
	o, ok := inv.t.routeObjects.Get(inv.r, route)
	if !ok {
		return nil, false
	}
	return o.value.RuleNames(), true
}

// applying are the policies at some places, each once, in order.
func applying[P comparable](r *memo.Run, index *memo.Index[place, model.Name, P], compare func(P, P) int, places ...place) []P {
	var out []P
	for _, at := range places {
		for _, m := range index.Get(r, at) {
			out = append(out, m.Value)
		}
	}
	slices.SortFunc(out, compare)
	return slices.Compact(out)
}

// traffic is merged for each Service, and for each namespace that has policies.
func (t *tables) traffic() {
	namespaces := memo.NewNames[string](t.graph)
	memo.FeedNames(namespaces, t.trafficObjects.Table, func(name model.Name, p read[*policy.Traffic], use func(string)) {
		if p.ok {
			use(name.Namespace)
		}
	})
	t.namespaceTraffic = memo.NewTable(t.graph, func(r *memo.Run, namespace string) (*policy.Merged, bool) {
		if _, ok := namespaces.Get(r, namespace); !ok {
			return nil, false
		}
		all := applying(r, t.trafficAt, policy.Older[*policy.Traffic], place{namespace: namespace})
		return policy.MergeFor(namespace, "", all, t.basis.defaults), true
	})
	memo.Follow(t.namespaceTraffic, namespaces.Table)
	t.serviceTraffic = memo.NewTable(t.graph, func(r *memo.Run, name model.Name) (*policy.Merged, bool) {
		if s, _ := t.serviceObjects.Get(r, name); !s.ok {
			return nil, false
		}
		all := applying(r, t.trafficAt, policy.Older[*policy.Traffic],
			place{namespace: name.Namespace}, place{name.Namespace, oneService, name.Name})
		return policy.MergeFor(name.Namespace, name.Name, all, t.basis.defaults), true
	})
	memo.Follow(t.serviceTraffic, t.serviceObjects.Table)

	routes := memo.NewNames[model.Name](t.graph)
	memo.FeedNames(routes, t.trafficObjects.Table, func(_ model.Name, p read[*policy.Traffic], use func(model.Name)) {
		if p.ok {
			for _, route := range p.value.HTTPRoutes() {
				use(route)
			}
		}
	})
	t.routeTraffic = memo.NewTable(t.graph, func(r *memo.Run, route model.Name) (*policy.RouteTraffic, bool) {
		if _, ok := routes.Get(r, route); !ok {
			return nil, false
		}
		all := applying(r, t.trafficAt, policy.Older[*policy.Traffic], place{route.Namespace, oneRoute, route.Name})
		return policy.MergeForRoute(route, all), true
	})
	memo.Follow(t.routeTraffic, routes.Table)

	places := memo.NewIndex(t.serviceTraffic, report.Object.Compare, emitLosses[model.Name])
	memo.Feed(places, t.namespaceTraffic, emitLosses[string])
	memo.Feed(places, t.routeTraffic, func(_ model.Name, m *policy.RouteTraffic, emit memo.Emit[policy.Loss, report.Object, struct{}]) {
		for _, l := range m.Losses {
			emit(l, m.At, struct{}{})
		}
	})
	losses := memo.NewTable(t.graph, func(r *memo.Run, l policy.Loss) (struct{}, bool) {
		var at []report.Object
		for _, m := range places.Get(r, l) {
			at = append(at, m.Key)
		}
		if len(at) > 0 {
			r.Tell(l.Finding(at))
		}
		return struct{}{}, len(at) > 0
	})
	memo.FollowGroups(losses, places)
}

func emitLosses[K comparable](_ K, m *policy.Merged, emit memo.Emit[policy.Loss, report.Object, struct{}]) {
	for _, l := range m.Losses {
		emit(l, m.At, struct{}{})
	}
}
