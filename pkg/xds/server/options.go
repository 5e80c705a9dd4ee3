package server

import (
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // the usual codec
	"google.golang.org/grpc/keepalive"
)

// Transport tunes the connections. A zero field takes its default.
type Transport struct {
	// MaxConnectionAge ends a connection after this time, +-10 %: the next
	// handshake shows the renewed leaf. Default 25 min, for leaves of 1 h.
	MaxConnectionAge time.Duration
	// MaxConnectionAgeGrace is what its streams have to end by themselves; default 10 s.
	MaxConnectionAgeGrace time.Duration
	// MaxRequestBytes of one request; default 4 MiB (a reconnect names everything that is held).
	MaxRequestBytes int
}

// Options are the options of the grpc server that carries the Server. They
// may be shared with other services: messages of those are encoded as usual.
func Options(t Transport) []grpc.ServerOption {
	if t.MaxConnectionAge == 0 {
		t.MaxConnectionAge = 25 * time.Minute
	}
	if t.MaxConnectionAgeGrace == 0 {
		t.MaxConnectionAgeGrace = 10 * time.Second
	}
	if t.MaxRequestBytes == 0 {
		t.MaxRequestBytes = 4 << 20
	}
	const window = 256 << 10
	return []grpc.ServerOption{
		// Whole responses, encoded once, are sent to many streams without a copy.
		grpc.ForceServerCodecV2(codec{encoding.GetCodecV2("proto")}),
		// A reset stream reuses its TLS connection, and with it the old leaf (grpc adds the jitter).
		// Time 30 s finds dead peers: their streams count as live proxies until then.
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionAge: t.MaxConnectionAge, MaxConnectionAgeGrace: t.MaxConnectionAgeGrace,
			Time: 30 * time.Second, Timeout: 10 * time.Second,
		}),
		// Envoy's own keepalive may be as short as 10 s; without it grpc allows 5 min.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
		// An Envoy has two streams and an agent one; the rest is for reconnects that overlap.
		grpc.MaxConcurrentStreams(8),
		// Fixed windows switch off the estimator's pings: 40 % of the CPU of a small push (EXPERIMENTS.md H).
		grpc.InitialWindowSize(window),
		grpc.InitialConnWindowSize(window),
		// No read buffer per connection: requests are rare and small (95 KB less per proxy with the shared codec).
		grpc.ReadBufferSize(0),
		grpc.MaxRecvMsgSize(t.MaxRequestBytes),
		// Slow handshakes do not hold goroutines for grpc's default of 2 min.
		grpc.ConnectionTimeout(20 * time.Second),
	}
}
