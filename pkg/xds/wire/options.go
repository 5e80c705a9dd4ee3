package wire

import (
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
)

// OtherOptions are those of the grpc.Server behind Server.Others, but for its
// credentials: it carries short calls of agents and of other replicas.
func OtherOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		// A connection's age is that of its certificate: the next handshake shows the renewed one
		// (grpc adds the jitter). Time finds dead peers.
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionAge: defaultAge, MaxConnectionAgeGrace: defaultGrace,
			Time: 30 * time.Second, Timeout: 10 * time.Second,
		}),
		// Without it grpc allows a ping in 5 min.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
		grpc.MaxConcurrentStreams(maxStreams),
		// Fixed windows switch off the estimator's pings, 40 % of the CPU of a small message.
		grpc.InitialWindowSize(window),
		grpc.InitialConnWindowSize(window),
		// No read buffer per connection: requests are rare and small.
		grpc.ReadBufferSize(0),
		grpc.MaxRecvMsgSize(defaultMaxMessage),
		grpc.ConnectionTimeout(greetTime),
	}
}
