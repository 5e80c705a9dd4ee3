package server

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	clusterservicev3 "github.com/envoyproxy/go-control-plane/envoy/service/cluster/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/meshd-io/meshd/pkg/authn"
	"github.com/meshd-io/meshd/pkg/identity"
	"github.com/meshd-io/meshd/pkg/xds/acks"
	"github.com/meshd-io/meshd/pkg/xds/cache"
	"github.com/meshd-io/meshd/pkg/xds/envoy"
	"github.com/meshd-io/meshd/pkg/xds/scope"
	"github.com/meshd-io/meshd/pkg/xds/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// wait bounds what a test waits for: far beyond what anything takes.
const wait = 20 * time.Second

// fixture is a Server on a wire, with a mesh of one's own.
type fixture struct {
	*Server
	cache *cache.Cache
	book  *acks.Book
	// changed has a value after an event.
	changed chan struct{}
	address string
	conn    *grpc.ClientConn
	asked   chan ask

	mu      sync.Mutex
	keys    map[string]scope.Key // by node id
	refused []string
	peer    *authn.Peer
}

type ask struct {
	key       scope.Key
	addresses []netip.AddrPort
}

func (f *fixture) KeyFor(n scope.Node) (scope.Key, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	k, ok := f.keys[n.ID]
	if !ok {
		return scope.Key{}, scope.ErrUnknownPod
	}
	return k, nil
}

func (f *fixture) Demand(k scope.Key, a []netip.AddrPort, _ bool) {
	if len(a) > 0 {
		f.asked <- ask{k, a}
	}
}

func (f *fixture) Record(e acks.Event) {
	if e.Kind == acks.Refused {
		f.mu.Lock()
		f.refused = append(f.refused, e.Message)
		f.mu.Unlock()
	}
	f.book.Record(e)
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

func (f *fixture) authenticate(*wire.Request) (authn.Peer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.peer == nil {
		return authn.Peer{}, status.Error(codes.Unauthenticated, "a certificate is needed")
	}
	return *f.peer, nil
}

func accountsKey() scope.Key { return scope.Key{Namespace: "shop", ServiceAccount: "accounts"} }

func newFixture(t *testing.T, limits Limits) *fixture {
	t.Helper()
	id, err := identity.New("cluster.local", "shop", "accounts")
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{
		cache: cache.New(), book: acks.NewBook(), changed: make(chan struct{}, 1), asked: make(chan ask, 100),
		keys: map[string]scope.Key{"sidecar~shop/accounts-1": accountsKey()},
		peer: &authn.Peer{Identity: id, NotAfter: time.Unix(2_000_000_000, 0)},
	}
	f.Server = New(Config{Cache: f.cache, Keyer: f, Demander: f, Recorder: f, Limits: limits, Grace: time.Hour})
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.address = lis.Addr().String()
	streams := wire.New(wire.Config{Streams: f.Streams(f.authenticate)})
	calls := grpc.NewServer(grpc.Creds(wire.Credentials()))
	go func() { _ = streams.Serve(lis) }()
	go func() { _ = calls.Serve(streams.Others()) }()
	f.conn = f.dial(t)
	t.Cleanup(func() {
		streams.Close()
		calls.Stop()
		f.Close()
	})
	return f
}

// dial is another connection.
func (f *fixture) dial(t *testing.T) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+f.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// client is one stream of a proxy.
type client struct {
	t      *testing.T
	stream grpc.BidiStreamingClient[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse]
	node   *corev3.Node
}

func (f *fixture) ads(t *testing.T) *client {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	t.Cleanup(cancel)
	s, err := discoveryv3.NewAggregatedDiscoveryServiceClient(f.conn).DeltaAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return &client{t: t, stream: s, node: &corev3.Node{Id: "sidecar~shop/accounts-1", Cluster: "shop/accounts"}}
}

func (f *fixture) gate(t *testing.T) *client {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	t.Cleanup(cancel)
	s, err := clusterservicev3.NewClusterDiscoveryServiceClient(f.conn).DeltaClusters(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return &client{t: t, stream: s, node: &corev3.Node{Id: "sidecar~shop/accounts-1", Cluster: "shop/accounts"}}
}

func (c *client) send(r *discoveryv3.DeltaDiscoveryRequest) {
	c.t.Helper()
	r.Node, c.node = c.node, nil
	if err := c.stream.Send(r); err != nil && !errors.Is(err, io.EOF) { // then Recv has the status
		c.t.Fatal(err)
	}
}

func (c *client) ask(t envoy.Type, names ...string) {
	c.t.Helper()
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: string(t), ResourceNamesSubscribe: names})
}

// expect receives a response with exactly these resources ("-name" is a removed one) and acknowledges it.
func (c *client) expect(t envoy.Type, names ...string) *discoveryv3.DeltaDiscoveryResponse {
	c.t.Helper()
	r, err := c.stream.Recv()
	if err != nil {
		c.t.Fatal(err)
	}
	var got []string
	for _, res := range r.GetResources() {
		got = append(got, res.GetName())
		if string(t) != res.GetResource().GetTypeUrl() {
			c.t.Errorf("resource %s is a %s", res.GetName(), res.GetResource().GetTypeUrl())
		}
	}
	for _, name := range r.GetRemovedResources() {
		got = append(got, "-"+name)
	}
	if r.GetTypeUrl() != string(t) || !slices.Equal(got, names) {
		c.t.Fatalf("got %s of %s, want %s of %s", got, r.GetTypeUrl(), names, t)
	}
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: string(t), ResponseNonce: r.GetNonce()})
	return r
}

func (c *client) refusedWith(want codes.Code) {
	c.t.Helper()
	if _, err := c.stream.Recv(); status.Code(err) != want {
		c.t.Errorf("the stream ended with %v, want %s", err, want)
	}
}

func TestAsksAndAnswers(t *testing.T) {
	f := newFixture(t, Limits{})
	c := f.ads(t)
	c.ask(envoy.ClusterType)
	f.cache.Publish(accountsKey(), shop())
	c.expect(envoy.ClusterType, "out|shop/a|80", "out|shop/b|80")
	c.ask(envoy.EndpointType, "out|shop/a|80", "out|shop/b|80")
	c.expect(envoy.EndpointType, "out|shop/a|80", "out|shop/b|80")
	c.ask(envoy.ListenerType)
	c.expect(envoy.ListenerType, "out")

	g := f.gate(t)
	g.ask(envoy.ClusterType, "dst|10.96.0.1:80")
	got := <-f.asked
	if got.key != accountsKey() || len(got.addresses) != 1 || got.addresses[0].String() != "10.96.0.1:80" {
		t.Errorf("demanded %v", got)
	}
	rs := shop()
	rs[envoy.ScopedRouteType] = []envoy.Resource{scopeOf("10.96.0.1:80", "out|shop/a|80")}
	rs[envoy.OnDemandType] = []envoy.Resource{gateOf("dst|10.96.0.1:80",
		envoy.Ref{Type: envoy.ClusterType, Name: "out|shop/a|80"}, envoy.Ref{Type: envoy.ScopedRouteType, Name: "10.96.0.1:80"})}
	f.cache.Publish(accountsKey(), rs)
	c.ask(envoy.ScopedRouteType)
	c.expect(envoy.ScopedRouteType, "10.96.0.1:80")
	g.expect(envoy.ClusterType, "dst|10.96.0.1:80")
}
