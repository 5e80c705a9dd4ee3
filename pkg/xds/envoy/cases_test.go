package envoy_test

import (
	"net/netip"
	"time"

	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/report"
	"github.com/meshd-io/meshd/pkg/xds/scope"
)

// The example mesh: shop/accounts (the proxies that are translated for) calls
// shop/loans-svc; db is TCP, misc is undeclared, old is outside of the mesh.
const (
	trustDomain = "cluster.local"
	loansID     = "spiffe://cluster.local/ns/shop/sa/loans"
	accountsID  = "spiffe://cluster.local/ns/shop/sa/accounts"
	bundle      = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
)

// testCase is a mesh, what one of its workloads has asked for, and so its View.
type testCase struct {
	mesh   *model.Mesh
	key    model.WorkloadKey
	demand []string
	edit   func(*scope.View)
	// unpromoted: its destinations are still reached by the gate.
	unpromoted bool
	// base is the case that the golden file shows the difference to; "" shows all.
	base string
}

// The cases that others differ from.
const (
	// baseCase is the whole of a sidecar that has asked for nothing.
	baseCase = "sidecar"
	// httpCase has asked for loans-svc.
	httpCase = "destination-http"
	// entryCase is the whole of a gateway.
	entryCase = "gateway-http"
)

// edited changes the View to what the mesh does not lead to (yet).
func (c testCase) edited(edit func(*scope.View)) testCase {
	c.edit = edit
	return c
}

func (c testCase) view() *scope.View {
	var d scope.Demand
	for _, a := range c.demand {
		d = d.With(netip.MustParseAddrPort(a))
	}
	if !c.unpromoted {
		d, _ = d.Promote()
	}
	v := scope.Of(c.mesh, c.key, d)
	if c.edit != nil {
		c.edit(v)
	}
	return v
}

func accountsKey() model.WorkloadKey {
	return model.WorkloadKey{Namespace: "shop", ServiceAccount: "accounts", Labels: "app=accounts"}
}

func gatewayKey() model.WorkloadKey {
	return model.WorkloadKey{Kind: model.GatewayProxy, Namespace: "meshd-system", ServiceAccount: "meshd-ingress"}
}

func object(kind, name string) report.Origin {
	return report.Origin{Object: report.Object{Kind: kind, Namespace: "shop", Name: name}, Generation: 1}
}

// traffic is MeshConfig's defaults.
func traffic() model.Traffic {
	return model.Traffic{
		ConnectTimeout: time.Second, IdleTimeout: time.Hour,
		Retry: model.Retry{
			Attempts: 3, On: []model.RetryOn{model.ConnectFailure, model.RefusedStream, model.ResetBeforeRequest},
			BackoffBase: 25 * time.Millisecond, BackoffMax: 250 * time.Millisecond, BudgetPercent: 20, BudgetMinimum: 3,
		},
		CircuitBreaker: model.CircuitBreaker{MaxConnections: 1024, MaxPendingRequests: 1024, MaxRequests: 1024},
	}
}

// service is one port of one Service with two endpoints.
func service(name, ip string, port uint16, protocol model.Protocol) *model.Service {
	n := model.Name{Namespace: "shop", Name: name}
	origin := object("Service", name)
	return &model.Service{
		Name: n, Addresses: []netip.Addr{netip.MustParseAddr(ip)}, Origin: origin,
		Ports: []model.ServicePort{{Port: port, Backend: model.Backend{
			Ref: model.BackendRef{Service: n, Port: port}, Protocol: protocol, Traffic: traffic(),
			Identities: []string{loansID}, Origins: []report.Origin{origin},
			Endpoints: []model.Endpoint{
				{Address: netip.AddrPortFrom(netip.MustParseAddr("10.244.0.11"), port), MTLS: true, Zone: "a"},
				{Address: netip.AddrPortFrom(netip.MustParseAddr("10.244.0.12"), port), MTLS: true, Zone: "b"},
			},
		}}},
	}
}

// shop is the example mesh; change alters it for a case.
func shop(change ...func(*model.Mesh)) *model.Mesh {
	m := &model.Mesh{
		Settings: model.Settings{
			TrustDomain: trustDomain,
			CIDRs:       []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16"), netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:10::/32")},
			Telemetry:   model.Telemetry{MaxSeries: 2000},
		},
		Trust: model.Trust{Bundle: bundle},
	}
	set(&m.Workloads, accountsKey(), &model.Workload{
		Key: accountsKey(), Identity: accountsID,
		Ports: []model.InboundPort{{Port: 8080, Protocol: model.HTTP}},
		Rest:  model.InboundPort{Protocol: model.TCP},
	})
	for _, s := range []*model.Service{
		service("loans-svc", "10.96.0.10", 8090, model.HTTP),
		service("db", "10.96.0.20", 5432, model.TCP),
		service("misc", "10.96.0.30", 7000, model.Undeclared),
	} {
		addService(m, s)
	}
	addPod(m, &model.Pod{Name: model.Name{Namespace: "shop", Name: "old-0"}, Addresses: []netip.Addr{netip.MustParseAddr("10.244.0.99")}, Traffic: &model.Traffic{}})
	for _, f := range change {
		f(m)
	}
	return m
}

func addService(m *model.Mesh, s *model.Service) {
	set(&m.Services, s.Name, s)
	for _, a := range s.Addresses {
		set(&m.ServicesByAddress, a, s)
	}
}

func addPod(m *model.Mesh, p *model.Pod) {
	set(&m.Pods, p.Name, p)
	for _, a := range p.Addresses {
		set(&m.PodsByAddress, a, p)
	}
}

// cases are the corpus: one idea each, named FEATURE-CONDITION.
func cases() map[string]testCase {
	all := map[string]testCase{}
	for base, groups := range map[string][]map[string]testCase{
		baseCase:  {destinationCases(), settingsCases(), inboundCases(), authzCases(), restCases()},
		httpCase:  {backendCases(), routeCases(), httpRouteCases()},
		entryCase: {gatewayCases()},
	} {
		for _, group := range groups {
			for name, c := range group {
				c.base = base
				all[name] = c
			}
		}
	}
	all[baseCase] = accounts(shop())
	all[entryCase] = gateway()
	return all
}

// set puts a value into a map of a mesh.
func set[K, V comparable](m *model.Map[K, V], key K, value V) {
	e := m.Edit()
	e.Set(key, value)
	*m = e.Map()
}

// get finds a value that is there.
func get[K, V comparable](m model.Map[K, V], key K) V {
	v, _ := m.Get(key)
	return v
}
