package server

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/meshd-io/meshd/pkg/xds/acks"
	"github.com/meshd-io/meshd/pkg/xds/cache"
	"github.com/meshd-io/meshd/pkg/xds/envoy"
)

// script runs a session by lines of text, one step each:
//
//	publish cluster a=1 b=2 endpoint a=1    the whole of a new translation, with versions
//	ask TYPE NAME...                        subscribe; the first ask without names is a wildcard
//	hold TYPE NAME=VERSION... [ask NAME...] the first request of a stream that was there before
//	drop TYPE NAME...                       unsubscribe
//	ack TYPE, nack TYPE WORDS               answer the response in flight
//	stale TYPE                              acknowledge a nonce that is not the newest
//	settle                                  removals may go out
//	reset                                   a new stream
//	want TYPE NAME... [; TYPE NAME...]      exactly what is sent now; "want nothing"
//	refused TYPE NAME                       the client's refusal was recorded
//	held TYPE                               everything of the type was told as acknowledged
type script struct {
	t        *testing.T
	cache    *cache.Cache
	limits   Limits
	onDemand bool
	after    func(envoy.Ref, string) bool

	session *session
	nonces  map[envoy.Type]string
	asked   []string
	refused []acks.Rejection
	held    map[envoy.Type]string
}

func newScript(t *testing.T, onDemand bool) *script {
	c := &script{t: t, cache: cache.New(), onDemand: onDemand, after: func(envoy.Ref, string) bool { return true }}
	c.reset()
	return c
}

func (c *script) reset() {
	c.session = newSession(c.limits.withDefaults(), &shared{}, c.onDemand)
	c.session.after = func(r envoy.Ref, v string) bool { return c.after(r, v) }
	c.session.asks = func(string) bool { return true }
	c.nonces = map[envoy.Type]string{}
	c.held = map[envoy.Type]string{}
}

func (c *script) run(lines string) {
	c.t.Helper()
	for _, line := range strings.Split(strings.TrimSpace(lines), "\n") {
		c.step(strings.Fields(line))
	}
}

func (c *script) step(f []string) {
	c.t.Helper()
	switch f[0] {
	case "publish":
		c.cache.Publish(accountsKey(), resources(f[1:]))
	case "settle":
		c.session.settle(true)
	case "reset":
		c.reset()
	case "want":
		want := strings.Join(f[1:], " ")
		if got := c.drain(); got != want {
			c.t.Fatalf("%v: got %q", f, got)
		}
	case "refused":
		if !slices.ContainsFunc(c.refused, func(r acks.Rejection) bool { return r.Type == typeOf(f[1]) && r.Name == f[2] }) {
			c.t.Fatalf("%v: only %v", f, c.refused)
		}
	case "held":
		if set := c.cache.Snapshot(accountsKey()).Set(typeOf(f[1])); c.held[typeOf(f[1])] != set.Version {
			c.t.Fatalf("%v: not told", f)
		}
	default:
		c.request(f)
	}
}

func (c *script) request(f []string) {
	c.t.Helper()
	t := typeOf(f[1])
	r := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: url(t)}
	switch f[0] {
	case "ask":
		r.ResourceNamesSubscribe = f[2:]
	case "drop":
		r.ResourceNamesUnsubscribe = f[2:]
	case "hold":
		r.InitialResourceVersions = map[string]string{}
		for i, name := range f[2:] {
			if name == "ask" {
				r.ResourceNamesSubscribe = f[3+i:]
				break
			}
			name, version, _ := strings.Cut(name, "=")
			r.InitialResourceVersions[name] = c.version(t, name, version)
		}
	case "ack":
		r.ResponseNonce = c.nonces[t]
	case "nack":
		r.ResponseNonce = c.nonces[t]
		r.ErrorDetail = &status.Status{Code: 13, Message: strings.Join(f[2:], " ")}
	case "stale":
		r.ResponseNonce = "0"
	default:
		c.t.Fatalf("no step %v", f)
	}
	if err := c.session.request(requestOf(r)); err != nil {
		c.t.Fatalf("%v: %v", f, err)
	}
	c.effects()
}

