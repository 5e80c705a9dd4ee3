package envoy

import (
	"cmp"
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/xds/scope"
)

// Assignments are the endpoints of a destination. Nothing else of Destination depends on them.
func Assignments(d *scope.Destination) []Resource {
	t := newTranslation(false, d.Backends)
	t.assignments(d)
	return t.resources[EndpointType]
}

func (t *translation) assignments(d *scope.Destination) {
	switch backend := t.backends[d.Backend]; {
	case backend == nil:
	case d.Kind == scope.DetectDestination:
		t.assignment(DetectedTCP(d.Address), backend)
	case d.Kind == scope.TCPDestination:
		t.assignment(GateCluster(d.Address), backend)
	}
	requests, copies := t.targets(d.Routes)
	for _, b := range requests {
		t.assignment(OutCluster(b.Ref), b)
	}
	for _, b := range copies {
		t.assignment(MirrorCluster(b.Ref), b)
	}
}

func (t *translation) assignment(name string, b *model.Backend) {
	t.put(EndpointType, name, assignment(name, b.Endpoints), b.Origins)
}

// assignment is the endpoints of a backend, by zone.
func assignment(name string, endpoints []model.Endpoint) *endpointv3.ClusterLoadAssignment {
	out := &endpointv3.ClusterLoadAssignment{ClusterName: name}
	sorted := slices.Clone(endpoints)
	slices.SortFunc(sorted, func(a, b model.Endpoint) int {
		return cmp.Or(cmp.Compare(a.Zone, b.Zone), a.Address.Compare(b.Address))
	})
	for i, e := range sorted {
		if i == 0 || e.Zone != sorted[i-1].Zone {
			out.Endpoints = append(out.Endpoints, locality(e.Zone))
		}
		last := out.Endpoints[len(out.Endpoints)-1]
		last.LbEndpoints = append(last.LbEndpoints, lbEndpoint(e))
	}
	return out
}

func locality(zone string) *endpointv3.LocalityLbEndpoints {
	if zone == "" {
		return &endpointv3.LocalityLbEndpoints{}
	}
	return &endpointv3.LocalityLbEndpoints{Locality: &corev3.Locality{Zone: zone}}
}

func lbEndpoint(e model.Endpoint) *endpointv3.LbEndpoint {
	out := &endpointv3.LbEndpoint{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{
		Endpoint: &endpointv3.Endpoint{Address: socket(e.Address)},
	}}
	if !e.MTLS {
		out.Metadata = &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{socketMatchKey: plaintextMark()}}
	}
	return out
}
