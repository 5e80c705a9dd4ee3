package cache

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/meshd-io/meshd/pkg/report"
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
	version := base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:versionBytes]) // it is a tenth of a change's bytes
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

// Checked is a resource that has been encoded and has passed the gate, or what
// kept it from passing. It is immutable, and may be published for many keys.
type Checked struct {
	*Encoded // nil where it could not be encoded
	name     string
	typ      envoy.Type
	origins  []report.Origin
	after    []envoy.Ref
	refs     references
	err      error
}

// version tells two failures apart; of what cannot be encoded it is never on the wire.
func (r *Checked) version() string {
	if r.Encoded == nil {
		return "none"
	}
	return r.Version
}

// same reports whether publishing r in place of old changes nothing.
func (r *Checked) same(old *Checked) bool {
	return r == old || r.err == nil && old.err == nil && r.Version == old.Version &&
		slices.Equal(r.origins, old.origins) && slices.Equal(r.after, old.after)
}

// Translation is a whole translation that has been checked: of each type the
// resources, sorted by name.
type Translation map[envoy.Type][]*Checked

// Check encodes resources and runs the gate over each of them.
func (c *Cache) Check(rs envoy.Resources) Translation {
	out := make(Translation, len(rs))
	for t, list := range rs {
		checked := make([]*Checked, len(list))
		for i, r := range list {
			checked[i] = c.check(t, r)
		}
		slices.SortStableFunc(checked, compareNames)
		out[t] = checked
	}
	return out
}

func (c *Cache) check(t envoy.Type, r envoy.Resource) *Checked {
	out := &Checked{name: r.Name, typ: t, origins: r.Origins, after: r.After}
	if r.Name == "" || r.Proto == nil {
		out.err = fmt.Errorf("a resource of %s without a name or content", Short(t))
		return out
	}
	if out.Encoded, out.err = encode(t, r); out.err != nil {
		return out
	}
	// What some key has with the same bytes has passed before.
	c.mu.RLock()
	known := c.intern[out.Version]
	if known != nil {
		out.Encoded, out.refs = known.Encoded, known.refs
	}
	c.mu.RUnlock()
	if known == nil {
		out.refs, out.err = check(t, r)
	}
	return out
}
