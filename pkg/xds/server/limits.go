package server

import (
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Limits bound what one proxy can make meshd keep. A zero field takes its default.
type Limits struct {
	// Names that one stream may subscribe to, per type; default 20000.
	Names int
	// Destinations that one proxy may have in use; default 2000. Those beyond are refused.
	Destinations int
	// NameBytes is the longest name; default 512.
	NameBytes int
}

func (l Limits) withDefaults() Limits {
	if l.Names == 0 {
		l.Names = 20000
	}
	if l.Destinations == 0 {
		l.Destinations = 2000
	}
	if l.NameBytes == 0 {
		l.NameBytes = 512
	}
	return l
}

// check refuses a request that no Envoy of this mesh makes.
func (l Limits) check(r *discoveryv3.DeltaDiscoveryRequest) error {
	n := len(r.GetResourceNamesSubscribe())
	if n > l.Names || len(r.GetResourceNamesUnsubscribe()) > l.Names || len(r.GetInitialResourceVersions()) > l.Names {
		return status.Errorf(codes.ResourceExhausted, "more than %d names in a request", l.Names)
	}
	for _, name := range r.GetResourceNamesSubscribe() {
		if len(name) > l.NameBytes {
			return status.Errorf(codes.InvalidArgument, "a name of %d bytes, at most %d", len(name), l.NameBytes)
		}
	}
	for name, version := range r.GetInitialResourceVersions() {
		if len(name) > l.NameBytes || len(version) > l.NameBytes {
			return status.Errorf(codes.InvalidArgument, "a name or version of more than %d bytes", l.NameBytes)
		}
	}
	return nil
}

// Grace is how long nothing is removed from a sidecar that has not brought its
// on-demand stream back: longer than Envoy's longest back-off in meshd's bootstrap (3 s).
const Grace = 15 * time.Second
