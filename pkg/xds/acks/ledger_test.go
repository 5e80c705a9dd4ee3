package acks

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/meshd-io/meshd/pkg/xds/envoy"
	"github.com/meshd-io/meshd/pkg/xds/scope"
)

type versions map[string]string

// set is comparable, as a Held has to be.
type set struct{ versions *versions }

func (s set) Version(name string) (string, bool) {
	v, ok := (*s.versions)[name]
	return v, ok
}

func proxy(name string) Proxy {
	return Proxy{Name: "shop/" + name, Kind: "sidecar", Key: scope.Key{Namespace: "shop"}}
}

func fold(events ...Event) Ledger {
	var l Ledger
	for _, e := range events {
		l = Fold(l, e)
	}
	return l
}

func connected(name string) Event {
	return Event{Kind: Connected, At: time.Unix(1, 0), Proxy: proxy(name)}
}

func acknowledged(name string, t envoy.Type, v versions) Event {
	return Event{Kind: Acknowledged, Proxy: proxy(name), Type: t, Version: "v", Held: set{&v}}
}

func TestProgress(t *testing.T) {
	route := Resource{Type: envoy.ScopedRouteType, Name: "r", Version: "2", Generation: 7}
	assignment := Resource{Type: envoy.EndpointType, Name: "e", Version: "1", Generation: 7}
	listener := Resource{Type: envoy.ListenerType, Name: "l", Version: "1", Generation: 7}
	refused := Resource{Type: envoy.ScopedRouteType, Name: "r", Version: "1", Generation: 7, Refused: "too large"}
	for name, tt := range map[string]struct {
		ledger     Ledger
		resources  []Resource
		generation int64
		want       Progress
	}{
		"nobody":       {fold(), []Resource{route}, 7, Progress{}},
		"no resources": {fold(connected("a")), nil, 7, Progress{}},
		"held": {fold(connected("a"), acknowledged("a", envoy.ScopedRouteType, versions{"r": "2"})),
			[]Resource{route}, 7, Progress{Total: 1, Acknowledged: 1}},
		"an older generation has the same bytes": {fold(connected("a"), acknowledged("a", envoy.ScopedRouteType, versions{"r": "2"})),
			[]Resource{route}, 6, Progress{Total: 1, Acknowledged: 1}},
		"not translated yet": {fold(connected("a"), acknowledged("a", envoy.ScopedRouteType, versions{"r": "2"})),
			[]Resource{route}, 8, Progress{Total: 1, Laggards: []string{"shop/a"}}},
		"one lags": {fold(connected("b"), connected("a"),
			acknowledged("a", envoy.ScopedRouteType, versions{"r": "1"}), acknowledged("b", envoy.ScopedRouteType, versions{"r": "2"})),
			[]Resource{route}, 7, Progress{Total: 2, Acknowledged: 1, Laggards: []string{"shop/a"}}},
		"what is not asked for does not concern": {fold(connected("a"), acknowledged("a", envoy.EndpointType, versions{"other": "1"}), acknowledged("a", envoy.ListenerType, nil)),
			[]Resource{assignment}, 7, Progress{}},
		"everything concerns a proxy that has just come": {fold(connected("a")),
			[]Resource{assignment}, 7, Progress{Total: 1, Laggards: []string{"shop/a"}}},
		"a secret concerns before it is asked for": {fold(connected("a"), acknowledged("a", envoy.SecretType, versions{"trust": "1"})),
			[]Resource{{Type: envoy.SecretType, Name: "cert|shop/tls", Version: "1", Generation: 7}}, 7, Progress{Total: 1, Laggards: []string{"shop/a"}}},
		"listeners concern all": {fold(connected("a")), []Resource{listener}, 7, Progress{Total: 1, Laggards: []string{"shop/a"}}},
		"refused": {fold(connected("a"), acknowledged("a", envoy.ScopedRouteType, versions{"r": "1"})),
			[]Resource{refused}, 8, Progress{Total: 1, Rejected: 1, Laggards: []string{"shop/a"}, Messages: []string{"too large"}}},
		"gone": {fold(connected("a"), Event{Kind: Disconnected, Proxy: proxy("a")}), []Resource{listener}, 7, Progress{}},
	} {
		t.Run(name, func(t *testing.T) {
			got := ProgressOf(tt.ledger, func(scope.Key) []Resource { return tt.resources }, tt.generation)
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestProxies(t *testing.T) {
	sets := Event{Kind: Published, Key: proxy("a").Key, Sets: []Set{{Type: envoy.ClusterType, Version: "v", Resources: 1}}}
	rejection := Rejection{Type: envoy.ClusterType, Name: "c", Version: "1", Message: "no"}
	for name, tt := range map[string]struct {
		events []Event
		synced bool
	}{
		"nothing published":   {[]Event{connected("a")}, false},
		"not asked yet":       {[]Event{sets, connected("a")}, false},
		"all acknowledged":    {[]Event{sets, connected("a"), acknowledged("a", envoy.ClusterType, nil)}, true},
		"refused":             {[]Event{sets, connected("a"), acknowledged("a", envoy.ClusterType, nil), {Kind: Rejected, Proxy: proxy("a"), Resource: rejection}}, false},
		"mended":              {[]Event{sets, connected("a"), {Kind: Rejected, Proxy: proxy("a"), Resource: rejection}, acknowledged("a", envoy.ClusterType, nil)}, true},
		"a newer set":         {[]Event{connected("a"), acknowledged("a", envoy.ClusterType, nil), {Kind: Published, Key: proxy("a").Key, Sets: []Set{{Type: envoy.ClusterType, Version: "w"}}}}, false},
		"on-demand was first": {[]Event{sets, {Kind: Demanded, Proxy: proxy("a"), Destinations: 3}, connected("a"), acknowledged("a", envoy.ClusterType, nil)}, true},
	} {
		t.Run(name, func(t *testing.T) {
			got := fold(tt.events...).Proxies()
			if len(got) != 1 || got[0].Synced != tt.synced {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestStreamsOfAProxyComeAndGo(t *testing.T) {
	gate := Event{Kind: Acknowledged, Proxy: proxy("a"), Type: envoy.OnDemandType, Version: "v"}
	gateGone := Event{Kind: Disconnected, Proxy: proxy("a"), Type: envoy.OnDemandType}
	gone := Event{Kind: Disconnected, Proxy: proxy("a")}
	l := fold(gate)
	if len(l.Proxies()) != 0 {
		t.Error("an on-demand stream alone is a proxy")
	}
	l = Fold(Fold(l, connected("a")), acknowledged("a", envoy.ClusterType, nil))
	if ps := l.Proxies(); len(ps) != 1 || len(ps[0].Types) != 2 {
		t.Errorf("%+v", ps)
	}
	if l = Fold(l, gone); len(l.Proxies()) != 0 || l.proxies.Len() != 1 {
		t.Errorf("%+v", l)
	}
	if l = Fold(l, gateGone); l.proxies.Len() != 0 {
		t.Errorf("%+v remains", l)
	}
}

// A Ledger that was given out does not change.
func TestFoldChangesNothing(t *testing.T) {
	before := fold(connected("b"), acknowledged("b", envoy.ClusterType, versions{"c": "1"}))
	seen := before.Proxies()
	for _, e := range []Event{
		connected("a"), connected("c"), acknowledged("b", envoy.ClusterType, versions{"c": "2"}), acknowledged("b", envoy.ListenerType, nil),
		{Kind: Rejected, Proxy: proxy("b"), Resource: Rejection{Type: envoy.ClusterType, Name: "c"}},
		{Kind: Published, Key: proxy("b").Key, Sets: []Set{{Type: envoy.ClusterType, Version: "w"}}},
		{Kind: Disconnected, Proxy: proxy("b")},
	} {
		Fold(before, e)
		if got := before.Proxies(); !reflect.DeepEqual(got, seen) {
			t.Errorf("after %d: %+v, was %+v", e.Kind, got, seen)
		}
	}
}

func TestLaggardsAreBoundedAndSorted(t *testing.T) {
	var l Ledger
	for i := range 30 {
		l = Fold(l, connected(string(rune('z'-i%26))+string(rune('a'+i/26))))
	}
	p := ProgressOf(l, func(scope.Key) []Resource { return []Resource{{Type: envoy.ListenerType, Name: "l", Version: "1"}} }, 0)
	if p.Total != 30 || len(p.Laggards) != MaxLaggards || !slices.IsSorted(p.Laggards) {
		t.Errorf("%+v", p)
	}
}

// TestRefusedDestinations: the reason stays until the on-demand stream, which says again what the proxy asks for, has gone.
func TestRefusedDestinations(t *testing.T) {
	refused := Event{Kind: Refused, Proxy: proxy("a"), Destinations: 2000, Message: "too many"}
	stream := Event{Kind: Refused, Proxy: proxy("a"), Message: "not its certificate"}
	gone := Event{Kind: Disconnected, Proxy: proxy("a"), Type: envoy.OnDemandType}
	for name, tt := range map[string]struct {
		events []Event
		want   string
	}{
		"refused":                  {[]Event{connected("a"), refused}, "too many"},
		"asks on":                  {[]Event{connected("a"), refused, {Kind: Demanded, Proxy: proxy("a"), Destinations: 2000}}, "too many"},
		"its ADS stream came last": {[]Event{refused, connected("a")}, "too many"},
		"its stream has gone":      {[]Event{connected("a"), refused, gone}, ""},
		"a stream was refused":     {[]Event{connected("a"), stream}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := fold(tt.events...).Proxies()[0].Refused; got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}
