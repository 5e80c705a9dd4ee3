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
	t := &translation{view: v, own: sourceOf(v.Key.PodCertificate), resources: Resources{}, backends: map[model.BackendRef]*model.Backend{}}
	for i := range v.Backends {
		t.backends[v.Backends[i].Ref] = &v.Backends[i]
	}
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
	for _, list := range t.resources {
		slices.SortFunc(list, func(a, b Resource) int { return cmp.Compare(a.Name, b.Name) })
	}
	return t.resources, report.Sort(t.findings)
}

// translation is one run of Translate.
type translation struct {
	view      *scope.View
	own       secretSource // of the proxy's own certificate
	backends  map[model.BackendRef]*model.Backend
	resources Resources
	findings  []report.Finding
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
