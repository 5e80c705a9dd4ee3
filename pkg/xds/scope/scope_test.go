package scope_test

import (
	"errors"
	"net/netip"
	"slices"
	"testing"

	"github.com/meshd-io/meshd/pkg/identity"
	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/xds/scope"
)

// mesh has shop/loans-0 (in the mesh), shop/old-0 (outside) and a gateway, and
// the Services loans (HTTP), db (TCP), misc (undeclared) and peers (headless).
func mesh() *model.Mesh {
	key := model.WorkloadKey{Namespace: "shop", ServiceAccount: "loans", Labels: "app=loans"}
	edge := model.WorkloadKey{Kind: model.GatewayProxy, Namespace: "meshd-system", ServiceAccount: "meshd-ingress"}
	m := &model.Mesh{
		Settings: model.Settings{
			TrustDomain: "cluster.local", TrustDomainAliases: []string{"old.local"},
			CIDRs: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16"), netip.MustParsePrefix("10.244.0.0/16")},
		},
		Workloads: model.MapOf(map[model.WorkloadKey]*model.Workload{key: {
			Key: key, Identity: "spiffe://cluster.local/ns/shop/sa/loans",
			Ports: []model.InboundPort{{Port: 8090, Protocol: model.HTTP}, {Port: 9000, Protocol: model.TCP, Mode: model.Disable}},
		}}),
	}
	plain := model.Traffic{}
	for _, p := range []*model.Pod{
		{Name: name("shop", "loans-0"), Addresses: addrs("10.244.0.6"), ServiceAccount: "loans", InMesh: true, Key: key, Zone: "a", Ports: []model.PodPort{
			{Port: 8090, Protocol: model.GRPC, Traffic: &model.Traffic{CircuitBreaker: model.CircuitBreaker{MaxRequests: 8090}}},
			{Port: 9000, Protocol: model.TCP, Traffic: &plain},
		}},
		{Name: name("shop", "old-0"), Addresses: addrs("10.244.0.99"), ServiceAccount: "old", Ports: []model.PodPort{{Port: 80, Protocol: model.HTTP, Traffic: &plain}}},
		{Name: name("meshd-system", "edge-0"), Addresses: addrs("10.244.0.7"), ServiceAccount: "meshd-ingress", InMesh: true, Key: edge},
	} {
		p.Traffic = &plain
		set(&m.Pods, p.Name, p)
		for _, a := range p.Addresses {
			set(&m.PodsByAddress, a, p)
		}
	}
	for _, s := range []*model.Service{
		svc("loans", "10.96.0.10", 80, 8090, model.HTTP), svc("db", "10.96.0.20", 5432, 5432, model.TCP),
		svc("misc", "10.96.0.30", 7000, 7000, model.Undeclared), svc("peers", "", 8090, 8090, model.GRPC),
	} {
		set(&m.Services, s.Name, s)
		for _, a := range s.Addresses {
			set(&m.ServicesByAddress, a, s)
		}
	}
	return m
}

// set puts a value into a map of a mesh.
func set[K, V comparable](m *model.Map[K, V], key K, value V) {
	e := m.Edit()
	e.Set(key, value)
	*m = e.Map()
}

func name(ns, n string) model.Name { return model.Name{Namespace: ns, Name: n} }

func addrs(list ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range list {
		if s != "" {
			out = append(out, netip.MustParseAddr(s))
		}
	}
	return out
}

func svc(n, ip string, port, target uint16, p model.Protocol) *model.Service {
	return &model.Service{
		Name: name("shop", n), Addresses: addrs(ip), Headless: ip == "",
		Ports: []model.ServicePort{{Port: port, Backend: model.Backend{
			Ref: model.BackendRef{Service: name("shop", n), Port: port}, Protocol: p,
			Traffic:   model.Traffic{CircuitBreaker: model.CircuitBreaker{MaxRequests: uint32(port)}},
			Endpoints: []model.Endpoint{{Address: netip.AddrPortFrom(netip.MustParseAddr("10.244.0.6"), target), MTLS: true}},
		}}},
	}
}

