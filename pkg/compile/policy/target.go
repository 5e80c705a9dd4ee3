package policy

import (
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
	"github.com/meshd-io/meshd/pkg/compile/object"
	"github.com/meshd-io/meshd/pkg/compile/services"
	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/report"
)

// The kinds of target.
const (
	kindNamespace = "Namespace"
	kindPod       = "Pod"
	kindService   = "Service"
	kindHTTPRoute = "HTTPRoute"
	kindGRPCRoute = "GRPCRoute"
	kindGateway   = "Gateway"
)

// kindTrafficPolicy is the only policy of routes.
const kindTrafficPolicy = "TrafficPolicy"

const gatewayGroup = "gateway.networking.k8s.io"

// groupOf is the API group of a kind of target.
func groupOf(kind string) string {
	switch kind {
	case kindHTTPRoute, kindGRPCRoute, kindGateway:
		return gatewayGroup
	}
	return ""
}

// target is one entry of targetRefs, read.
type target struct {
	field    string // spec.targetRefs[N]; "" where targetRefs was left out
	kind     string
	name     string
	section  string            // of a route: the rule's name; "" is the whole
	selector labels.Selector   // of kindPod
	keys     []string          // that the selector looks at
	pairs    map[string]string // labels that the selector demands
}

// level of a target: the more specific one wins.
type level int

// The levels of pod selection.
const (
	none level = iota
	namespaceLevel
	podLevel
)

// targets is who a policy applies to, in its own namespace.
type targets []target

// wholeNamespace is what targetRefs left out means.
func wholeNamespace() targets { return targets{{kind: kindNamespace}} }

// readTargets reads targetRefs; the kinds that the policy may name come from
// its API. What it returns beside faults is what could be read.
func readTargets(o report.Origin, refs []meshv1a1.TargetRef, allowed ...string) (targets, []report.Finding) {
	if refs == nil {
		return wholeNamespace(), nil
	}
	if len(refs) == 0 {
		return wholeNamespace(), []report.Finding{object.Refused(o, report.Invalid, "spec.targetRefs", "an empty list names nothing: leave the field out to mean the whole namespace")}
	}
	var out targets
	var fs []report.Finding
	for i, ref := range refs {
		field := fmt.Sprintf("spec.targetRefs[%d]", i)
		t := target{field: field, kind: ref.Kind, name: ref.Name, section: ref.SectionName}
		if f := readTarget(&t, o, ref, allowed); f != nil {
			fs = append(fs, *f)
		}
		if t.kind != "" {
			out = append(out, t)
		}
	}
	return out, fs
}

// readTarget checks one reference. A reference that could mean any pod of the
// namespace becomes the namespace, so that a policy that fails closed does so
// for all whom it may have meant; one into another namespace means no one.
func readTarget(t *target, o report.Origin, ref meshv1a1.TargetRef, allowed []string) *report.Finding {
	fault := func(sub, format string, args ...any) *report.Finding {
		f := object.Refused(o, report.Invalid, t.field+sub, format, args...)
		return &f
	}
	if !slices.Contains(allowed, ref.Kind) {
		t.kind = kindNamespace
		return fault(".kind", "%q is no kind that a %s can target: use one of %v", ref.Kind, o.Kind, allowed)
	}
	if ref.Group != groupOf(ref.Kind) {
		return fault(".group", "%s is of group %q: leave the field out", ref.Kind, groupOf(ref.Kind))
	}
	if ref.Kind != kindPod && ref.Selector != nil {
		return fault(".selector", "only kind Pod takes a selector")
	}
	if ref.SectionName != "" && groupOf(ref.Kind) == "" {
		return fault(".sectionName", "%s has no sections", ref.Kind)
	}
	switch ref.Kind {
	case kindNamespace:
		if ref.Name != "" && ref.Name != o.Namespace {
			t.kind = ""
			return fault(".name", "a policy applies to its own namespace %s, not to %s: leave the name out, or write the policy there", o.Namespace, ref.Name)
		}
	case kindPod:
		return readPods(t, ref, fault)
	default:
		if ref.Name == "" {
			t.kind = ""
			return fault(".name", "name the %s", ref.Kind)
		}
	}
	return nil
}

