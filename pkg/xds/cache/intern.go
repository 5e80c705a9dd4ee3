package cache

import (
	"strings"

	"github.com/meshd-io/meshd/pkg/xds/envoy"
)

// interned counts the slots that have the bytes.
type interned struct {
	*Encoded
	refs references
	uses int
}

// setID counts the snapshots that have a set's version.
type setID struct {
	id   uint64
	uses int
}

// retain counts one more use of an item's bytes.
func (c *Cache) retain(it *Item) *Item {
	in := c.intern[it.Version]
	if in == nil {
		in = &interned{Encoded: it.Encoded, refs: it.refs}
		c.intern[it.Version] = in
	}
	in.uses++
	return it
}

// shared is the same bytes, from another key if one has them.
func (c *Cache) shared(enc *Encoded) *Encoded {
	if in := c.intern[enc.Version]; in != nil {
		return in.Encoded
	}
	return enc
}

func (c *Cache) release(it *Item) {
	if it == nil {
		return
	}
	if in := c.intern[it.Version]; in != nil {
		if in.uses--; in.uses == 0 {
			delete(c.intern, it.Version)
		}
	}
}

// empty releases everything that a slot holds.
func (c *Cache) empty(s *slot) {
	c.release(s.wanted)
	for _, it := range s.good {
		c.release(it)
	}
}

func (c *Cache) idOf(version string) uint64 {
	s := c.ids[version]
	if s == nil {
		c.nextID++
		s = &setID{id: c.nextID}
		c.ids[version] = s
	}
	s.uses++
	return s.id
}

func (c *Cache) releaseID(version string) {
	if s := c.ids[version]; s != nil {
		if s.uses--; s.uses == 0 {
			delete(c.ids, version)
		}
	}
}

// Short is the type as the console and messages have it: "listener", "cluster", ...
func Short(t envoy.Type) string {
	switch t {
	case envoy.SecretType:
		return "secret"
	case envoy.ClusterType:
		return "cluster"
	case envoy.EndpointType:
		return "endpoint"
	case envoy.ExtensionType:
		return "extension"
	case envoy.ScopedRouteType:
		return "scope"
	case envoy.RouteType:
		return "route"
	case envoy.ListenerType:
		return "listener"
	case envoy.OnDemandType:
		return "on-demand"
	}
	return string(t)[strings.LastIndexByte(string(t), '/')+1:]
}
