package gatewayapi

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/report"
)

// The ports of schemes, which a Location does not name.
const (
	httpPort  = 80
	httpsPort = 443
)

// maxBackoff is how many times longer than the first pause between two tries the longest may be.
const maxBackoff = 10

// Policies say how the requests of a route's rule ("": one without a name) are
// sent where the route does not say it.
type Policies func(route model.Name, rule string) model.Traffic

// Compile makes a routing of all that is bound to it.
func Compile(key model.RoutingKey, bound []*Bound, policies Policies) *model.Routing {
	ports := map[uint16][]*Bound{}
	for _, b := range bound {
		for _, a := range b.attachments {
			if a.to != key {
				continue
			}
			for _, port := range a.ports {
				if !slices.Contains(ports[port], b) {
					ports[port] = append(ports[port], b)
				}
			}
		}
	}
	out := &model.Routing{}
	for port, list := range ports {
		out.Ports = append(out.Ports, compilePort(port, list, policies))
	}
	slices.SortFunc(out.Ports, func(a, b model.PortRouting) int { return cmp.Compare(a.Port, b.Port) })
	return out
}

// candidate is a route with what its place in the order depends on.
type candidate struct {
	model.Route
	route       *Route
	rule, match int
}

func compilePort(port uint16, bound []*Bound, policies Policies) model.PortRouting {
	out := model.PortRouting{Port: port}
	var all []candidate
	for _, b := range bound {
		out.Origins = append(out.Origins, b.route.origin)
		for i := range b.rules {
			r := &b.rules[i]
			made := b.route.compileRule(port, r, policies(b.route.age.Name, r.name))
			for _, m := range r.matches {
				one := candidate{Route: made, route: b.route, rule: r.index, match: m.index}
				one.Name = fmt.Sprintf("%s|rules[%d].matches[%d]", routeName(b.route.origin), r.index, m.index)
				one.Match = m.RouteMatch
				all = append(all, one)
			}
		}
	}
	slices.SortFunc(out.Origins, report.Origin.Compare)
	slices.SortFunc(all, compare)
	for _, c := range all {
		out.Routes = append(out.Routes, c.Route)
	}
	return out
}

func routeName(o report.Origin) string { return o.Kind + "/" + o.Namespace + "/" + o.Name }

// compare is the order in which matches are tried (HTTPRouteRule.matches):
// exact paths, then regular expressions, whose place is left to implementations,
// then prefixes, the longer ones first; then those with a method, with more
// headers, with more parameters; then the older route, and within a route as
// they stand.
func compare(a, b candidate) int {
	return cmp.Or(
		cmp.Compare(rank(a.Match), rank(b.Match)),
		cmp.Compare(len(b.Match.Path), len(a.Match.Path)),
		cmp.Compare(methods(b.Match), methods(a.Match)),
		cmp.Compare(len(b.Match.Headers), len(a.Match.Headers)),
		cmp.Compare(len(b.Match.Query), len(a.Match.Query)),
		a.route.age.Compare(b.route.age),
		cmp.Compare(a.rule, b.rule),
		cmp.Compare(a.match, b.match),
	)
}

func rank(m model.RouteMatch) int {
	switch m.PathMatch {
	case model.PathExact:
		return 0
	case model.PathRegex:
		return 1
	}
	return 2
}

func methods(m model.RouteMatch) int { return min(1, len(m.Method)) }

// compileRule is what all matches of a rule have in common.
func (route *Route) compileRule(port uint16, r *boundRule, t model.Traffic) model.Route {
	o := route.origin
	o.Rule = fmt.Sprintf("rules[%d]", r.index)
	out := model.Route{Nowhere: failure, Traffic: r.traffic.over(t), Origins: []report.Origin{o}}
	if r.broken {
		return out
	}
	out.Headers = r.filters.headers
	if r.filters.redirect != nil {
		out.Redirect = redirectFrom(port, *r.filters.redirect)
		return out
	}
	out.Backends, out.Rewrite, out.Mirrors = r.backends, r.filters.rewrite, r.mirrors
	return out
}

// redirectFrom is a redirect of requests that came to a port.
func redirectFrom(port uint16, r model.Redirect) *model.Redirect {
	if r.Port == 0 && r.Scheme == "" && r.Host == "" {
		return &r
	}
	standard := uint16(httpPort)
	if r.Scheme == "https" {
		standard = httpsPort
	}
	if r.Port == 0 { // the scheme's, and without one the port that the request came to
		if r.Port = standard; r.Scheme == "" {
			r.Port = port
		}
	}
	if r.Port == standard && (r.Host != "" || port == httpPort) {
		r.Port = 0 // it goes without saying, and the client's own name has none
	}
	return &r
}

// over is how a rule's requests are sent: as it says itself, or else as the Service's policies do.
func (own traffic) over(t model.Traffic) model.Traffic {
	if own.request != nil {
		t.RequestTimeout = *own.request
	}
	if own.backend != nil {
		t.BackendTimeout = *own.backend
	}
	if own.retry == nil {
		return t
	}
	t.Retry.Attempts, t.Retry.Codes = own.retry.attempts, own.retry.codes
	// What is listed was not processed, and whoever names a code says the same of it.
	t.Retry.On = []model.RetryOn{model.ConnectFailure, model.RefusedStream, model.ResetBeforeRequest}
	t.Retry.NonIdempotent = true
	if own.retry.backoff > 0 {
		t.Retry.BackoffBase, t.Retry.BackoffMax = own.retry.backoff, min(maxBackoff*own.retry.backoff, time.Hour)
	}
	return t
}
