package acks

import (
	"cmp"
	"slices"
	"time"
	"unique"

	"github.com/meshd-io/meshd/pkg/xds/envoy"
)

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

// Proxies are the connected proxies, sorted by name. It is for people: whatever
// asks at each change has Len, Keys and Synced.
func (l Ledger) Proxies() []ProxyState {
	out := make([]ProxyState, 0, l.connected)
	for _, n := range l.proxies.All() {
		if n.live() {
			out = append(out, n.state(l.published(n)))
		}
	}
	slices.SortFunc(out, func(a, b ProxyState) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// Synced reports whether every connected proxy is.
func (l Ledger) Synced() bool {
	for _, n := range l.proxies.All() {
		if n.live() && !n.synced(l.published(n)) {
			return false
		}
	}
	return true
}

// published is what a proxy should have; nil is nothing at all.
func (l Ledger) published(n *entry) *sets {
	published, _ := l.sets.Get(n.workload.Value().key)
	return published
}

func (n *entry) synced(published *sets) bool {
	if published == nil || n.rejected != nil {
		return false
	}
	for i, h := range n.held {
		set := &published[i]
		switch {
		case h != unique.Handle[holding]{}:
			if h.Value().version != set.Version {
				return false
			}
		case (set.Type == envoy.ListenerType || set.Type == envoy.ClusterType) && set.Resources > 0:
			return false
		}
	}
	return true
}

func (n *entry) state(published *sets) ProxyState {
	w := n.workload.Value()
	s := ProxyState{
		Proxy:     Proxy{Name: n.name, Kind: w.kind, Identity: w.identity, Key: w.key, CertificateExpires: n.certificateExpires},
		Connected: n.connected, Destinations: n.destinations, Refused: n.refused, Synced: n.synced(published),
	}
	for i, h := range n.held {
		if h == (unique.Handle[holding]{}) {
			continue
		}
		t := TypeState{Type: types[i], Resources: h.Value().resources, Acknowledged: h.Value().version, Rejected: n.rejections(i)}
		if published != nil {
			t.Published = published[i].Version
		}
		s.Types = append(s.Types, t)
	}
	return s
}
