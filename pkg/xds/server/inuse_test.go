package server

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/meshd-io/meshd/pkg/xds/acks"
	"github.com/meshd-io/meshd/pkg/xds/envoy"
)

// TestInUse: every live proxy is told of, with what it subscribes to, until it is gone.
func TestInUse(t *testing.T) {
	f := newFixture(t, Limits{})
	f.cache.Publish(accountsKey(), shop())
	f.start(t)
	want := InUse{Node: "sidecar~shop/accounts-1", Key: accountsKey()}
	if got := f.InUse(); len(got) != 1 || got[0].Node != want.Node || got[0].Key != want.Key || len(got[0].Destinations) != 0 {
		t.Errorf("%+v", got)
	}
	g := f.gate(t)
	g.ask(envoy.ClusterType, "dst|10.96.0.1:80", "dst|10.96.0.2:80")
	<-f.asked
	want.Destinations = []netip.AddrPort{netip.MustParseAddrPort("10.96.0.1:80"), netip.MustParseAddrPort("10.96.0.2:80")}
	if got := f.InUse(); len(got) != 1 || got[0].Node != want.Node || !slices.Equal(got[0].Destinations, want.Destinations) {
		t.Errorf("%+v", got)
	}
}

// TestDeny: who waits is told that there is nothing, and why is in the ledger;
// the destination comes when there is room for it, without being asked for again.
func TestDeny(t *testing.T) {
	f := newFixture(t, Limits{})
	f.cache.Publish(accountsKey(), shop())
	f.start(t)
	g := f.gate(t)
	g.ask(envoy.ClusterType, "dst|10.96.0.1:80")
	<-f.asked
	full := []netip.AddrPort{netip.MustParseAddrPort("10.96.0.1:80"), netip.MustParseAddrPort("10.96.0.9:80")}
	f.Deny(accountsKey(), full, "too many")
	g.expect(envoy.ClusterType, "-dst|10.96.0.1:80")
	f.until(t, func(ps []acks.ProxyState) bool { return len(ps) == 1 && ps[0].Refused == "too many" })

	rs := shop()
	rs[envoy.OnDemandType] = []envoy.Resource{gateOf("dst|10.96.0.1:80", envoy.Ref{Type: envoy.ClusterType, Name: "out|shop/a|80"})}
	f.cache.Publish(accountsKey(), rs)
	g.expect(envoy.ClusterType, "dst|10.96.0.1:80")

	// What it holds is not denied.
	f.Deny(accountsKey(), full, "too many")
	rs[envoy.OnDemandType] = append(rs[envoy.OnDemandType], gateOf("dst|10.96.0.3:80", envoy.Ref{Type: envoy.ClusterType, Name: "out|shop/a|80"}))
	f.cache.Publish(accountsKey(), rs)
	g.ask(envoy.ClusterType, "dst|10.96.0.3:80")
	g.expect(envoy.ClusterType, "dst|10.96.0.3:80")
}
