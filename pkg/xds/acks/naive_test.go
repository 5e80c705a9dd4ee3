package acks

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/meshd-io/meshd/pkg/xds/envoy"
	"github.com/meshd-io/meshd/pkg/xds/scope"
)

// naive is what a Ledger says, from maps that are changed in place and looked
// through proxy by proxy.
type naive struct {
	proxies map[string]*naiveProxy
	sets    map[scope.Key][]Set
}

type naiveProxy struct {
	Proxy
	connected    time.Time
	destinations int
	refused      string
	types        map[envoy.Type]*naiveType
}

type naiveType struct {
	version   string
	resources int
	held      Held
	rejected  map[string]Rejection
}

func (n *naive) fold(e Event) {
	switch e.Kind {
	case Published:
		n.sets[e.Key] = e.Sets
		return
	case Sent, Resumed:
		return
	case Refused:
		if e.Destinations == 0 {
			return
		}
	}
	p := n.proxies[e.Proxy.Name]
	if p == nil {
		p = &naiveProxy{types: map[envoy.Type]*naiveType{}}
		n.proxies[e.Proxy.Name] = p
	}
	p.Proxy = e.Proxy
	switch e.Kind {
	case Connected:
		p.connected = e.At
		p.drop(func(t envoy.Type) bool { return t != envoy.OnDemandType })
	case Disconnected:
		ads := e.Type != envoy.OnDemandType
		p.drop(func(t envoy.Type) bool { return (t != envoy.OnDemandType) == ads })
		if ads {
			p.connected = time.Time{}
		} else {
			p.destinations, p.refused = 0, ""
		}
	case Demanded:
		p.destinations = e.Destinations
	case Refused:
		p.refused = e.Message
	case Acknowledged:
		t := p.at(e.Type)
		*t = naiveType{e.Version, e.Resources, e.Held, map[string]Rejection{}}
		for _, r := range e.Rejections {
			t.rejected[r.Name] = r
		}
	case Rejected:
		p.at(e.Resource.Type).rejected[e.Resource.Name] = e.Resource
	}
	if p.connected.IsZero() && len(p.types) == 0 && p.destinations == 0 && p.refused == "" {
		delete(n.proxies, e.Proxy.Name)
	}
}

func (p *naiveProxy) drop(which func(envoy.Type) bool) {
	maps.DeleteFunc(p.types, func(t envoy.Type, _ *naiveType) bool { return which(t) })
}

func (p *naiveProxy) at(t envoy.Type) *naiveType {
	if p.types[t] == nil {
		p.types[t] = &naiveType{rejected: map[string]Rejection{}}
	}
	return p.types[t]
}

func (n *naive) states() []ProxyState {
	out := []ProxyState{}
	for _, name := range slices.Sorted(maps.Keys(n.proxies)) {
		p := n.proxies[name]
		if p.connected.IsZero() {
			continue
		}
		sets := n.sets[p.Key]
		s := ProxyState{
			Proxy: p.Proxy, Connected: p.connected, Destinations: p.destinations, Refused: p.refused, Synced: len(sets) > 0,
		}
		published := map[envoy.Type]string{}
		for _, set := range sets {
			published[set.Type] = set.Version
			if everyone := set.Type == envoy.ListenerType || set.Type == envoy.ClusterType; everyone && set.Resources > 0 && p.types[set.Type] == nil {
				s.Synced = false
			}
		}
		for _, typ := range slices.Sorted(maps.Keys(p.types)) {
			t := p.types[typ]
			state := TypeState{Type: typ, Resources: t.resources, Published: published[typ], Acknowledged: t.version}
			for _, name := range slices.Sorted(maps.Keys(t.rejected)) {
				state.Rejected = append(state.Rejected, t.rejected[name])
			}
			s.Synced = s.Synced && state.Published == state.Acknowledged && len(state.Rejected) == 0
			s.Types = append(s.Types, state)
		}
		out = append(out, s)
	}
	return out
}

func (n *naive) progress(concerned func(scope.Key) []Resource, generation int64) Progress {
	var out Progress
	for _, name := range slices.Sorted(maps.Keys(n.proxies)) {
		p := n.proxies[name]
		if p.connected.IsZero() {
			continue
		}
		var any, behind, refused bool
		for _, r := range concerned(p.Key) {
			held, subscribes := p.holds(r)
			if !subscribes {
				continue
			}
			any = true
			behind = behind || held != r.Version || r.Generation < generation
			refused = refused || r.Refused != ""
			if r.Refused != "" && !slices.Contains(out.Messages, r.Refused) && len(out.Messages) < maxMessages {
				out.Messages = append(out.Messages, r.Refused)
			}
		}
		if !any {
			continue
		}
		out.Total++
		if refused {
			out.Rejected++
		} else if !behind {
			out.Acknowledged++
		}
		if (refused || behind) && len(out.Laggards) < MaxLaggards {
			out.Laggards = append(out.Laggards, name)
		}
	}
	return out
}

func (p *naiveProxy) holds(r Resource) (string, bool) {
	everyone := p.types[envoy.ListenerType] == nil || slices.Contains([]envoy.Type{envoy.ListenerType, envoy.ClusterType, envoy.SecretType}, r.Type)
	if t := p.types[r.Type]; t != nil && t.held != nil {
		v, ok := t.held.Version(r.Name)
		return v, ok || everyone
	}
	return "", everyone
}

// chance makes events and resources from a small world, so that they meet.
type chance struct{ *rand.Rand }

func oneOf[T any](c chance, of ...T) T { return of[c.IntN(len(of))] }

