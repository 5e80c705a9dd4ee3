package main

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/meshd-io/meshd/pkg/compile"
	"github.com/meshd-io/meshd/pkg/console"
	"github.com/meshd-io/meshd/pkg/identity"
	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/xds/acks"
	"github.com/meshd-io/meshd/pkg/xds/cache"
	"github.com/meshd-io/meshd/pkg/xds/demand"
	"github.com/meshd-io/meshd/pkg/xds/envoy"
	"github.com/meshd-io/meshd/pkg/xds/scope"
	"github.com/meshd-io/meshd/pkg/xds/server"
)

var somewhere = netip.MustParseAddrPort("10.0.0.9:80")

// demandBench is a pipeline with pods, a clock and live proxies of its own.
type demandBench struct {
	*pipeline
	now    time.Time
	inUse  []server.InUse
	denied []string
}

func (b *demandBench) Rekey()                {}
func (b *demandBench) InUse() []server.InUse { return b.inUse }
func (b *demandBench) Deny(_ scope.Key, destinations []netip.AddrPort, why string) {
	for _, d := range destinations {
		b.denied = append(b.denied, d.String()+" "+why)
	}
}

func newDemandBench(pods ...string) *demandBench {
	b := &demandBench{pipeline: newPipeline(compile.Config{}, cache.New(), acks.NewBook(), nil, nil), now: time.Unix(1e9, 0)}
	b.demand = demand.New(demand.Config{Now: func() time.Time { return b.now }})
	b.proxies = b
	b.pods(pods...)
	return b
}

// pods makes a mesh of them the newest.
func (b *demandBench) pods(names ...string) {
	edit := model.Map[model.Name, *model.Pod]{}.Edit()
	for _, n := range names {
		edit.Set(model.Name{Namespace: "shop", Name: n}, &model.Pod{ServiceAccount: "a", InMesh: true, Key: keyOf("a"), UID: n})
	}
	mesh := &model.Mesh{Pods: edit.Map(), Settings: model.Settings{TrustDomain: "td", CIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}}
	b.mesh.Store(mesh)
	b.publisher.Mesh(mesh)
}

func (b *demandBench) keyFor(t *testing.T, pod string) scope.Key {
	t.Helper()
	id, err := identity.New("td", "shop", "a")
	if err != nil {
		t.Fatal(err)
	}
	key, err := b.KeyFor(scope.Node{ID: "sidecar~shop/" + pod, Identity: id})
	if err != nil {
		t.Fatal(err)
	}
	b.turn()
	return key
}

func (b *demandBench) gives(key scope.Key) bool {
	return b.cache.Snapshot(key).Set(envoy.OnDemandType).Get(envoy.GateCluster(somewhere)) != nil
}

// TestNextReplicaStartsWithWhatIsInUse, and not with what has not been for long;
// who has been given it keeps it.
func TestNextReplicaStartsWithWhatIsInUse(t *testing.T) {
	b := newDemandBench("old", "next", "last")
	old := b.keyFor(t, "old")
	b.Demand(old, []netip.AddrPort{somewhere}, false)
	b.turn()
	if next := b.keyFor(t, "next"); next != old || !b.gives(next) {
		t.Errorf("%v does not start with what its workload uses", next)
	}
	b.inUse = []server.InUse{{Node: "sidecar~shop/old", Key: old, Destinations: []netip.AddrPort{somewhere}}}
	b.now = b.now.Add(2 * demand.Retention)
	b.sweep()
	b.inUse[0].Destinations = nil // another proxy of the workload in its place, which has not asked for it
	b.now = b.now.Add(demand.Retention)
	b.sweep()
	last := b.keyFor(t, "last")
	if last == old || b.gives(last) || !b.gives(old) {
		t.Errorf("%v is given it: %t, %v: %t", last, b.gives(last), old, b.gives(old))
	}

	// Its last proxies take the epoch with them.
	b.pods("last")
	b.inUse = []server.InUse{{Node: "sidecar~shop/last", Key: last}}
	b.sweep()
	b.turn()
	if b.cache.Snapshot(old) != nil || b.cache.Snapshot(last) == nil {
		t.Error("the epoch has not ended, or the wrong one has")
	}
}

// TestNoEpochWhileSomethingIsPutAside: another key would be served what Envoys have refused.
func TestNoEpochWhileSomethingIsPutAside(t *testing.T) {
	b := newDemandBench("old", "next")
	old := b.keyFor(t, "old")
	b.Demand(old, []netip.AddrPort{somewhere}, false)
	b.turn()
	it := b.cache.Snapshot(old).Set(envoy.ListenerType).Items()[0]
	b.cache.Reject(old, cache.Refusal{Type: envoy.ListenerType, Name: it.Name, Version: it.Version, Message: "no"})
	b.now = b.now.Add(2 * demand.Retention)
	b.sweep()
	if next := b.keyFor(t, "next"); next != old {
		t.Errorf("%v does not know what Envoys refuse", next)
	}
}

// TestBackAfterRestart: what proxies come back with is in use from then on, and in their listeners.
func TestBackAfterRestart(t *testing.T) {
	b := newDemandBench("old")
	key := b.keyFor(t, "old")
	b.Demand(key, []netip.AddrPort{somewhere}, true)
	b.turn()
	news, _ := b.demand.News(0)
	if want := []demand.Use{{Workload: key, Destination: somewhere, Last: b.now.UnixMilli()}}; !slices.Equal(news, want) {
		t.Errorf("%+v", news)
	}
	if d := b.demand.Of(key); !b.gives(key) || !d.HasPromoted(somewhere) {
		t.Error("it is not given what it holds")
	}
}

// TestTooMuchDemand: beyond the limit of the workload the proxies that wait are told why.
func TestTooMuchDemand(t *testing.T) {
	b := newDemandBench("old")
	key := b.keyFor(t, "old")
	var all []netip.AddrPort
	for i := range demand.Limit {
		all = append(all, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 80))
	}
	b.Demand(key, all, false)
	b.Demand(key, []netip.AddrPort{somewhere}, false)
	b.deny()
	if want := []string{"10.0.0.9:80 more than 4000 destinations in use by the workload; refused: 10.0.0.9:80"}; !slices.Equal(b.denied, want) {
		t.Errorf("%q", b.denied)
	}
}

func TestProxiesSaysWhyDestinationsAreRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		proxy console.Proxy
		want  string
	}{
		"nothing":        {console.Proxy{}, "-"},
		"by meshd":       {console.Proxy{Refused: "too many"}, "by meshd: too many"},
		"Envoy's  first": {console.Proxy{Refused: "too many", Types: []console.ProxyType{{Type: "Listener", Rejected: []console.Rejection{{Resource: "in", Message: "bad"}}}}}, "Listener in: bad"},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			if err := printProxies(&out, []proxyRow{{Proxy: tt.proxy}}, ""); err != nil {
				t.Fatal(err)
			}
			if line := strings.TrimSpace(out.String()); !strings.HasSuffix(line, tt.want) {
				t.Errorf("%q", line)
			}
		})
	}
	if p := consoleProxy(acks.ProxyState{Refused: "too many"}); p.Refused != "too many" {
		t.Errorf("%+v", p)
	}
}
