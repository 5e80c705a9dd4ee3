package server

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/meshd-io/meshd/pkg/xds/cache"
	"github.com/meshd-io/meshd/pkg/xds/envoy"
)

// envoyLike does with responses what Envoy was seen to do: it asks for the
// assignments of new clusters, never for those of changed ones, which stay warming
// until an assignment comes; it refuses bad versions and takes what it likes of the rest.
type envoyLike struct {
	*script
	rand    *rand.Rand
	has     map[envoy.Type]map[string]string
	warming map[string]bool
	bad     map[string]bool                      // versions
	replies []*discoveryv3.DeltaDiscoveryRequest // not sent yet
	names   []string                             // of what is served
	served  envoy.Resources
	refused int
	// quiet: the last step had nothing to send, and the client has said nothing since.
	quiet bool
	// leftOut counts steps that no change concerned.
	leftOut int
}

func newEnvoyLike(t *testing.T, seed uint64) *envoyLike {
	e := &envoyLike{script: newScript(t, false), rand: rand.New(rand.NewPCG(seed, 0)), bad: map[string]bool{}, warming: map[string]bool{}}
	e.has = map[envoy.Type]map[string]string{}
	for _, t := range []envoy.Type{envoy.ClusterType, envoy.EndpointType, envoy.ScopedRouteType, envoy.ListenerType} {
		e.has[t] = map[string]string{}
	}
	return e
}

// connect begins a stream, with what is held from the one before.
func (e *envoyLike) connect() {
	e.reset()
	e.quiet = false
	e.session.settle(true)
	e.replies = nil
	for _, t := range []envoy.Type{envoy.ClusterType, envoy.EndpointType, envoy.ScopedRouteType, envoy.ListenerType} {
		r := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: string(t), InitialResourceVersions: maps.Clone(e.has[t])}
		if t == envoy.EndpointType {
			if r.ResourceNamesSubscribe = e.assignments(); len(r.ResourceNamesSubscribe) == 0 {
				continue
			}
		} else {
			r.ResourceNamesSubscribe = []string{wildcard}
		}
		e.say(r)
	}
}

func (e *envoyLike) assignments() []string { return slices.Sorted(maps.Keys(e.has[envoy.ClusterType])) }

func (e *envoyLike) say(r *discoveryv3.DeltaDiscoveryRequest) {
	e.t.Helper()
	e.quiet = false
	if err := e.session.request(requestOf(r)); err != nil {
		e.t.Fatal(err)
	}
	e.effects()
}

// unconcerned reports whether the server would leave out the step to the snapshot (stream.concerned).
func (e *envoyLike) unconcerned(snap *cache.Snapshot) bool {
	return e.quiet && changedLanes(e.session.snap, snap)&^e.session.flights() == 0
}

// receive takes what the session sends now.
func (e *envoyLike) receive() bool {
	e.t.Helper()
	snap := e.cache.Snapshot(accountsKey())
	leftOut := e.unconcerned(snap)
	if leftOut && snap != e.session.snap {
		e.leftOut++
	}
	e.session.publish(snap)
	m, ok := e.session.next()
	e.quiet = !ok
	e.effects()
	if ok {
		if leftOut {
			e.t.Fatalf("a step that would have been left out sends %s", m.typ)
		}
		r := new(discoveryv3.DeltaDiscoveryResponse)
		if err := proto.Unmarshal(m.encoded(), r); err != nil {
			e.t.Fatal(err)
		}
		for _, other := range e.replies {
			if other.GetTypeUrl() == r.GetTypeUrl() {
				e.t.Fatalf("two responses of %s at a time", r.GetTypeUrl())
			}
		}
		e.take(r)
	}
	return ok
}

// answer sends any of the replies that are due.
func (e *envoyLike) answer() {
	i := e.rand.IntN(len(e.replies))
	r := e.replies[i]
	e.replies = slices.Delete(e.replies, i, i+1)
	e.say(r)
}

// take applies a response, in the order of the stream.
func (e *envoyLike) take(r *discoveryv3.DeltaDiscoveryResponse) {
	e.t.Helper()
	t := envoy.Type(r.GetTypeUrl())
	reply := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: r.GetTypeUrl(), ResponseNonce: r.GetNonce()}
	var ask, drop []string
	for _, res := range r.GetResources() {
		if e.bad[res.GetVersion()] {
			reply.ErrorDetail = &status.Status{Code: 13, Message: "bad"}
			continue
		}
		if e.rand.IntN(4) == 0 && slices.ContainsFunc(r.GetResources(), func(r *discoveryv3.Resource) bool { return e.bad[r.GetVersion()] }) {
			continue // dropped beside a bad one
		}
		if _, known := e.has[t][res.GetName()]; t == envoy.ClusterType && !known {
			ask = append(ask, res.GetName())
		}
		if t == envoy.ClusterType && e.has[t][res.GetName()] != res.GetVersion() {
			e.warming[res.GetName()] = true
		}
		if t == envoy.EndpointType {
			delete(e.warming, res.GetName())
		}
		e.has[t][res.GetName()] = res.GetVersion()
	}
	if reply.GetErrorDetail() == nil {
		for _, name := range r.GetRemovedResources() {
			delete(e.has[t], name)
			if t == envoy.ClusterType {
				delete(e.has[envoy.EndpointType], name)
				delete(e.warming, name)
				drop = append(drop, name)
			}
		}
	} else {
		e.refused++
	}
	e.replies = append(e.replies, reply)
	if len(ask)+len(drop) > 0 {
		e.say(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: string(envoy.EndpointType), ResourceNamesSubscribe: ask, ResourceNamesUnsubscribe: drop})
	}
}

