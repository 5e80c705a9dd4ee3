package envoy_test

import (
	"net/netip"
	"time"

	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/report"
	"github.com/meshd-io/meshd/pkg/xds/scope"
)

const (
	loansAddress = "10.96.0.10:8090"
	loansPort    = 8090
)

// loansBackend changes what is behind loans-svc.
func loansBackend(change func(*model.Backend)) func(*model.Mesh) {
	return func(m *model.Mesh) {
		change(&get(m.Services, model.Name{Namespace: "shop", Name: "loans-svc"}).Ports[0].Backend)
	}
}

// loansTraffic changes how loans-svc is treated.
func loansTraffic(change func(*model.Traffic)) testCase {
	return accounts(shop(loansBackend(func(b *model.Backend) {
		change(&b.Traffic)
		b.Traffic.Origins = []report.Origin{object("TrafficPolicy", "loans")}
	})), loansAddress)
}

// accounts asks for addresses.
func accounts(m *model.Mesh, demand ...string) testCase {
	return testCase{mesh: m, key: accountsKey(), demand: demand}
}

func destinationCases() map[string]testCase {
	return map[string]testCase{
		"destination-http":            accounts(shop(), loansAddress),
		"destination-http2":           accounts(shop(loansBackend(func(b *model.Backend) { b.Protocol = model.HTTP2 })), loansAddress),
		"destination-tcp":             accounts(shop(), "10.96.0.20:5432"),
		"destination-undeclared":      accounts(shop(), "10.96.0.30:7000"),
		"destination-port-unknown":    accounts(shop(), "10.96.0.10:1"),
		"destination-unknown":         accounts(shop(), "10.244.7.7:80"),
		"destination-outside":         accounts(shop(), "192.0.2.1:443"),
		"destination-pod-of-service":  accounts(shop(meshedPod("10.244.0.11")), "10.244.0.11:8090"),
		"destination-pod-undeclared":  accounts(shop(meshedPod("10.244.0.50")), "10.244.0.50:9999"),
		"destination-pod-outside":     accounts(shop(), "10.244.0.99:80"),
		"destination-pod-own-ports":   accounts(shop(meshedPod("10.244.0.11")), "10.244.0.11:15001", "10.244.0.11:15006", "10.244.0.11:15021"),
		"destination-headless":        accounts(shop(headless), "10.244.0.11:9000"),
		"destination-ipv6":            accounts(shop(ipv6), "[fd00:10:96::10]:8090"),
		"destination-two-on-one-port": accounts(shop(second), loansAddress, "10.96.0.11:8090"),
		"scope-all":                   accounts(shop(headless, func(m *model.Mesh) { m.Settings.ScopeAll = true })),
	}
}

func meshedPod(ip string) func(*model.Mesh) {
	return func(m *model.Mesh) {
		traffic := traffic()
		addPod(m, &model.Pod{
			Name: model.Name{Namespace: "shop", Name: "loans-0"}, ServiceAccount: "loans", InMesh: true, Zone: "a", Origin: object("Pod", "loans-0"),
			Addresses: []netip.Addr{netip.MustParseAddr(ip)},
			Key:       model.WorkloadKey{Namespace: "shop", ServiceAccount: "loans"},
			Ports: []model.PodPort{
				{Port: 8090, Protocol: model.HTTP, Traffic: &traffic}, {Port: 9000, Protocol: model.TCP, Traffic: &traffic},
			},
			Traffic: &traffic,
		})
	}
}

func headless(m *model.Mesh) {
	meshedPod("10.244.0.11")(m)
	s := service("peers", "10.96.0.99", 9000, model.TCP)
	s.Addresses, s.Headless = nil, true
	addService(m, s)
}

func ipv6(m *model.Mesh) {
	s := service("loans-svc", "fd00:10:96::10", loansPort, model.HTTP)
	s.Ports[0].Backend.Endpoints = []model.Endpoint{{Address: netip.MustParseAddrPort("[fd00:10:244::11]:8090"), MTLS: true}}
	addService(m, s)
}

func second(m *model.Mesh) { addService(m, service("cards", "10.96.0.11", loansPort, model.HTTP)) }

