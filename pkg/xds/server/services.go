package server

import (
	clusterservicev3 "github.com/envoyproxy/go-control-plane/envoy/service/cluster/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
)

// ads is the aggregated stream. What is not delta answers Unimplemented.
type ads struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	server *Server
}

// DeltaAggregatedResources implements the xDS service.
func (a ads) DeltaAggregatedResources(ss discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	return a.server.accept(ss, false)
}

// clusters is the gate's on-demand stream.
type clusters struct {
	clusterservicev3.UnimplementedClusterDiscoveryServiceServer
	server *Server
}

// DeltaClusters implements the xDS service.
func (c clusters) DeltaClusters(ss clusterservicev3.ClusterDiscoveryService_DeltaClustersServer) error {
	return c.server.accept(ss, true)
}

// wireStream is a transport over grpc.
type wireStream struct{ grpc.ServerStream }

func (w wireStream) Recv() (*discoveryv3.DeltaDiscoveryRequest, error) {
	r := new(discoveryv3.DeltaDiscoveryRequest)
	return r, w.RecvMsg(r)
}

func (w wireStream) Send(m message) error { return w.SendMsg(m) }

func (s *Server) accept(ss grpc.ServerStream, onDemand bool) error {
	tx := wireStream{ss}
	first, err := tx.Recv()
	if err != nil {
		return err
	}
	node, who, err := s.authenticate(ss.Context(), first.GetNode())
	if err != nil {
		return err
	}
	return s.serve(&stream{tx: tx, node: node, onDemand: onDemand, proxyIs: who}, first)
}
