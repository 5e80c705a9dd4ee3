package acks

import (
	"cmp"
	"slices"
	"time"
	"unique"

	"github.com/meshd-io/meshd/pkg/xds/envoy"
	"github.com/meshd-io/meshd/pkg/xds/scope"
)

// types is Types.
var types = [...]envoy.Type{
	envoy.OnDemandType, envoy.ClusterType, envoy.ExtensionType, envoy.EndpointType,
	envoy.ListenerType, envoy.RouteType, envoy.ScopedRouteType, envoy.SecretType,
}

// Types are those that proxies acknowledge, sorted.
func Types() []envoy.Type { return slices.Clone(types[:]) }

func indexOf(t envoy.Type) int {
	i := slices.Index(types[:], t)
	if i < 0 {
		panic("acks: the type is not among those that proxies acknowledge: " + string(t))
	}
	return i
}

// entry is one proxy; never changed once it is in a Ledger. What is equal for
// many proxies is shared by them.
type entry struct {
	owner              *owner
	name               string
	workload           unique.Handle[workload]
	certificateExpires time.Time
	connected          time.Time // zero: only its on-demand stream is there
	destinations       int
	refused            string // why it has been refused destinations
	held               holdings
	rejected           *rejections // replaced, never changed; nil is none
}

// workload is what the replicas of one have in common.
type workload struct {
	kind, identity string
	key            scope.Key
}

// holdings are what a proxy has acknowledged, in the order of types; the zero
// handle is nothing yet.
type holdings [len(types)]unique.Handle[holding]

type holding struct {
	version   string
	resources int
	held      Held
}

// recent is the last holding of each type: replicas acknowledge the same, one
// after the other, and to compare is quicker than to look up.
type recent [len(types)]struct {
	holding
	is unique.Handle[holding]
}

func (r *recent) handle(i int, h holding) unique.Handle[holding] {
	if last := &r[i]; last.is == (unique.Handle[holding]{}) || last.holding != h {
		last.holding, last.is = h, unique.Make(h)
	}
	return r[i].is
}

// rejections are sorted by name, in the order of types.
type rejections [len(types)][]Rejection

// clone gives an edit an entry of its own; that of nil is empty.
func (n *entry) clone(name string, o *owner) *entry {
	if n == nil {
		return &entry{owner: o, name: name}
	}
	c := *n
	c.owner = o
	return &c
}

func (n *entry) live() bool { return !n.connected.IsZero() }

// empty: nothing is left that its streams have told.
func (n *entry) empty() bool {
	return !n.live() && n.held == holdings{} && n.destinations == 0 && n.refused == ""
}

func (n *entry) fold(e *Event, r *recent) {
	n.is(&e.Proxy)
	switch e.Kind {
	case Connected:
		// A new ADS stream starts from nothing; the on-demand stream may have come first.
		n.connected = e.At
		n.keep(true)
	case Disconnected:
		if e.Type == envoy.OnDemandType {
			n.keep(false)
			n.destinations, n.refused = 0, ""
			return
		}
		n.connected = time.Time{}
		n.keep(true)
	case Demanded:
		n.destinations = e.Destinations
	case Refused:
		n.refused = e.Message
	case Acknowledged:
		i := indexOf(e.Type)
		n.held[i] = r.handle(i, holding{version: e.Version, resources: e.Resources, held: e.Held})
		n.reject(i, e.Rejections)
	case Rejected:
		i := indexOf(e.Resource.Type)
		if n.held[i] == (unique.Handle[holding]{}) {
			n.held[i] = unique.Make(holding{})
		}
		n.reject(i, with(n.rejections(i), e.Resource))
	}
}

func (n *entry) is(p *Proxy) {
	w := workload{kind: p.Kind, identity: p.Identity, key: p.Key}
	if n.workload == (unique.Handle[workload]{}) || n.workload.Value() != w {
		n.workload = unique.Make(w)
	}
	n.certificateExpires = p.CertificateExpires
}

// keep leaves only what one of the proxy's streams has told.
func (n *entry) keep(onDemand bool) {
	for i, t := range types {
		if (t == envoy.OnDemandType) != onDemand {
			n.held[i] = unique.Handle[holding]{}
			n.reject(i, nil)
		}
	}
}

func (n *entry) rejections(i int) []Rejection {
	if n.rejected == nil {
		return nil
	}
	return n.rejected[i]
}

func (n *entry) reject(i int, rs []Rejection) {
	if len(rs) == 0 && len(n.rejections(i)) == 0 {
		return
	}
	var next rejections
	if n.rejected != nil {
		next = *n.rejected
	}
	next[i] = rs
	n.rejected = nil
	if slices.ContainsFunc(next[:], func(rs []Rejection) bool { return len(rs) > 0 }) {
		n.rejected = &next
	}
}

// with is a list in which a rejection stands in place of a former one of its name.
func with(rs []Rejection, r Rejection) []Rejection {
	rs = slices.Clone(rs)
	i, there := slices.BinarySearchFunc(rs, r.Name, func(r Rejection, name string) int { return cmp.Compare(r.Name, name) })
	if there {
		rs[i] = r
		return rs
	}
	return slices.Insert(rs, i, r)
}
