// Package wire carries gRPC's long streams over HTTP/2 with one goroutine a
// connection, for a server that holds thousands of streams which are silent
// most of the time.
//
//	Handler.Receive <-- conn (reads frames) <--+
//	                                           +-- TLS -- socket
//	Stream.Send ------> conn (writes frames) --+
//
// grpc-go keeps a reader, a writer, a keepalive and a handler for each stream:
// five goroutines and 42 KB of stacks for an Envoy of two streams, and each
// message is handed over twice. Here who sends also encrypts and writes, and
// never waits: what the kernel does not take is kept by the socket, and a
// goroutine that lives only as long sends it. The frames are those of
// golang.org/x/net/http2; this package has the rules of a connection (RFC 9113)
// and of gRPC over it, as much as a server of bidirectional streams needs.
//
// A connection whose first stream is another method's is handed over to a
// grpc.Server (Server.Others), with the TLS handshake done and all that was read.
package wire