// change publishes something else, of all types or of one; some versions are bad for this Envoy.
func (e *envoyLike) change() {
	types := []envoy.Type{envoy.ClusterType, envoy.EndpointType, envoy.ScopedRouteType, envoy.ListenerType}
	if e.names == nil || e.rand.IntN(2) == 0 {
		e.names, e.served = []string{}, envoy.Resources{}
		for i := range 5 {
			if e.rand.IntN(4) > 0 {
				e.names = append(e.names, fmt.Sprintf("c%d", i))
			}
		}
	} else {
		i := e.rand.IntN(len(types))
		types, e.served = types[i:i+1], maps.Clone(e.served)
	}
	for _, t := range types {
		e.served[t] = nil
		for _, name := range e.names {
			e.served[t] = append(e.served[t], e.any(t, name))
		}
	}
	e.cache.Publish(accountsKey(), e.served)
}

// any is one of four versions of a resource.
func (e *envoyLike) any(t envoy.Type, name string) envoy.Resource {
	switch n := e.rand.IntN(4); t {
	case envoy.ClusterType:
		return clusterOf(name, n)
	case envoy.EndpointType:
		return endpointsOf(name, uint32(n))
	case envoy.ScopedRouteType:
		return scopeOf(name, fmt.Sprintf("to-%d", n))
	default:
		return listenerOf(name, fmt.Sprintf("s%d", n))
	}
}

// markBad makes every eighth version, by its hash, one that this Envoy refuses.
func (e *envoyLike) markBad() {
	for t := range e.has {
		for _, it := range e.cache.Snapshot(accountsKey()).Set(t).Items() {
			e.bad[it.Version] = '0' <= it.Version[0] && it.Version[0] <= '7'
		}
	}
}

// settle goes on until everybody is silent.
func (e *envoyLike) settle() {
	e.t.Helper()
	for range 10000 {
		if e.receive() {
			continue
		}
		switch {
		case len(e.replies) > 0:
			e.answer()
		case e.cache.Snapshot(accountsKey()) == e.session.snap: // no refusal has changed it
			return
		}
	}
}

// converged checks that the client has what is served and nothing else.
func (e *envoyLike) converged() {
	e.t.Helper()
	for name := range e.warming { // of a refused assignment that never had a good one: Envoy's own timeout ends that
		if e.cache.Snapshot(accountsKey()).Set(envoy.EndpointType).Withheld(name) {
			delete(e.warming, name)
		}
	}
	if len(e.warming) > 0 {
		e.t.Fatalf("clusters warm for ever: %v", e.warming)
	}
	for t, has := range e.has {
		set := e.cache.Snapshot(accountsKey()).Set(t)
		for _, it := range set.Items() {
			if t == envoy.EndpointType && e.has[envoy.ClusterType][it.Name] == "" {
				continue // not asked for
			}
			if has[it.Name] != it.Version {
				e.t.Fatalf("%s %s: has %q, %q is served", t, it.Name, has[it.Name], it.Version)
			}
		}
		for name := range has {
			if set.Get(name) == nil && !set.Withheld(name) {
				e.t.Fatalf("%s %s was not removed", t, name)
			}
		}
	}
}

// TestConverges walks at random through publications, answers in any order,
// refusals and reconnects: in the end the client has what is served.
func TestConverges(t *testing.T) {
	refused, leftOut, seed := 0, 0, uint64(0)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	})
	for ; seed < 300; seed++ {
		e := newEnvoyLike(t, seed)
		e.change()
		e.connect()
		for range 60 {
			switch n := e.rand.IntN(20); {
			case n < 8:
				e.markBad()
				e.receive()
			case n < 16 && len(e.replies) > 0:
				e.answer()
			case n < 19:
				e.change()
				e.markBad()
			case e.rand.IntN(3) == 0 && len(e.warming) == 0:
				e.connect()
			}
		}
		e.markBad()
		e.settle()
		e.converged()
		refused += e.refused
		leftOut += e.leftOut
	}
	if refused == 0 || leftOut == 0 {
		t.Errorf("%d refused, %d steps left out: the walk is too tame", refused, leftOut)
	}
}