func backendCases() map[string]testCase {
	return map[string]testCase{
		"identity-pod-certificate": accounts(shop(), loansAddress).edited(func(v *scope.View) { v.Key.PodCertificate, v.Inbound = true, nil }),
		"endpoints-mixed":          accounts(shop(loansBackend(func(b *model.Backend) { b.Endpoints[1].MTLS = false })), loansAddress),
		"endpoints-none":           accounts(shop(loansBackend(func(b *model.Backend) { b.Endpoints = nil })), loansAddress),
		"identities-none":          accounts(shop(loansBackend(func(b *model.Backend) { b.Identities = nil })), loansAddress),
		"identities-several": accounts(shop(loansBackend(func(b *model.Backend) {
			b.Identities = []string{loansID, "spiffe://old.local/ns/shop/sa/loans"}
		})), loansAddress),
		"circuit-breaker": loansTraffic(func(t *model.Traffic) {
			t.CircuitBreaker = model.CircuitBreaker{MaxConnections: 10, MaxPendingRequests: 20, MaxRequests: 30}
		}),
		"outlier-detection": loansTraffic(func(t *model.Traffic) {
			t.OutlierDetection = model.OutlierDetection{
				ConsecutiveErrors: 5, Interval: 10 * time.Second, BaseEjection: 30 * time.Second, MaxEjectedPercent: 50,
			}
		}),
		"loadbalancing-roundrobin-slowstart": loansTraffic(func(t *model.Traffic) {
			t.LoadBalancing = model.LoadBalancing{Policy: model.RoundRobin, SlowStart: 30 * time.Second}
		}),
		"loadbalancing-random": loansTraffic(func(t *model.Traffic) { t.LoadBalancing.Policy = model.Random }),
		"loadbalancing-maglev": loansTraffic(func(t *model.Traffic) { t.LoadBalancing.Policy = model.Maglev }),
		"traffic-nothing-set":  loansTraffic(func(t *model.Traffic) { *t = model.Traffic{} }),
	}
}

func routeCases() map[string]testCase {
	return map[string]testCase{
		"timeout-request": loansTraffic(func(t *model.Traffic) { t.RequestTimeout = 5 * time.Second }),
		"timeout-backend-without-retry": loansTraffic(func(t *model.Traffic) {
			t.BackendTimeout, t.Retry = 2*time.Second, model.Retry{}
		}),
		"retry-none": loansTraffic(func(t *model.Traffic) { t.Retry = model.Retry{} }),
		"retry-codes": loansTraffic(func(t *model.Traffic) {
			t.Retry.Codes, t.BackendTimeout = []uint32{503}, time.Second
		}),
		"retry-only-unproven":  loansTraffic(func(t *model.Traffic) { t.Retry.On = []model.RetryOn{model.Reset, model.Unavailable} }),
		"retry-non-idempotent": loansTraffic(func(t *model.Traffic) { t.Retry.Codes, t.Retry.NonIdempotent = []uint32{503}, true }),
		"route-weighted":       accounts(shop(second), loansAddress).edited(weighted),
		"route-paths":          accounts(shop(second), loansAddress).edited(paths),
		"route-backend-gone": accounts(shop(), loansAddress).edited(func(v *scope.View) {
			v.Destinations[0].Routes[0].Backends[0].Ref.Port = 1
		}),
	}
}

func weighted(v *scope.View) {
	cards := model.BackendRef{Service: model.Name{Namespace: "shop", Name: "cards"}, Port: loansPort}
	d := v.Destinations[0]
	d.Routes[0].Backends = []model.WeightedBackend{{Ref: d.Backend, Weight: 90}, {Ref: cards, Weight: 10}, {Ref: d.Backend, Weight: 0}}
	b := *d.Backends[0]
	b.Ref = cards
	d.Backends = append(d.Backends, &b)
}

func paths(v *scope.View) {
	whole := v.Destinations[0].Routes[0]
	exact, below, empty := whole, whole, whole
	exact.Name, exact.Match = "HTTPRoute/shop/loans|0", model.RouteMatch{PathMatch: model.PathExact, Path: "/exact"}
	below.Name, below.Match = "HTTPRoute/shop/loans|1", model.RouteMatch{Path: "/below/"}
	empty.Name, empty.Match, empty.Backends = "HTTPRoute/shop/loans|2", model.RouteMatch{Path: "/empty"}, nil
	v.Destinations[0].Routes = []model.Route{exact, below, empty, whole}
}

func settingsCases() map[string]testCase {
	return map[string]testCase{
		"egress-deny": settings(func(s *model.Settings) { s.Egress.Deny = true }),
		"egress-deny-hosts": settings(func(s *model.Settings) {
			s.Egress = model.Egress{Deny: true, Hosts: []string{"*.example.com", "api.test"}}
		}),
		"egress-deny-cidrs": settings(func(s *model.Settings) {
			s.Egress = model.Egress{Deny: true, CIDRs: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}
		}),
		"egress-no-cidrs-of-mesh": settings(func(s *model.Settings) { s.CIDRs = nil }),
		"telemetry-log-off":       settings(func(s *model.Settings) { s.Telemetry.AccessLog = model.AccessLogOff }),
		"telemetry-log-all":       settings(func(s *model.Settings) { s.Telemetry.AccessLog = model.AccessLogAll }),
		"telemetry-series":        settings(func(s *model.Settings) { s.Telemetry.MaxSeries = 10 }),
	}
}

func settings(change func(*model.Settings)) testCase {
	return accounts(shop(func(m *model.Mesh) {
		change(&m.Settings)
		m.Settings.Origin = report.Origin{Object: report.Object{Kind: "MeshConfig", Name: "default"}, Generation: 1}
	}))
}