func readPods(t *target, ref meshv1a1.TargetRef, fault func(sub, format string, args ...any) *report.Finding) *report.Finding {
	t.kind = kindNamespace // until the selector has been read
	if ref.Name != "" {
		return fault(".name", "pods are selected by labels, not by name: use selector")
	}
	if ref.Selector == nil || len(ref.Selector.MatchLabels)+len(ref.Selector.MatchExpressions) == 0 {
		return fault(".selector", "an empty selector names no pods: use kind Namespace to mean all of them")
	}
	selector, err := metav1.LabelSelectorAsSelector(ref.Selector)
	if err != nil {
		return fault(".selector", "%v", err)
	}
	t.kind, t.selector = kindPod, selector
	t.pairs = ref.Selector.MatchLabels
	for k := range t.pairs {
		t.keys = append(t.keys, k)
	}
	for _, e := range ref.Selector.MatchExpressions {
		t.keys = append(t.keys, e.Key)
	}
	return nil
}

// level is the most specific target that selects a pod with these labels.
func (ts targets) level(podLabels labels.Labels) level {
	out, _ := ts.best(podLabels)
	return out
}

// best is the most specific target that selects a pod with these labels, and its field.
func (ts targets) best(podLabels labels.Labels) (out level, field string) {
	for _, t := range ts {
		at := none
		switch {
		case t.kind == kindNamespace:
			at = namespaceLevel
		case t.kind == kindPod && t.selector.Matches(podLabels):
			at = podLevel
		}
		if at > out {
			out, field = at, t.field
		}
	}
	return out, field
}

func policyOf(kind string, m metav1.Object) Policy {
	return Policy{Origin: object.Origin(kind, m), age: object.AgeOf(m)}
}

// LabelKeys are the keys of labels that the policy's selectors look at.
func (p Policy) LabelKeys(f func(key string)) {
	for _, t := range p.targets {
		for _, k := range t.keys {
			f(k)
		}
	}
}

// Namespaced reports whether the policy targets its namespace.
func (p Policy) Namespaced() bool {
	return slices.ContainsFunc(p.targets, func(t target) bool { return t.kind == kindNamespace })
}

// Services are those that the policy targets, whether they exist or not.
func (p Policy) Services() []model.Name {
	var out []model.Name
	for _, t := range p.targets {
		name := model.Name{Namespace: p.Origin.Namespace, Name: t.name}
		if t.kind == kindService && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

// Inventory is what targets are looked up in.
type Inventory interface {
	// Profiles are those of the namespace's pods that have all the labels, or more.
	Profiles(namespace string, labels map[string]string) []services.Profile
	// Known reports whether there is such a Service.
	Known(service model.Name) bool
	// Rules are the names of an HTTPRoute's rules; ok is false where there is none.
	Rules(route model.Name) (names []string, ok bool)
}

// Resolve finds the profiles of pods that the policy selects, sorted, and tells
// which targets name nothing that exists.
func (p Policy) Resolve(inv Inventory) (profiles []services.Profile, fs []report.Finding) {
	o := p.Origin
	for _, t := range p.targets {
		switch t.kind {
		case kindNamespace:
		case kindPod:
			before := len(profiles)
			for _, profile := range inv.Profiles(o.Namespace, t.pairs) {
				if t.selector.Matches(labels.Set(profile.Set())) {
					profiles = append(profiles, profile)
				}
			}
			if len(profiles) == before {
				fs = append(fs, object.Unresolved(o, report.NoMatch, t.field+".selector", "no pod of namespace %s has these labels", o.Namespace))
			}
		case kindService:
			if !inv.Known(model.Name{Namespace: o.Namespace, Name: t.name}) {
				fs = append(fs, object.Unresolved(o, report.NotFound, t.field+".name", "there is no Service %s/%s", o.Namespace, t.name))
			}
		case kindHTTPRoute:
			rules, ok := inv.Rules(model.Name{Namespace: o.Namespace, Name: t.name})
			switch {
			case o.Kind != kindTrafficPolicy:
				fs = append(fs, object.Unresolved(o, report.Unsupported, t.field, "this version of meshd holds no %s at a route: target the Service that requests are sent to", o.Kind))
			case !ok:
				fs = append(fs, object.Unresolved(o, report.NotFound, t.field+".name", "there is no HTTPRoute %s/%s", o.Namespace, t.name))
			case t.section != "" && !slices.Contains(rules, t.section):
				fs = append(fs, object.Unresolved(o, report.NotFound, t.field+".sectionName", "HTTPRoute %s/%s has no rule with the name %q", o.Namespace, t.name, t.section))
			}
		default:
			fs = append(fs, object.Unresolved(o, report.NotFound, t.field, "there is no %s %s/%s: this version of meshd serves none", t.kind, o.Namespace, t.name))
		}
	}
	slices.SortFunc(profiles, services.Profile.Compare)
	return slices.Compact(profiles), fs
}