func (c chance) key() scope.Key {
	return scope.Key{Namespace: "shop", ServiceAccount: oneOf(c, "a", "b"), Labels: oneOf(c, "", "app=a")}
}

func (c chance) proxy() Proxy {
	name := fmt.Sprintf("p%02d", c.IntN(25))
	return Proxy{
		Name: "shop/" + name, Kind: oneOf(c, "sidecar", "gateway"), Identity: oneOf(c, "x", "y"), Key: c.key(),
		CertificateExpires: time.Unix(c.Int64N(3), 0),
	}
}

func (c chance) resource() Resource {
	return Resource{
		Type: oneOf(c, types[:]...), Name: oneOf(c, "r", "s"), Version: oneOf(c, "1", "2"), Generation: c.Int64N(3),
		Refused: oneOf(c, "", "", "", "bad", "worse", "u", "v", "w", "x"),
	}
}

func (c chance) rejection() Rejection {
	return Rejection{Type: oneOf(c, types[:]...), Name: oneOf(c, "r", "s"), Version: oneOf(c, "1", "2"), Message: "no"}
}

// some are sorted by name or type, each once.
func some[T any](c chance, of func() T, by func(T) string) []T {
	seen := map[string]T{}
	for range c.IntN(4) {
		v := of()
		seen[by(v)] = v
	}
	var out []T
	for _, k := range slices.Sorted(maps.Keys(seen)) {
		out = append(out, seen[k])
	}
	return out
}

func (c chance) event() Event {
	e := Event{
		Kind: oneOf(c, Connected, Connected, Acknowledged, Acknowledged, Acknowledged, Disconnected, Rekeyed, Published, Rejected, Demanded, Sent, Resumed, Refused),
		At:   time.Unix(1+c.Int64N(3), 0), Proxy: c.proxy(),
	}
	switch e.Kind {
	case Published:
		e.Key = c.key()
		e.Sets = some(c, func() Set { return Set{Type: oneOf(c, types[:]...), Version: oneOf(c, "1", "2"), Resources: c.IntN(2)} },
			func(s Set) string { return string(s.Type) })
	case Disconnected:
		e.Type = oneOf(c, "", "", envoy.OnDemandType)
	case Acknowledged:
		e.Type, e.Version, e.Resources = oneOf(c, types[:]...), oneOf(c, "1", "2"), c.IntN(3)
		if c.IntN(5) > 0 {
			e.Held = one(oneOf(c, "1", "2"))
		}
		e.Rejections = oneOf(c, nil, some(c, c.rejection, func(r Rejection) string { return r.Name }))
	case Rejected:
		e.Resource = c.rejection()
	case Demanded, Refused:
		e.Destinations, e.Message = c.IntN(2), "too many"
	}
	return e
}

// check compares a Ledger with what the naive one said.
func check(t *testing.T, l Ledger, want said) {
	t.Helper()
	if got := l.Proxies(); !reflect.DeepEqual(got, want.states) {
		t.Fatalf("proxies:\n%+v, want\n%+v", got, want.states)
	}
	synced := !slices.ContainsFunc(want.states, func(s ProxyState) bool { return !s.Synced })
	if l.Synced() != synced || l.Len() != len(want.states) {
		t.Fatalf("synced %v, %d of %+v", l.Synced(), l.Len(), want.states)
	}
	keys := map[scope.Key]bool{}
	for _, s := range want.states {
		keys[s.Key] = true
	}
	asked := map[scope.Key]bool{}
	got := ProgressOf(l, func(k scope.Key) []Resource {
		if asked[k] {
			t.Errorf("%v is asked for twice", k)
		}
		asked[k] = true
		return want.concerned[k]
	}, want.generation)
	if !reflect.DeepEqual(asked, keys) || len(l.Keys()) != len(keys) {
		t.Fatalf("asked for %v, has %v, want %v", asked, l.Keys(), keys)
	}
	if !reflect.DeepEqual(got, want.progress) {
		t.Fatalf("progress:\n%+v, want\n%+v\nof %+v", got, want.progress, want.states)
	}
}

type said struct {
	states     []ProxyState
	concerned  map[scope.Key][]Resource
	generation int64
	progress   Progress
}

func (n *naive) say(c chance) said {
	s := said{states: n.states(), concerned: map[scope.Key][]Resource{}, generation: c.Int64N(3)}
	for range 4 {
		s.concerned[c.key()] = some(c, c.resource, func(r Resource) string { return string(r.Type) + r.Name })
	}
	s.progress = n.progress(func(k scope.Key) []Resource { return s.concerned[k] }, s.generation)
	return s
}

// TestLedgerIsTheNaiveOne: folded one by one, or many at once by a Book that is read now and
// then, any events give the same; and what was given out stays as it was.
func TestLedgerIsTheNaiveOne(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			c := chance{rand.New(rand.NewPCG(seed, 0))}
			n := naive{map[string]*naiveProxy{}, map[scope.Key][]Set{}}
			var folded Ledger
			book := NewBook()
			type given struct {
				ledger Ledger
				said   said
			}
			var out []given
			for range 400 {
				e := c.event()
				n.fold(e)
				folded = Fold(folded, e)
				book.Record(e)
				if book.Len() != folded.Len() {
					t.Fatalf("%d, %d", book.Len(), folded.Len())
				}
				if c.IntN(20) > 0 {
					continue
				}
				s := n.say(c)
				check(t, folded, s)
				out = append(out, given{folded, s}, given{book.Ledger(), s})
			}
			for _, g := range out {
				check(t, g.ledger, g.said)
			}
		})
	}
}
