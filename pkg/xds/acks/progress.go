package acks

import (
	"cmp"
	"slices"
	"time"

	"github.com/meshd-io/meshd/pkg/xds/envoy"
	"github.com/meshd-io/meshd/pkg/xds/scope"
)

// MaxLaggards bounds Progress.Laggards.
const MaxLaggards = 10

// maxMessages bounds Progress.Messages.
const maxMessages = 5

// Resource is a published resource that an object is an origin of (cache.Concerned).
type Resource struct {
	Type    envoy.Type
	Name    string
	Version string
	// Generation of the object that it was made from.
	Generation int64
	// Refused are an Envoy's words for a newer version, which was put aside; "" is none.
	Refused string
}

// Progress is how far the live proxies are that an object concerns.
type Progress struct {
	Total, Acknowledged, Rejected int
	// Laggards are the first proxies that have not acknowledged, by name.
	Laggards []string
	// Messages are Envoy's own words for what was rejected, distinct.
	Messages []string
}

// ProgressOf folds the Ledger for one object. A proxy is concerned when its key
// has a resource made from the object to which the proxy subscribes (of the
// types that are asked for by name), and has acknowledged the object when it
// holds all of those at their current versions, made from the given generation
// or a later one. Equal bytes have equal versions, so a generation that changes
// no byte is acknowledged at once.
func ProgressOf(l Ledger, concerned func(scope.Key) []Resource, generation int64) Progress {
	var p Progress
	byKey := map[scope.Key][]Resource{}
	for _, e := range l.proxies {
		if e.connected.IsZero() {
			continue
		}
		rs, ok := byKey[e.proxy.Key]
		if !ok {
			rs = concerned(e.proxy.Key)
			byKey[e.proxy.Key] = rs
		}
		p.add(e, rs, generation)
	}
	return p
}

func (p *Progress) add(e *entry, rs []Resource, generation int64) {
	var any, behind, refused bool
	for _, r := range rs {
		held, subscribes := e.holds(r)
		if !subscribes {
			continue
		}
		any = true
		if r.Refused != "" {
			refused = true
			p.say(r.Refused)
		}
		if held != r.Version || r.Generation < generation {
			behind = true
		}
	}
	switch {
	case !any:
		return
	case refused:
		p.Rejected++
	case !behind:
		p.Acknowledged++
	}
	p.Total++
	if (refused || behind) && len(p.Laggards) < MaxLaggards {
		p.Laggards = append(p.Laggards, e.proxy.Name)
	}
}

func (p *Progress) say(message string) {
	if len(p.Messages) < maxMessages && !slices.Contains(p.Messages, message) {
		p.Messages = append(p.Messages, message)
	}
}

// holds is the version of a resource that the proxy has acknowledged, and
// whether it wants it. Listeners and clusters are for everyone, asked for or not
// yet; so are secrets, which a proxy asks for only once it has what names them.
// Listeners come last: before them it is not known yet what else a proxy that
// has just connected wants, or holds from before.
func (e *entry) holds(r Resource) (version string, subscribes bool) {
	starting := !slices.ContainsFunc(e.types, func(t typeEntry) bool { return t.typ == envoy.ListenerType })
	everyone := starting || r.Type == envoy.ListenerType || r.Type == envoy.ClusterType || r.Type == envoy.SecretType
	for _, t := range e.types {
		if t.typ == r.Type && t.held != nil {
			v, ok := t.held.Version(r.Name)
			return v, ok || everyone
		}
	}
	return "", everyone
}

// ProxyState is one connected proxy, for the console.
type ProxyState struct {
	Proxy
	Connected time.Time
	// Synced: everything that was published for it is acknowledged, and nothing refused.
	Synced       bool
	Destinations int
	// Refused is why it has been refused destinations; "" where it has not.
	Refused string
	Types   []TypeState // sorted by type; what the proxy subscribes to
}

// TypeState is what a proxy holds of one type.
type TypeState struct {
	Type envoy.Type
	// Resources that it subscribes to, in the set that it has acknowledged.
	Resources int
	// Published is the version of the newest set; Acknowledged the newest that the proxy holds.
	Published, Acknowledged string
	Rejected                []Rejection
}

// Proxies are the connected proxies, sorted by name.
func (l Ledger) Proxies() []ProxyState {
	out := make([]ProxyState, 0, len(l.proxies))
	for _, e := range l.proxies {
		if !e.connected.IsZero() {
			out = append(out, e.state(l.sets[e.proxy.Key]))
		}
	}
	return out
}

func (e *entry) state(sets []Set) ProxyState {
	s := ProxyState{Proxy: e.proxy, Connected: e.connected, Destinations: e.destinations, Refused: e.refused, Synced: len(sets) > 0}
	for _, t := range e.types {
		s.Types = append(s.Types, TypeState{Type: t.typ, Resources: t.resources, Acknowledged: t.acknowledged, Rejected: t.rejected})
	}
	for _, set := range sets {
		i, ok := slices.BinarySearchFunc(s.Types, set.Type, func(t TypeState, u envoy.Type) int { return cmp.Compare(t.Type, u) })
		if ok {
			s.Types[i].Published = set.Version
		} else if (set.Type == envoy.ListenerType || set.Type == envoy.ClusterType) && set.Resources > 0 {
			s.Synced = false
		}
	}
	for _, t := range s.Types {
		if t.Published != t.Acknowledged || len(t.Rejected) > 0 {
			s.Synced = false
		}
	}
	return s
}
