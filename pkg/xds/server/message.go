package server

import (
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/meshd-io/meshd/pkg/xds/cache"
)

// Fields of envoy.service.discovery.v3.DeltaDiscoveryResponse.
const (
	fieldResources = 2
	fieldTypeURL   = 4
	fieldNonce     = 5
	fieldRemoved   = 6
)

// body is a response without its nonce, encoded once and shared by streams. Immutable.
type body struct {
	items   []*cache.Item
	removed []string
	bytes   []byte
}

func newBody(typeURL string, items []*cache.Item, removed []string) *body {
	size := len(typeURL) + 8
	for _, it := range items {
		size += len(it.Segment) + 8
	}
	for _, name := range removed {
		size += len(name) + 8
	}
	b := make([]byte, 0, size)
	b = protowire.AppendTag(b, fieldTypeURL, protowire.BytesType)
	b = protowire.AppendString(b, typeURL)
	for _, it := range items {
		b = protowire.AppendTag(b, fieldResources, protowire.BytesType)
		b = protowire.AppendBytes(b, it.Segment)
	}
	for _, name := range removed {
		b = protowire.AppendTag(b, fieldRemoved, protowire.BytesType)
		b = protowire.AppendString(b, name)
	}
	return &body{items: items, removed: removed, bytes: b}
}

// message is a body and this stream's nonce: together a DeltaDiscoveryResponse.
type message struct {
	*body
	nonce string
}

func (m message) buffers() mem.BufferSlice {
	tail := protowire.AppendTag(nil, fieldNonce, protowire.BytesType)
	tail = protowire.AppendString(tail, m.nonce)
	return mem.BufferSlice{mem.SliceBuffer(m.bytes), mem.SliceBuffer(tail)}
}

// codec sends messages as they are, and leaves all else to the usual one.
type codec struct{ encoding.CodecV2 }

// Marshal implements encoding.CodecV2.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if m, ok := v.(message); ok {
		return m.buffers(), nil
	}
	return c.CodecV2.Marshal(v)
}
