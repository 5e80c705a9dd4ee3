package agent

import (
	"google.golang.org/grpc"

	"github.com/meshd-io/meshd/pkg/agent/sdspb"
)

// The two streams of Envoy's secret discovery.
type (
	deltaServer = grpc.BidiStreamingServer[sdspb.DeltaDiscoveryRequest, sdspb.DeltaDiscoveryResponse]
	sotwServer  = grpc.BidiStreamingServer[sdspb.DiscoveryRequest, sdspb.DiscoveryResponse]
)

// register offers s under Envoy's name. FetchSecrets (REST and unary) is not offered.
func (s *sds) register(srv *grpc.Server) {
	srv.RegisterService(&grpc.ServiceDesc{
		ServiceName: "envoy.service.secret.v3.SecretDiscoveryService",
		HandlerType: (*any)(nil),
		Streams: []grpc.StreamDesc{
			{StreamName: "DeltaSecrets", ServerStreams: true, ClientStreams: true, Handler: func(_ any, ss grpc.ServerStream) error {
				return s.delta(&grpc.GenericServerStream[sdspb.DeltaDiscoveryRequest, sdspb.DeltaDiscoveryResponse]{ServerStream: ss})
			}},
			{StreamName: "StreamSecrets", ServerStreams: true, ClientStreams: true, Handler: func(_ any, ss grpc.ServerStream) error {
				return s.sotw(&grpc.GenericServerStream[sdspb.DiscoveryRequest, sdspb.DiscoveryResponse]{ServerStream: ss})
			}},
		},
	}, s)
}
