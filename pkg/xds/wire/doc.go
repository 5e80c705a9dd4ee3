// Package wire carries gRPC's long streams over HTTP/2 without a goroutine for a
// connection, for a server that holds thousands of streams which are silent
// most of the time.
//
//	Handler.Receive <-- conn (reads frames) <--+-- poller
//	                                           +-- TLS -- socket
//	Stream.Send ------> conn (writes frames) --+
//
// grpc-go keeps a reader, a writer, a keepalive and a handler for each stream:
// five goroutines and 42 KB of stacks for an Envoy of two streams, and each
// message is handed over twice. Here a poller for each processor reads what has
// come on its share of the connections (epoll(7)), some of them at a turn, and Go
// looks at everything else in between: where a goroutine each waits for its
// connection, a thousand answers that come together are a thousand goroutines
// that can run, and as long as one can Go does not ask the network for more. Who
// sends also encrypts and writes, and never waits: what the kernel does not take is
// kept by the socket, and the poller sends it when the kernel takes more. The
// frames are those of golang.org/x/net/http2; this package has the rules of a
// connection (RFC 9113) and of gRPC over it, as much as a server of bidirectional
// streams needs.
//
// A connection whose first stream is another method's is handed over to a
// grpc.Server (Server.Others), with the TLS handshake done and all that was read.
package wire
