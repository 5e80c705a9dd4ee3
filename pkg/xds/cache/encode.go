package cache

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/meshd-io/meshd/pkg/xds/envoy"
)

// versionBytes of the hash make a version: enough that equal versions are equal bytes,
// also against someone who writes objects in order to find a collision.
const versionBytes = 16

// encode gives the bytes of a resource and its content version.
func encode(t envoy.Type, r envoy.Resource) (*Encoded, error) {
	deterministic := proto.MarshalOptions{Deterministic: true}
	body, err := deterministic.Marshal(r.Proto)
	if err != nil {
		return nil, fmt.Errorf("encode %s %q: %w", t, r.Name, err)
	}
	h := sha256.New()
	// Lengths in front: no two (type, name, body) give the same input.
	fmt.Fprintf(h, "%d %s %d %s ", len(t), t, len(r.Name), r.Name)
	h.Write(body)
	version := hex.EncodeToString(h.Sum(nil)[:versionBytes])
	seg, err := deterministic.Marshal(&discoveryv3.Resource{
		Name: r.Name, Version: version,
		Resource: &anypb.Any{TypeUrl: "type.googleapis.com/" + string(r.Proto.ProtoReflect().Descriptor().FullName()), Value: body},
	})
	if err != nil {
		return nil, fmt.Errorf("encode %s %q: %w", t, r.Name, err)
	}
	return &Encoded{Name: r.Name, Version: version, Segment: seg, Assignment: assignment(r.Proto)}, nil
}

// assignment is the name under which a cluster asks for its endpoints; "" without EDS.
func assignment(m proto.Message) string {
	c, ok := m.(*clusterv3.Cluster)
	if !ok || c.GetType() != clusterv3.Cluster_EDS {
		return ""
	}
	if n := c.GetEdsClusterConfig().GetServiceName(); n != "" {
		return n
	}
	return c.GetName()
}

// encoding is what came of encode.
type encoding struct {
	*Encoded
	err error
}

// version tells two failures apart; of what cannot be encoded it is never on the wire.
func (e encoding) version() string {
	if e.err != nil {
		return "none"
	}
	return e.Version
}

// encodeAll encodes a translation; what is the same value as in the snapshot has the same bytes.
func encodeAll(snap *Snapshot, rs envoy.Resources) map[envoy.Type][]encoding {
	out := make(map[envoy.Type][]encoding, len(rs))
	for t, list := range rs {
		set := snap.Set(t)
		out[t] = make([]encoding, len(list))
		for i, r := range list {
			if r.Name == "" || r.Proto == nil {
				out[t][i].err = fmt.Errorf("a resource of %s without a name or content", Short(t))
				continue
			}
			if old := set.Get(r.Name); old != nil && old.source == r.Proto {
				out[t][i].Encoded = old.Encoded
				continue
			}
			out[t][i].Encoded, out[t][i].err = encode(t, r)
		}
	}
	return out
}