func TestResolve(t *testing.T) {
	for address, want := range map[string]scope.DestinationKind{
		"10.96.0.10:80":           scope.HTTPDestination,
		"10.96.0.20:5432":         scope.TCPDestination,
		"10.96.0.30:7000":         scope.DetectDestination,
		"10.96.0.10:81":           scope.Refused, // no such port
		"10.96.0.77:80":           scope.PassDestination,
		"10.244.0.6:8090":         scope.HTTPDestination, // the headless Service's target port
		"10.244.0.6:9000":         scope.TCPDestination,  // no Service: as its own sidecar takes it
		"10.244.0.6:1234":         scope.DetectDestination,
		"10.244.0.99:80":          scope.HTTPDestination, // outside of the mesh, declared by its container
		"10.244.0.99:81":          scope.DetectDestination,
		"10.244.0.6:15001":        scope.Refused,
		"10.244.0.6:15003":        scope.Refused,
		"10.244.0.6:15006":        scope.Refused,
		"10.244.0.6:15021":        scope.PassDestination, // metrics
		"10.244.0.99:15006":       scope.DetectDestination,
		"127.0.0.1:80":            scope.Refused,
		"0.0.0.0:80":              scope.Refused,
		"[::1]:80":                scope.Refused,
		"192.0.2.1:443":           scope.Refused, // outside of the CIDRs: the gate never asks
		"[::ffff:10.96.0.10]:80":  scope.HTTPDestination,
		"10.96.0.10:0":            scope.Refused,
		"224.0.0.1:80":            scope.Refused,
		"[fe80::1%25eth0]:80":     scope.Refused,
		"[fd00:10:96::ffff]:8080": scope.Refused,
	} {
		a, err := netip.ParseAddrPort(address)
		if err != nil {
			t.Fatal(err)
		}
		if got := scope.Resolve(mesh(), a, "shop"); got.Kind != want {
			t.Errorf("%s is of kind %d, want %d", address, got.Kind, want)
		}
	}
}

func TestPodAddress(t *testing.T) {
	a := netip.MustParseAddrPort("10.244.0.6:8090")
	v := scope.Of(mesh(), accountsKey(), scope.Demand{}.With(a))
	if len(v.Destinations[0].Backends) != 1 {
		t.Fatalf("%d backends", len(v.Destinations[0].Backends))
	}
	b := v.Destinations[0].Backends[0]
	if b.Ref != (model.BackendRef{Address: a}) || b.Protocol != model.GRPC {
		t.Errorf("%+v: not by its address, or not as the headless Service says", b)
	}
	if b.Traffic.CircuitBreaker.MaxRequests != 8090 {
		t.Error("not treated as the headless Service")
	}
	want := []string{"spiffe://cluster.local/ns/shop/sa/loans", "spiffe://old.local/ns/shop/sa/loans"}
	if !slices.Equal(b.Identities, want) {
		t.Errorf("identities %v", b.Identities)
	}
	if len(b.Endpoints) != 1 || !b.Endpoints[0].MTLS || b.Endpoints[0].Zone != "a" {
		t.Errorf("endpoints %+v", b.Endpoints)
	}
}

func TestPodAddressWithoutMutualTLS(t *testing.T) {
	for _, address := range []string{"10.244.0.99:80", "10.244.0.6:9000"} {
		a := netip.MustParseAddrPort(address)
		v := scope.Of(mesh(), accountsKey(), scope.Demand{}.With(a))
		if v.Destinations[0].Backends[0].Endpoints[0].MTLS {
			t.Errorf("%s is called with mutual TLS", address)
		}
	}
}

func accountsKey() scope.Key { return scope.Key{Namespace: "shop", ServiceAccount: "accounts"} }

func TestOfAnswersWithoutPods(t *testing.T) {
	v := scope.Of(mesh(), accountsKey(), scope.Demand{})
	if v.Identity != "spiffe://cluster.local/ns/shop/sa/accounts" {
		t.Errorf("identity %q", v.Identity)
	}
	if !v.Rest.Authz.DefaultDeny || v.Rest.Mode != model.Strict {
		t.Error("a workload that is not known lets callers in")
	}
}

