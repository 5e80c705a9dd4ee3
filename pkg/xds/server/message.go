package server

import (
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/meshd-io/meshd/pkg/xds/cache"
	"github.com/meshd-io/meshd/pkg/xds/envoy"
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
	typ   envoy.Type
	nonce string
}

// tail is the response's part after the body.
func (m message) tail() []byte {
	tail := make([]byte, 0, len(m.nonce)+2)
	tail = protowire.AppendTag(tail, fieldNonce, protowire.BytesType)
	return protowire.AppendString(tail, m.nonce)
}
