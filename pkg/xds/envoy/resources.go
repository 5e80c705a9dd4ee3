package envoy

import (
	"google.golang.org/protobuf/proto"

	"github.com/meshd-io/meshd/pkg/report"
)

// Type is an xDS type URL.
type Type string

// The types that meshd serves.
const (
	SecretType      Type = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
	ClusterType     Type = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
	EndpointType    Type = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
	ExtensionType   Type = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig"
	ScopedRouteType Type = "type.googleapis.com/envoy.config.route.v3.ScopedRouteConfiguration"
	RouteType       Type = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
	ListenerType    Type = "type.googleapis.com/envoy.config.listener.v3.Listener"
	// OnDemandType are the clusters of the gate (dst|...). They are Clusters on
	// the wire, served only on the on-demand stream, by name, never by wildcard.
	OnDemandType Type = "on-demand/" + ClusterType
)

// Resource is one xDS resource.
type Resource struct {
	Name  string
	Proto proto.Message
	// Origins are the objects that it was made from, sorted; with generations.
	// They are kept in meshd's own table and are no part of the bytes.
	Origins []report.Origin
	// After are the resources that a proxy must have acknowledged before this
	// one may be sent: for on-demand clusters, the backends and the scope behind them.
	After []Ref
}

// Ref names a resource.
type Ref struct {
	Type Type
	Name string
}

// Resources is a whole translation: of each type the resources, sorted by name.
type Resources map[Type][]Resource
