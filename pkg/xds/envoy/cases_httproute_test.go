package envoy_test

import (
	"time"

	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/report"
)

// httpRouteCases are of an HTTPRoute of loans-svc, whose other version is cards.
func httpRouteCases() map[string]testCase {
	loans, cards, gone := refTo("loans-svc"), refTo("cards"), refTo("gone")
	to := func(ref model.BackendRef) []model.WeightedBackend {
		return []model.WeightedBackend{{Ref: ref, Weight: 1}}
	}
	return map[string]testCase{
		"httproute-weights": routed(model.Route{Backends: []model.WeightedBackend{{Ref: loans, Weight: 90}, {Ref: cards, Weight: 10}, {Ref: gone}}}),
		"httproute-matches": routed(
			model.Route{
				Match: model.RouteMatch{
					PathMatch: model.PathExact, Path: "/loans", Method: "GET",
					Headers: []model.ValueMatch{{Name: "version", Value: "v2"}, {Name: "host", Value: "loans[.].*", Regex: true}},
					Query:   []model.ValueMatch{{Name: "debug", Value: "1"}, {Name: "user", Value: "[0-9]+", Regex: true}},
				}, Backends: to(cards),
			},
			model.Route{Match: model.RouteMatch{PathMatch: model.PathRegex, Path: "/v[0-9]+/.*"}, Backends: to(cards)},
			model.Route{Match: model.RouteMatch{Path: "/new"}, Backends: to(cards)},
		),
		"httproute-nowhere": routed(
			model.Route{Match: model.RouteMatch{Path: "/none"}},
			model.Route{Match: model.RouteMatch{Path: "/zero"}, Backends: []model.WeightedBackend{{Ref: loans}}},
			model.Route{Match: model.RouteMatch{Path: "/gone"}, Backends: to(gone)},
			model.Route{Backends: []model.WeightedBackend{{Ref: loans, Weight: 2}, {Weight: 1}}},
		),
		"httproute-headers": routed(model.Route{
			Headers: model.HeaderChanges{
				Request: model.HeaderChange{
					Set: []model.Header{{Name: "x-env", Value: "100%"}, {Name: "x-empty"}}, Add: []model.Header{{Name: "x-tag", Value: "a"}}, Remove: []string{"x-secret"},
				},
				Response: model.HeaderChange{Set: []model.Header{{Name: "server", Value: "loans"}}, Remove: []string{"x-powered-by"}},
			},
			Backends: []model.WeightedBackend{{Ref: cards, Weight: 1, Headers: model.HeaderChanges{
				Request: model.HeaderChange{Add: []model.Header{{Name: "x-version", Value: "v2"}}},
			}}},
		}),
		"httproute-rewrites": routed(
			rewritten("/host", model.Rewrite{Host: "new.example.com"}),
			rewritten("/full", model.Rewrite{Path: model.PathChange{Kind: model.ReplacePath, Value: `/a\1`}}),
			rewritten("/prefix", model.Rewrite{Path: model.PathChange{Kind: model.ReplacePrefix, Value: "/new"}}),
			rewritten("/away.x", model.Rewrite{Path: model.PathChange{Kind: model.ReplacePrefix}}),
			rewritten("/", model.Rewrite{Path: model.PathChange{Kind: model.ReplacePrefix, Value: "/new"}}),
		),
		"httproute-redirects": routed(
			redirectedTo("/all", model.Redirect{
				Scheme: "https", Host: "x.example.com", Port: 8443, Status: 301, Path: model.PathChange{Kind: model.ReplacePrefix, Value: "/new"},
			}),
			redirectedTo("/303", model.Redirect{Host: "x.example.com", Status: 303}),
			redirectedTo("/307", model.Redirect{Scheme: "https", Status: 307}),
			redirectedTo("/308", model.Redirect{Status: 308, Path: model.PathChange{Kind: model.ReplacePath, Value: "/new"}}),
			redirectedTo("/", model.Redirect{Status: 302, Path: model.PathChange{Kind: model.ReplacePrefix, Value: "/new"}}),
		),
		"httproute-mirrors": routed(model.Route{
			Backends: to(loans),
			Mirrors:  []model.Mirror{{Ref: cards, Numerator: 100, Denominator: 100}, {Ref: cards, Numerator: 1, Denominator: 1000}, {Ref: cards, Denominator: 100}, {Ref: gone, Numerator: 1, Denominator: 1}},
		}),
		"httproute-timeouts": routed(model.Route{Backends: to(loans), Traffic: model.Traffic{
			RequestTimeout: 5 * time.Second, BackendTimeout: time.Second,
			Retry: model.Retry{Attempts: 2, On: []model.RetryOn{model.ConnectFailure}, Codes: []uint32{503}, NonIdempotent: true, BackoffBase: 50 * time.Millisecond},
		}}),
		"httproute-undeclared": accounts(shop(second, func(m *model.Mesh) {
			set(&m.Routings, routingOf("misc"), &model.Routing{Ports: []model.PortRouting{{Port: 7000, Routes: []model.Route{
				{Name: "HTTPRoute/shop/misc|rules[0].matches[0]", Match: model.RouteMatch{Path: "/"}, Nowhere: 500, Backends: to(cards), Origins: []report.Origin{object("HTTPRoute", "misc")}},
			}, Origins: []report.Origin{object("HTTPRoute", "misc")}}}})
		}), "10.96.0.30:7000"),
		"httproute-other-port": accounts(shop(second, func(m *model.Mesh) {
			set(&m.Routings, routingOf("loans-svc"), &model.Routing{Ports: []model.PortRouting{{Port: 1}}})
		}), loansAddress),
	}
}

func refTo(service string) model.BackendRef {
	return model.BackendRef{Service: model.Name{Namespace: "shop", Name: service}, Port: loansPort}
}

func routingOf(service string) model.RoutingKey {
	return model.RoutingKey{Service: model.Name{Namespace: "shop", Name: service}}
}

func rewritten(path string, to model.Rewrite) model.Route {
	return model.Route{Match: model.RouteMatch{Path: path}, Rewrite: to, Backends: []model.WeightedBackend{{Ref: refTo("loans-svc"), Weight: 1}}}
}

func redirectedTo(path string, to model.Redirect) model.Route {
	return model.Route{Match: model.RouteMatch{Path: path}, Redirect: &to}
}

// routed has routes attached to loans-svc.
func routed(routes ...model.Route) testCase {
	origin := object("HTTPRoute", "loans")
	for i := range routes {
		r := &routes[i]
		rule := origin
		rule.Rule = "rules[" + string(rune('0'+i)) + "]"
		r.Name, r.Nowhere, r.Origins = "HTTPRoute/shop/loans|"+rule.Rule+".matches[0]", 500, []report.Origin{rule}
		if r.Match.Path == "" {
			r.Match.Path = "/"
		}
	}
	return accounts(shop(second, func(m *model.Mesh) {
		set(&m.Routings, routingOf("loans-svc"), &model.Routing{
			Ports: []model.PortRouting{{Port: loansPort, Routes: routes, Origins: []report.Origin{origin}}},
		})
	}), loansAddress)
}
