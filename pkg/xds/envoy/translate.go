package envoy

import (
	"cmp"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/report"
	"github.com/meshd-io/meshd/pkg/xds/scope"
)

// Translate gives everything that the proxies of a View are served, and what
// their users should know about it.
func Translate(v *scope.View) (Resources, []report.Finding) {
	base, findings := Base(v)
	all := []Resources{base}
	for _, d := range v.Destinations {
		all = append(all, Destination(d, v.Key.PodCertificate))
	}
	for _, b := range v.Backends {
		all = append(all, Backend(b, v.Key.PodCertificate))
	}
	return Join(all), findings
}

// Base is the part of a translation that is not a Destination's or a Backend's:
// what is the proxy's own. Of the gateway's backends it sees which there are.
func Base(v *scope.View) (Resources, []report.Finding) {
	t := newTranslation(v.Key.PodCertificate, v.Backends)
	t.view = v
	if v.Trust.Bundle != "" {
		var from []report.Origin
		if v.Trust.Origin.Kind != "" {
			from = append(from, v.Trust.Origin)
		}
		t.put(SecretType, TrustSecret, trustSecret(v.Trust), from)
	}
	// Nothing is sent over it, but its mesh TLS makes every proxy ask for the
	// bundle by the name whose acknowledgement is the evidence of what it trusts.
	blocked := emptyCluster(BlockedCluster)
	blocked.TransportSocket = upstreamMeshTLS(t.own, nil)
	t.add(ClusterType, Resource{Name: BlockedCluster, Proto: blocked})
	if v.Key.Kind == model.GatewayProxy {
		t.gateway()
	} else {
		t.outbound()
		t.inbound()
	}
	return t.resources, report.Sort(t.findings)
}

// Destination is the part of a sidecar's translation that is of one
// destination: the same for all sidecars that have their certificates alike.
func Destination(d *scope.Destination, podCertificate bool) Resources {
	t := newTranslation(podCertificate, d.Backends)
	t.destination(d)
	t.assignments(d)
	return t.resources
}

// Backend is the part of a gateway's translation that is of one backend.
func Backend(b *model.Backend, podCertificate bool) Resources {
	t := newTranslation(podCertificate, nil)
	http, alpn := declaredProtocol(b.Protocol)
	t.backend(b, carrier{name: OutCluster(b.Ref), alpn: []string{alpn}, http: http})
	t.assignment(OutCluster(b.Ref), b)
	return t.resources
}

// Join puts the parts of a translation together. Parts may have a resource in
// common; they have it alike.
func Join(parts []Resources) Resources {
	out := Resources{}
	for _, part := range parts {
		for typ, list := range part {
			out[typ] = append(out[typ], list...)
		}
	}
	for typ, list := range out {
		slices.SortStableFunc(list, func(a, b Resource) int { return cmp.Compare(a.Name, b.Name) })
		out[typ] = slices.CompactFunc(list, func(a, b Resource) bool { return a.Name == b.Name })
	}
	return out
}

// translation is a part of a translation in the making.
type translation struct {
	view      *scope.View  // of a base
	own       secretSource // of the proxy's own certificate
	backends  map[model.BackendRef]*model.Backend
	resources Resources
	findings  []report.Finding
}

func newTranslation(podCertificate bool, backends []*model.Backend) *translation {
	t := &translation{own: sourceOf(podCertificate), resources: Resources{}, backends: make(map[model.BackendRef]*model.Backend, len(backends))}
	for _, b := range backends {
		t.backends[b.Ref] = b
	}
	return t
}

func (t *translation) add(typ Type, r Resource) {
	t.resources[typ] = append(t.resources[typ], r)
}

// put adds a resource that was made from objects.
func (t *translation) put(typ Type, name string, m proto.Message, origins ...[]report.Origin) {
	t.add(typ, Resource{Name: name, Proto: m, Origins: joined(origins...)})
}

// joined is all origins, sorted, each once.
func joined(lists ...[]report.Origin) []report.Origin {
	all := slices.Concat(lists...)
	slices.SortFunc(all, report.Origin.Compare)
	return slices.Compact(all)
}
