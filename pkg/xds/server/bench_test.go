package server

import (
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"sync"
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/meshd-io/meshd/pkg/identity"
	"github.com/meshd-io/meshd/pkg/xds/acks"
	"github.com/meshd-io/meshd/pkg/xds/cache"
	"github.com/meshd-io/meshd/pkg/xds/envoy"
	"github.com/meshd-io/meshd/pkg/xds/scope"
)

// obedient is a client without a network: it acknowledges everything at once.
type obedient struct {
	requests chan *discoveryv3.DeltaDiscoveryRequest
}

func (o obedient) Recv() (*discoveryv3.DeltaDiscoveryRequest, error) {
	r, ok := <-o.requests
	if !ok {
		return nil, io.EOF
	}
	return r, nil
}

func (o obedient) Send(m message) error {
	o.requests <- &discoveryv3.DeltaDiscoveryRequest{TypeUrl: url(m.items[0].Type), ResponseNonce: m.nonce}
	return nil
}

// terse is obedient, with acknowledgements as they are on the wire.
type terse struct{ said chan []byte }

func (t terse) Send(m message) error {
	answer := make([]byte, 0, 128)
	answer = protowire.AppendTag(answer, fieldRequestTypeURL, protowire.BytesType)
	answer = protowire.AppendString(answer, url(m.items[0].Type))
	answer = protowire.AppendTag(answer, fieldResponseNonce, protowire.BytesType)
	t.said <- protowire.AppendString(answer, m.nonce)
	return nil
}

// talker is a transport whose client has something to say.
type talker interface {
	transport
	Recv() (*discoveryv3.DeltaDiscoveryRequest, error)
}

// drive does with a stream what its connection does.
func drive(s *Server, st *stream, first *discoveryv3.DeltaDiscoveryRequest, recv func() (*discoveryv3.DeltaDiscoveryRequest, error)) error {
	s.open(st)
	defer st.close()
	for r := first; ; {
		if err := st.receive(requestOf(r)); err != nil {
			return err
		}
		var err error
		if r, err = recv(); err != nil {
			return err
		}
	}
}

// crowd counts what proxies have acknowledged of the assignments.
type crowd struct {
	*acks.Book
	held sync.WaitGroup
}

func (c *crowd) Record(e acks.Event) {
	c.Book.Record(e)
	if e.Kind == acks.Acknowledged && e.Type == envoy.EndpointType {
		c.held.Done()
	}
}

func (c *crowd) KeyFor(scope.Node) (scope.Key, error)     { return accountsKey(), nil }
func (c *crowd) Demand(scope.Key, []netip.AddrPort, bool) {}

// What a change costs of the server's own work, per proxy: no gRPC, no TLS, no kernel.
func BenchmarkChange(b *testing.B) {
	const services = 20
	for _, proxies := range []int{100, 1000} {
		b.Run(fmt.Sprint(proxies), func(b *testing.B) {
			c := &crowd{Book: acks.NewBook()}
			rs := envoy.Resources{envoy.ListenerType: {listenerOf("out", "one")}}
			var clusters, gates []string
			for i := range services {
				name, gate := fmt.Sprintf("out|shop/s%d|80", i), fmt.Sprintf("dst|10.96.0.%d:80", i)
				clusters, gates = append(clusters, name), append(gates, gate)
				rs[envoy.ClusterType] = append(rs[envoy.ClusterType], clusterOf(name, 1))
				rs[envoy.EndpointType] = append(rs[envoy.EndpointType], endpointsOf(name, 1))
				rs[envoy.OnDemandType] = append(rs[envoy.OnDemandType], gateOf(gate, envoy.Ref{Type: envoy.ClusterType, Name: name}))
			}
			store := cache.New()
			store.Publish(accountsKey(), rs)
			s := New(Config{Cache: store, Keyer: c, Demander: c, Recorder: c, Log: slog.New(slog.DiscardHandler)})
			var streams sync.WaitGroup
			id, err := identity.New("mesh.local", "shop", "accounts")
			if err != nil {
				b.Fatal(err)
			}
			var open []terse
			start := func(node string, onDemand bool, first *discoveryv3.DeltaDiscoveryRequest, more ...*discoveryv3.DeltaDiscoveryRequest) {
				t := terse{make(chan []byte, 16)}
				open = append(open, t)
				st := newStream(t, scope.Node{ID: node, Identity: id}, onDemand, acks.Proxy{Name: node, Kind: "sidecar", Key: accountsKey()})
				streams.Go(func() {
					s.open(st)
					defer st.close()
					for _, r := range append([]*discoveryv3.DeltaDiscoveryRequest{first}, more...) {
						_ = st.receive(requestOf(r))
					}
					for said := range t.said {
						r, _ := decode(said, s.limits)
						_ = st.receive(&r)
					}
				})
			}
			c.held.Add(proxies)
			for i := range proxies {
				node := fmt.Sprintf("shop/accounts-%d", i)
				start(node, false, &discoveryv3.DeltaDiscoveryRequest{TypeUrl: string(envoy.ClusterType)},
					&discoveryv3.DeltaDiscoveryRequest{TypeUrl: string(envoy.EndpointType), ResourceNamesSubscribe: clusters},
					&discoveryv3.DeltaDiscoveryRequest{TypeUrl: string(envoy.ListenerType)})
				start(node, true, &discoveryv3.DeltaDiscoveryRequest{TypeUrl: string(envoy.ClusterType), ResourceNamesSubscribe: gates})
			}
			c.held.Wait()
			port := uint32(1)
			b.ReportAllocs()
			for b.Loop() {
				port = port%60000 + 1
				rs[envoy.EndpointType][7] = endpointsOf(clusters[7], port)
				c.held.Add(proxies)
				store.Publish(accountsKey(), rs)
				c.held.Wait()
			}
			b.StopTimer()
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*proxies), "ns/proxy")
			for _, o := range open {
				close(o.said)
			}
			streams.Wait()
			s.Close()
		})
	}
}
