package gatewayapi

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/meshd-io/meshd/pkg/compile/object"
	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/report"
)

// kindHTTPRoute is the kind in origins.
const kindHTTPRoute = "HTTPRoute"

// failure is what requests get that belong to no backend (HTTPRouteRule.backendRefs).
const failure = 500

// Route is what compilation reads of an HTTPRoute.
type Route struct {
	origin  report.Origin
	age     object.Age
	parents []parent
	rules   []rule   // those that are not dropped
	names   []string // of all rules that have one
}

// RuleNames are those of all rules that have one.
func (route *Route) RuleNames() []string { return route.names }

// rule is one rule, whose backends have not been looked up.
type rule struct {
	// index in the object.
	index   int
	name    string // may be ""
	matches []match
	// broken: its filters cannot be carried out, so that its requests get no other answer than failure.
	broken   bool
	filters  filters
	backends []backend
	traffic  traffic
}

// match is one of a rule's.
type match struct {
	index int
	model.RouteMatch
}

// traffic is what a rule itself says of how its requests are sent; nil is nothing.
type traffic struct {
	request, backend *time.Duration
	retry            *retry
}

// retry is HTTPRouteRetry: what was not processed and these codes are tried again.
type retry struct {
	attempts uint32
	codes    []uint32 // sorted
	backoff  time.Duration
}

// reader reads one object.
type reader struct {
	origin report.Origin
	// findings are on the whole object, faults on rules that are not in force.
	findings, faults []report.Finding
}

func (r *reader) fault(reason report.Reason, field, format string, args ...any) {
	r.faults = append(r.faults, object.Refused(r.origin, reason, field, format, args...))
}

// RouteOf reads an HTTPRoute. Of a route without a parent that is a Service
// nothing is in force, and nothing is found: it is another controller's.
func RouteOf(obj *gwv1.HTTPRoute) (*Route, []report.Finding) {
	out := &Route{origin: object.Origin(kindHTTPRoute, obj), age: object.AgeOf(obj)}
	if out.parents = parentsOf(obj); len(out.parents) == 0 {
		return out, nil
	}
	r := &reader{origin: out.origin}
	if len(obj.Spec.Hostnames) > 0 {
		r.findings = append(r.findings, object.Refused(out.origin, report.Ignored, "spec.hostnames",
			"a route of a Service is found by the Service's address: to look at the name in a request, match its header Host"))
	}
	whole := 0
	for i := range obj.Spec.Rules {
		if name := obj.Spec.Rules[i].Name; name != nil {
			out.names = append(out.names, string(*name))
		}
		before := len(r.faults)
		one, ok := r.rule(i, &obj.Spec.Rules[i])
		if ok {
			out.rules = append(out.rules, one)
		}
		if len(r.faults) == before {
			whole++
		}
	}
	if whole > 0 {
		for i := range r.faults {
			r.faults[i].Reason = report.PartiallyInvalid
		}
	}
	return out, append(r.findings, r.faults...)
}

// rule reads a rule; ok is false where it is dropped.
func (r *reader) rule(i int, in *gwv1.HTTPRouteRule) (out rule, ok bool) {
	field := fmt.Sprintf("spec.rules[%d]", i)
	out.index, out.name = i, string(valueOr(in.Name, ""))
	faults := len(r.faults)
	if out.matches = r.matches(field, in.Matches); len(r.faults) > faults {
		return out, false
	}
	out.traffic = r.traffic(field, in)
	if len(r.faults) > faults {
		return out, false
	}
	out.filters, ok = r.filters(field, in.Filters, out.matches)
	if out.broken = !ok; out.broken {
		return out, true
	}
	for j := range in.BackendRefs {
		out.backends = append(out.backends, r.backend(fmt.Sprintf("%s.backendRefs[%d]", field, j), &in.BackendRefs[j]))
	}
	if in.SessionPersistence != nil { //nolint:staticcheck // deprecated, and users may have it all the same
		r.findings = append(r.findings, object.Refused(r.origin, report.Ignored, field+".sessionPersistence",
			"this version of meshd does not carry it out: requests of one client go to any endpoint"))
	}
	return out, true
}

func (r *reader) traffic(field string, in *gwv1.HTTPRouteRule) traffic {
	var out traffic
	if t := in.Timeouts; t != nil {
		out.request = r.duration(field+".timeouts.request", t.Request)
		out.backend = r.duration(field+".timeouts.backendRequest", t.BackendRequest)
	}
	if in.Retry == nil {
		return out
	}
	out.retry = &retry{attempts: 1}
	if n := in.Retry.Attempts; n != nil {
		out.retry.attempts = uint32(max(0, *n))
	}
	for _, code := range in.Retry.Codes {
		out.retry.codes = append(out.retry.codes, uint32(code))
	}
	slices.Sort(out.retry.codes)
	if d := r.duration(field+".retry.backoff", in.Retry.Backoff); d != nil {
		out.retry.backoff = *d
	}
	return out
}

func (r *reader) duration(field string, d *gwv1.Duration) *time.Duration {
	if d == nil {
		return nil
	}
	out, err := object.Duration(*d, 0)
	if err != nil {
		r.fault(report.UnsupportedValue, field, "%v", err)
	}
	return &out
}

// valueOr is what a field says, or its default.
func valueOr[T comparable](v *T, otherwise T) T {
	if v == nil {
		return otherwise
	}
	return cmp.Or(*v, otherwise)
}
