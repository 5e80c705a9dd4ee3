package server

import (
	"slices"
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/meshd-io/meshd/pkg/report"
	"github.com/meshd-io/meshd/pkg/xds/acks"
	"github.com/meshd-io/meshd/pkg/xds/envoy"
	"github.com/meshd-io/meshd/pkg/xds/scope"
)

func codeOf(err error) codes.Code { return status.Code(err) }

// until waits for the Ledger.
func (f *fixture) until(t *testing.T, holds func([]acks.ProxyState) bool) {
	t.Helper()
	for !holds(f.book.Ledger().Proxies()) {
		select {
		case <-f.changed:
		case <-t.Context().Done():
			t.Fatal("never")
		}
	}
}

func synced(ps []acks.ProxyState) bool { return len(ps) == 1 && ps[0].Synced }

// start brings a proxy up to shop().
func (f *fixture) start(t *testing.T) *client {
	t.Helper()
	c := f.ads(t)
	c.ask(envoy.ClusterType)
	c.expect(envoy.ClusterType, "out|shop/a|80", "out|shop/b|80")
	c.ask(envoy.EndpointType, "out|shop/a|80", "out|shop/b|80")
	c.expect(envoy.EndpointType, "out|shop/a|80", "out|shop/b|80")
	c.ask(envoy.ListenerType)
	c.expect(envoy.ListenerType, "out")
	f.until(t, synced)
	return c
}

func (f *fixture) progress(name string, generation int64) acks.Progress {
	obj := report.Object{Kind: "Service", Namespace: "shop", Name: name}
	return acks.ProgressOf(f.book.Ledger(), func(k scope.Key) []acks.Resource { return f.cache.Concerned(k, obj) }, generation)
}

func TestLedgerFollows(t *testing.T) {
	f := newFixture(t, Limits{})
	f.cache.Publish(accountsKey(), shop())
	c := f.start(t)
	p := f.book.Ledger().Proxies()[0]
	if p.Name != "shop/accounts-1" || p.Kind != "sidecar" || p.CertificateExpires.Unix() != 2_000_000_000 || len(p.Types) != 3 {
		t.Errorf("%+v", p)
	}
	if got := f.progress("out|shop/a|80", 1); got.Total != 1 || got.Acknowledged != 1 {
		t.Errorf("%+v", got)
	}
	rs := shop()
	rs[envoy.ClusterType][0] = clusterOf("out|shop/a|80", 2)
	f.cache.Publish(accountsKey(), rs)
	if got := f.progress("out|shop/a|80", 1); got.Acknowledged != 0 || !slices.Equal(got.Laggards, []string{"shop/accounts-1"}) {
		t.Errorf("before the acknowledgement: %+v", got)
	}
	if got := f.progress("out|shop/b|80", 1); got.Acknowledged != 1 {
		t.Errorf("what has not changed: %+v", got)
	}
	r, err := c.stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: r.GetTypeUrl(), ResponseNonce: r.GetNonce(),
		ErrorDetail: &rpcstatus.Status{Code: 13, Message: "no such thing"}})
	f.until(t, func(ps []acks.ProxyState) bool {
		return slices.ContainsFunc(ps[0].Types, func(t acks.TypeState) bool { return len(t.Rejected) == 1 })
	})
	if got := f.progress("out|shop/a|80", 1); got.Rejected != 1 || !slices.Equal(got.Messages, []string{"no such thing"}) {
		t.Errorf("refused: %+v", got)
	}
	c.expect(envoy.EndpointType, "out|shop/a|80")
	f.cache.Publish(accountsKey(), shop())
	f.until(t, synced)
	if err := c.stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	f.until(t, func(ps []acks.ProxyState) bool { return len(ps) == 0 })
}

func TestNewestStreamOfAProxyWins(t *testing.T) {
	f := newFixture(t, Limits{})
	f.cache.Publish(accountsKey(), shop())
	old := f.start(t)
	newer := f.ads(t)
	newer.ask(envoy.ClusterType)
	newer.expect(envoy.ClusterType, "out|shop/a|80", "out|shop/b|80")
	old.ask(envoy.EndpointType, "out|shop/a|80")
	old.refusedWith(codes.Aborted)
	if n := len(f.book.Ledger().Proxies()); n != 1 {
		t.Errorf("%d proxies", n)
	}
}

