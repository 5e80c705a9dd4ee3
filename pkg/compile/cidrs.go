package compile

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/meshd-io/meshd/pkg/compile/object"
	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/report"
)

// uncovered tells that an address lies outside of the mesh's CIDRs: a sidecar
// would never ask for it, and carry it as traffic that leaves the mesh. Without
// CIDRs each address covers itself.
func uncovered(a netip.Addr, cidrs []netip.Prefix, o report.Origin, field string) []report.Finding {
	if len(cidrs) == 0 || slices.ContainsFunc(cidrs, func(p netip.Prefix) bool { return p.Contains(a) }) {
		return nil
	}
	return []report.Finding{object.Refused(o, report.OutsideCIDRs, field,
		"%s lies outside of the mesh's CIDRs %v and is treated as outside of the mesh: add its network to MeshConfig's spec.cidrs", a, cidrs)}
}

// oneByOne are the addresses of all pods and Services. Where they are those of
// the mesh before, so are the prefixes.
func oneByOne(mesh, before *model.Mesh) []netip.Prefix {
	if before != nil && sameKeys(mesh.PodsByAddress, before.PodsByAddress) && sameKeys(mesh.ServicesByAddress, before.ServicesByAddress) {
		return before.Settings.CIDRs
	}
	var out []netip.Prefix
	for a := range mesh.PodsByAddress.All() {
		out = append(out, netip.PrefixFrom(a, a.BitLen()))
	}
	for a := range mesh.ServicesByAddress.All() {
		out = append(out, netip.PrefixFrom(a, a.BitLen()))
	}
	return sortPrefixes(out)
}

func sameKeys[K, V comparable](a, b model.Map[K, V]) bool {
	for k := range a.Changes(b) {
		_, inA := a.Get(k)
		if _, inB := b.Get(k); inA != inB {
			return false
		}
	}
	return true
}

func sortPrefixes(ps []netip.Prefix) []netip.Prefix {
	slices.SortFunc(ps, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	return slices.Compact(ps)
}
