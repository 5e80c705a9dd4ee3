package main

import (
	"context"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	clusterservicev3 "github.com/envoyproxy/go-control-plane/envoy/service/cluster/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/meshd-io/meshd/pkg/xds/envoy"
)

// arrival is an assignment that a client has received.
type arrival struct {
	client    int
	cluster   string
	endpoints int
	at        time.Time
	bytes     int // of the whole response
}

// subscriber subscribes, asks and acknowledges as an Envoy does, and applies nothing.
type subscriber struct {
	number   int
	node     *corev3.Node
	conn     *grpc.ClientConn
	arrivals chan<- arrival
	answered atomic.Int64 // destinations that were asked for and are there
	assigned atomic.Int64 // assignments received
	err      atomic.Pointer[error]
}

func newSubscriber(number int, conn *grpc.ClientConn, arrivals chan<- arrival) *subscriber {
	return &subscriber{number: number, conn: conn, arrivals: arrivals, node: nodeOf(number, account(0))}
}

// nodeOf is what a client's proxy says of itself.
func nodeOf(client int, account string) *corev3.Node {
	return &corev3.Node{Id: "sidecar~" + namespace + "/" + clientName(client), Cluster: namespace + "/" + account}
}

type deltaStream interface {
	Send(*discoveryv3.DeltaDiscoveryRequest) error
	Recv() (*discoveryv3.DeltaDiscoveryResponse, error)
}

// start opens both streams; destinations are asked for on demand. They end with ctx.
func (c *subscriber) start(ctx context.Context, destinations []netip.AddrPort) error {
	ads, err := discoveryv3.NewAggregatedDiscoveryServiceClient(c.conn).DeltaAggregatedResources(ctx)
	if err != nil {
		return err
	}
	for i, t := range []envoy.Type{envoy.ClusterType, envoy.ScopedRouteType, envoy.ListenerType} {
		r := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: string(t)}
		if i == 0 {
			r.Node = c.node
		}
		if err := ads.Send(r); err != nil {
			return err
		}
	}
	go c.follow(ads)
	if len(destinations) == 0 {
		return nil
	}
	gate, err := clusterservicev3.NewClusterDiscoveryServiceClient(c.conn).DeltaClusters(ctx)
	if err != nil {
		return err
	}
	r := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: string(envoy.ClusterType), Node: c.node}
	for _, d := range destinations {
		r.ResourceNamesSubscribe = append(r.ResourceNamesSubscribe, envoy.GateCluster(d))
	}
	if err := gate.Send(r); err != nil {
		return err
	}
	go c.count(gate)
	return nil
}

// follow acknowledges everything, and asks for what clusters and scopes name.
func (c *subscriber) follow(s deltaStream) {
	for {
		resp, err := s.Recv()
		if err != nil {
			c.fail(err)
			return
		}
		at := time.Now()
		names, of := c.read(resp, at)
		requests := []*discoveryv3.DeltaDiscoveryRequest{{TypeUrl: resp.GetTypeUrl(), ResponseNonce: resp.GetNonce()}}
		if len(names) > 0 {
			requests = append(requests, &discoveryv3.DeltaDiscoveryRequest{TypeUrl: string(of), ResourceNamesSubscribe: names})
		}
		for _, r := range requests {
			if err := s.Send(r); err != nil {
				c.fail(err)
				return
			}
		}
	}
}

// read gives what a response makes an Envoy ask for.
func (c *subscriber) read(resp *discoveryv3.DeltaDiscoveryResponse, at time.Time) (names []string, of envoy.Type) {
	for _, r := range resp.GetResources() {
		switch envoy.Type(resp.GetTypeUrl()) {
		case envoy.EndpointType:
			var m endpointv3.ClusterLoadAssignment
			if c.decode(r.GetResource(), &m) {
				n := 0
				for _, l := range m.GetEndpoints() {
					n += len(l.GetLbEndpoints())
				}
				c.assigned.Add(1)
				c.arrivals <- arrival{c.number, m.GetClusterName(), n, at, proto.Size(resp)}
			}
		case envoy.ClusterType:
			var m clusterv3.Cluster
			if c.decode(r.GetResource(), &m) && m.GetType() == clusterv3.Cluster_EDS {
				names, of = append(names, m.GetName()), envoy.EndpointType
			}
		case envoy.ScopedRouteType:
			var m routev3.ScopedRouteConfiguration
			if c.decode(r.GetResource(), &m) {
				names, of = append(names, m.GetRouteConfigurationName()), envoy.RouteType
			}
		}
	}
	return names, of
}

func (c *subscriber) decode(from *anypb.Any, m proto.Message) bool {
	if err := from.UnmarshalTo(m); err != nil {
		c.fail(err)
		return false
	}
	return true
}

// count acknowledges the gate's answers.
func (c *subscriber) count(s deltaStream) {
	for {
		resp, err := s.Recv()
		if err == nil {
			c.answered.Add(int64(len(resp.GetResources())))
			err = s.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: resp.GetTypeUrl(), ResponseNonce: resp.GetNonce()})
		}
		if err != nil {
			c.fail(err)
			return
		}
	}
}

func (c *subscriber) fail(err error) {
	err = fmt.Errorf("client %d: %w", c.number, err)
	c.err.CompareAndSwap(nil, &err)
}

func (c *subscriber) failed() error {
	if err := c.err.Load(); err != nil {
		return *err
	}
	return nil
}
