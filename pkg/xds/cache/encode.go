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
