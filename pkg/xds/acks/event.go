package acks

import (
	"time"

	"github.com/meshd-io/meshd/pkg/report"
	"github.com/meshd-io/meshd/pkg/xds/envoy"
	"github.com/meshd-io/meshd/pkg/xds/scope"
)

// EventKind says what happened.
type EventKind uint8

// The kinds of event. The comment names the fields that are set beside At and Proxy.
const (
	// Connected: the proxy's ADS stream is there, and authenticated.
	Connected EventKind = iota + 1
	// Disconnected: its ADS stream is gone, or with Type the on-demand stream.
	Disconnected
	// Rekeyed: Proxy.Key has changed.
	Rekeyed
	// Published: a new set for Key (not of one proxy); Key, Sets.
	Published
	// Acknowledged: the proxy holds everything of a set that it subscribes to; Type, Version, Resources, Held, Rejections.
	Acknowledged
	// Rejected: the proxy has refused a resource; Type, Resource.
	Rejected
	// Demanded: the number of destinations that the proxy has asked for; Destinations.
	Demanded
	// Sent: a response is on its way; Type, Resources in it. It changes no Ledger.
	Sent
	// Resumed: the proxy came back with what it holds; Type, Resources that it names. It changes no Ledger.
	Resumed
	// Refused: a stream was refused, which changes no Ledger, or some destinations, of which it has Destinations; Message.
	Refused
)

// Event is a fact about a proxy.
type Event struct {
	Kind  EventKind
	At    time.Time
	Proxy Proxy

	Key  scope.Key
	Sets []Set

	Type    envoy.Type
	Version string
	// Resources is how many of the set the proxy subscribes to.
	Resources int
	Held      Held
	// Rejections are the refusals that still count, sorted by name: exceptions from "everything".
	Rejections []Rejection
	Resource   Rejection

	Destinations int
	Message      string
}

// Proxy is who an event is about.
type Proxy struct {
	Name     string // NAMESPACE/POD
	Kind     string // sidecar or gateway
	Identity string // SPIFFE ID
	Key      scope.Key
	// CertificateExpires is the NotAfter of the certificate that it has shown.
	CertificateExpires time.Time
}

// Set is the version of everything of one type that is published for a key.
type Set struct {
	Type      envoy.Type
	Version   string
	Resources int
}

// Held tells which version of a resource a proxy has acknowledged; ok is false
// where the proxy does not subscribe to the name. Implementations are immutable
// and comparable: of equal ones the Ledger keeps one, and asks it once for all.
type Held interface {
	Version(name string) (version string, ok bool)
}

// Rejection is a resource that an Envoy refused, with its words.
type Rejection struct {
	Type    envoy.Type
	Name    string
	Version string
	Message string
	Origins []report.Origin
}
