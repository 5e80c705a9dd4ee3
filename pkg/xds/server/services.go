package server

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	clusterservicev3 "github.com/envoyproxy/go-control-plane/envoy/service/cluster/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"

	"github.com/meshd-io/meshd/pkg/authn"
	"github.com/meshd-io/meshd/pkg/xds/wire"
)

// Authenticate proves who opens a stream; its errors carry a gRPC status.
type Authenticate func(*wire.Request) (authn.Peer, error)

// Streams are the methods that the Server serves: the aggregated stream and the
// gate's, delta only.
func (s *Server) Streams(by Authenticate) map[string]wire.Accept {
	accept := func(onDemand bool) wire.Accept {
		return func(r *wire.Request) (wire.Handler, error) {
			peer, err := by(r)
			if err != nil {
				return nil, err
			}
			return &wired{server: s, onDemand: onDemand, peer: peer, tx: r.Stream}, nil
		}
	}
	return map[string]wire.Accept{
		discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResources_FullMethodName: accept(false),
		clusterservicev3.ClusterDiscoveryService_DeltaClusters_FullMethodName:          accept(true),
	}
}

// wired is a stream on the wire, and its transport.
type wired struct {
	server   *Server
	onDemand bool
	peer     authn.Peer
	tx       *wire.Stream
	stream   *stream // nil before the first request
}

// Send implements transport.
func (w *wired) Send(m message) error { return w.tx.Send(m.bytes, m.tail()) }

// Receive implements wire.Handler.
func (w *wired) Receive(b []byte) error {
	r, err := decode(b, w.server.limits)
	if err != nil {
		return err
	}
	if w.stream == nil {
		if err := w.open(r.node); err != nil {
			return err
		}
	}
	return w.stream.receive(&r)
}

// open begins the stream with the first request's node, encoded.
func (w *wired) open(said []byte) error {
	node := new(corev3.Node)
	if err := proto.Unmarshal(said, node); err != nil {
		return errMalformed
	}
	at, who, err := w.server.authenticate(w.peer, node)
	if err != nil {
		return err
	}
	w.stream = newStream(w, at, w.onDemand, who)
	w.server.open(w.stream)
	return nil
}

// Closed implements wire.Handler.
func (w *wired) Closed() {
	if w.stream != nil {
		w.stream.close()
	}
}