func TestOfGateway(t *testing.T) {
	m := mesh()
	edge, _ := m.Pods.Get(name("meshd-system", "edge-0"))
	key := edge.Key
	if v := scope.Of(m, key, scope.Demand{}); v.Gateway != nil || v.Backends != nil {
		t.Error("a gateway without listeners sees something")
	}
	loans := model.BackendRef{Service: name("shop", "loans"), Port: 80}
	set(&m.Gateways, key, &model.Gateway{Listeners: []model.GatewayListener{{Hosts: []model.VirtualHost{{Routes: []model.Route{{
		Backends: []model.WeightedBackend{{Ref: loans}, {Ref: model.BackendRef{Service: name("shop", "gone"), Port: 1}}},
	}}}}}}})
	v := scope.Of(m, key, scope.Demand{})
	if len(v.Backends) != 1 || v.Backends[0].Ref != loans {
		t.Errorf("backends %+v", v.Backends)
	}
}

func TestScopeAll(t *testing.T) {
	m := mesh()
	m.Settings.ScopeAll = true
	v := scope.Of(m, accountsKey(), scope.Demand{})
	var got []string
	for _, d := range v.Destinations {
		got = append(got, d.Address.String())
	}
	want := []string{"10.96.0.10:80", "10.96.0.20:5432", "10.96.0.30:7000", "10.244.0.6:8090"}
	if !slices.Equal(got, want) {
		t.Errorf("destinations %v, want %v", got, want)
	}
	if scope.All(m).Len() != len(want) {
		t.Error("All differs from what scope All sees")
	}
}

func TestDemandIsImmutable(t *testing.T) {
	a, b := netip.MustParseAddrPort("10.0.0.2:1"), netip.MustParseAddrPort("10.0.0.1:1")
	var none scope.Demand
	one := none.With(a)
	two := one.With(b, a, netip.MustParseAddrPort("[::ffff:10.0.0.1]:1"))
	if none.Len() != 0 || one.Len() != 1 || two.Len() != 2 {
		t.Errorf("lengths %d, %d, %d", none.Len(), one.Len(), two.Len())
	}
	if one.Has(b) || !two.Has(b) || !two.Has(a) {
		t.Error("With changed what it was called on, or lost something")
	}
	if !slices.Equal(two.Addresses(), []netip.AddrPort{b, a}) {
		t.Errorf("addresses %v", two.Addresses())
	}
}

func TestKeyFor(t *testing.T) {
	for _, c := range []struct {
		node, id string
		want     error
	}{
		{"sidecar~shop/loans-0", "spiffe://cluster.local/ns/shop/sa/loans", nil},
		{"gateway~meshd-system/edge-0", "spiffe://cluster.local/ns/meshd-system/sa/meshd-ingress", nil},
		{"sidecar~shop/loans-9", "spiffe://cluster.local/ns/shop/sa/loans", scope.ErrUnknownPod},
		{"sidecar~shop/old-0", "spiffe://cluster.local/ns/shop/sa/old", scope.ErrUnknownPod},
		{"sidecar~shop/loans-0", "spiffe://cluster.local/ns/shop/sa/accounts", scope.ErrMismatch},
		{"sidecar~shop/loans-0", "spiffe://cluster.local/ns/bank/sa/loans", scope.ErrMismatch},
		{"sidecar~shop/loans-0", "spiffe://old.local/ns/shop/sa/loans", scope.ErrMismatch},
		{"sidecar~shop/loans-0", "", scope.ErrMismatch},
		{"gateway~shop/loans-0", "spiffe://cluster.local/ns/shop/sa/loans", scope.ErrMismatch},
		{"sidecar~meshd-system/edge-0", "spiffe://cluster.local/ns/meshd-system/sa/meshd-ingress", scope.ErrMismatch},
		{"shop/loans-0", "spiffe://cluster.local/ns/shop/sa/loans", scope.ErrMismatch},
		{"sidecar~shop/loans-0/x", "spiffe://cluster.local/ns/shop/sa/loans", scope.ErrMismatch},
		{"sidecar~", "spiffe://cluster.local/ns/shop/sa/loans", scope.ErrMismatch},
		{"", "spiffe://cluster.local/ns/shop/sa/loans", scope.ErrMismatch},
	} {
		var id identity.ID
		if c.id != "" {
			var err error
			if id, err = identity.Parse(c.id); err != nil {
				t.Fatal(err)
			}
		}
		key, err := scope.KeyFor(mesh(), scope.Node{ID: c.node, Identity: id})
		if !errors.Is(err, c.want) {
			t.Errorf("%s as %s: %v, want %v", c.node, c.id, err, c.want)
		}
		if err == nil && key.Namespace != id.Namespace() {
			t.Errorf("%s has key %+v", c.node, key)
		}
	}
}