func TestRekey(t *testing.T) {
	f := newFixture(t, Limits{})
	f.cache.Publish(accountsKey(), shop())
	c := f.start(t)
	g := f.gate(t)
	g.ask(envoy.ClusterType, "dst|10.96.0.1:80")
	<-f.asked

	other := accountsKey()
	other.Labels = "app=accounts"
	f.mu.Lock()
	f.keys["sidecar~shop/accounts-1"] = other
	f.mu.Unlock()
	f.Rekey()
	if got := <-f.asked; got.key != other || len(got.addresses) != 1 {
		t.Errorf("demanded %+v", got)
	}
	rs := shop()
	rs[envoy.ClusterType] = rs[envoy.ClusterType][:1] // b is gone
	rs[envoy.EndpointType] = rs[envoy.EndpointType][:1]
	rs[envoy.ListenerType] = []envoy.Resource{listenerOf("out", "two")}
	rs[envoy.OnDemandType] = []envoy.Resource{gateOf("dst|10.96.0.1:80", envoy.Ref{Type: envoy.ClusterType, Name: "out|shop/a|80"})}
	f.cache.Publish(other, rs)
	c.expect(envoy.ListenerType, "out")
	g.expect(envoy.ClusterType, "dst|10.96.0.1:80")
	c.expect(envoy.ClusterType, "-out|shop/b|80")
	c.expect(envoy.EndpointType, "-out|shop/b|80")
	f.until(t, func(ps []acks.ProxyState) bool { return synced(ps) && ps[0].Key == other && ps[0].Destinations == 1 })
}

// Who has asked for nothing loses nothing by another key: no grace.
func TestRekeyOfOneThatHasAskedForNothing(t *testing.T) {
	f := newFixture(t, Limits{})
	f.cache.Publish(accountsKey(), shop())
	c := f.start(t)
	other := accountsKey()
	other.Labels = "app=accounts"
	f.mu.Lock()
	f.keys["sidecar~shop/accounts-1"] = other
	f.mu.Unlock()
	f.Rekey()
	rs := shop()
	rs[envoy.ClusterType], rs[envoy.EndpointType] = rs[envoy.ClusterType][:1], rs[envoy.EndpointType][:1]
	f.cache.Publish(other, rs)
	c.expect(envoy.ClusterType, "-out|shop/b|80")
	c.expect(envoy.EndpointType, "-out|shop/b|80")
	f.until(t, func(ps []acks.ProxyState) bool { return synced(ps) && ps[0].Key == other })
}

// Nothing is removed from a sidecar whose on-demand stream has not told what it uses.
func TestNoRemovalBeforeTheOnDemandStream(t *testing.T) {
	f := newFixture(t, Limits{})
	f.cache.Publish(accountsKey(), shop())
	c := f.ads(t)
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: string(envoy.ClusterType),
		InitialResourceVersions: map[string]string{"out|shop/a|80": "old", "out|shop/used|80": "1", "out|shop/gone|80": "1"}})
	c.expect(envoy.ClusterType, "out|shop/a|80", "out|shop/b|80")

	c.ask(envoy.ScopedRouteType)
	c.expect(envoy.ScopedRouteType)
	g := f.gate(t)
	g.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: string(envoy.ClusterType),
		ResourceNamesSubscribe:  []string{"dst|10.96.0.1:80"},
		InitialResourceVersions: map[string]string{"dst|10.96.0.1:80": "1"}})
	<-f.asked
	rs := shop()
	rs[envoy.ClusterType] = append(rs[envoy.ClusterType], clusterOf("out|shop/used|80", 1))
	rs[envoy.EndpointType] = append(rs[envoy.EndpointType], endpointsOf("out|shop/used|80", 1))
	rs[envoy.OnDemandType] = []envoy.Resource{gateOf("dst|10.96.0.1:80", envoy.Ref{Type: envoy.ClusterType, Name: "out|shop/used|80"})}
	f.cache.Publish(accountsKey(), rs)
	c.expect(envoy.ClusterType, "out|shop/used|80")
	c.expect(envoy.ClusterType, "-out|shop/gone|80")
	g.expect(envoy.ClusterType, "dst|10.96.0.1:80")
}

// A proxy that held nothing when it came has nothing that could be taken from it: no grace.
func TestRemovalsOfFreshProxiesDoNotWait(t *testing.T) {
	f := newFixture(t, Limits{})
	f.cache.Publish(accountsKey(), shop())
	c := f.start(t)
	rs := shop()
	rs[envoy.ClusterType], rs[envoy.EndpointType] = rs[envoy.ClusterType][:1], rs[envoy.EndpointType][:1]
	f.cache.Publish(accountsKey(), rs)
	c.expect(envoy.ClusterType, "-out|shop/b|80")
}

// Responses beyond grpc's windows go out whole, and in their own time.
func TestLargeResponse(t *testing.T) {
	f := newFixture(t, Limits{})
	rs := envoy.Resources{}
	var names []string
	for i := range 3000 {
		name := "out|shop/" + string([]byte{byte('a' + i/676), byte('a' + i/26%26), byte('a' + i%26)}) + "|80"
		names = append(names, name)
		rs[envoy.ClusterType] = append(rs[envoy.ClusterType], clusterOf(name, 1))
		rs[envoy.EndpointType] = append(rs[envoy.EndpointType], endpointsOf(name, 1))
	}
	f.cache.Publish(accountsKey(), rs)
	c := f.ads(t)
	c.ask(envoy.ClusterType)
	c.expect(envoy.ClusterType, names...)
	c.ask(envoy.EndpointType, names...)
	c.expect(envoy.EndpointType, names...)
}