// requestOf is a request as the wire brings it.
func requestOf(said *discoveryv3.DeltaDiscoveryRequest) *request {
	encoded, err := proto.Marshal(said)
	if err != nil {
		panic(err)
	}
	r, err := decode(encoded, Limits{}.withDefaults())
	if err != nil {
		panic(err)
	}
	return &r
}

// version is what a resource's content hashes to.
func (c *script) version(t envoy.Type, name, v string) string {
	other := cache.New()
	rs := envoy.Resources{
		envoy.ClusterType:  {clusterOf("a", 1)},
		envoy.EndpointType: {endpointsOf("a", 1), endpointsOf("b", 1)},
	}
	rs[t] = []envoy.Resource{resource(t, name, v)}
	if t == envoy.ClusterType && name != "a" && name != "b" {
		rs[envoy.EndpointType] = append(rs[envoy.EndpointType], endpointsOf(name, 1))
	}
	other.Publish(accountsKey(), rs)
	it := other.Snapshot(accountsKey()).Set(t).Get(name)
	if it == nil {
		c.t.Fatalf("%s %s does not pass the gate", t, name)
	}
	return it.Version
}

func (c *script) effects() {
	fx := c.session.take()
	c.cache.Accept(accountsKey(), fx.accepted)
	for _, r := range fx.refused {
		c.cache.Reject(accountsKey(), r)
	}
	c.asked = append(c.asked, fx.asked...)
	for _, e := range fx.events {
		switch e.kind {
		case acks.Rejected:
			c.refused = append(c.refused, *e.refused)
		case acks.Acknowledged:
			c.held[e.typ] = e.version
		}
	}
}

// drain is everything that is sent now.
func (c *script) drain() string {
	c.t.Helper()
	var out []string
	for range 1000 {
		c.session.publish(c.cache.Snapshot(accountsKey()))
		m, ok := c.session.next()
		c.effects()
		if !ok {
			if len(out) == 0 {
				return "nothing"
			}
			return strings.Join(out, " ; ")
		}
		var r discoveryv3.DeltaDiscoveryResponse
		if err := proto.Unmarshal(m.encoded(), &r); err != nil {
			c.t.Fatal(err)
		}
		t := envoy.Type(r.GetTypeUrl())
		if c.onDemand {
			t = envoy.OnDemandType
		}
		c.nonces[t] = r.GetNonce()
		words := []string{cache.Short(t)}
		for _, res := range r.GetResources() {
			words = append(words, res.GetName())
		}
		for _, name := range r.GetRemovedResources() {
			words = append(words, "-"+name)
		}
		out = append(out, strings.Join(words, " "))
	}
	c.t.Fatal("the session never stops sending")
	return ""
}

func typeOf(short string) envoy.Type {
	for _, t := range []envoy.Type{envoy.SecretType, envoy.ClusterType, envoy.EndpointType, envoy.ExtensionType,
		envoy.ScopedRouteType, envoy.RouteType, envoy.ListenerType, envoy.OnDemandType} {
		if cache.Short(t) == short {
			return t
		}
	}
	return ""
}

// resources reads "TYPE NAME=VERSION... TYPE ...".
func resources(words []string) envoy.Resources {
	out := envoy.Resources{}
	var t envoy.Type
	for _, w := range words {
		if next := typeOf(w); next != "" {
			t = next
			continue
		}
		name, version, _ := strings.Cut(w, "=")
		out[t] = append(out[t], resource(t, name, version))
	}
	return out
}

func resource(t envoy.Type, name, version string) envoy.Resource {
	n, err := strconv.Atoi(version)
	if err != nil {
		panic(fmt.Sprintf("version of %s: %v", name, err))
	}
	switch t {
	case envoy.ClusterType:
		return clusterOf(name, n)
	case envoy.EndpointType:
		return endpointsOf(name, uint32(n))
	case envoy.ListenerType:
		return listenerOf(name, version)
	case envoy.ScopedRouteType:
		return scopeOf(name, "cluster-"+version)
	case envoy.OnDemandType:
		return gateOf(name, envoy.Ref{Type: envoy.ClusterType, Name: "a"})
	}
	panic("no resource of " + string(t))
}
