package compile

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"github.com/meshd-io/meshd/pkg/compile/object"
	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/report"
)

// cover fills in the mesh's CIDRs and tells whose addresses lie outside: a
// sidecar would never ask for those, and carry them as traffic that leaves the
// mesh. An address that pods share with their node is none of the mesh's.
func cover(mesh *model.Mesh, flag, cluster []netip.Prefix) []report.Finding {
	cidrs := slices.Concat(mesh.Settings.CIDRs, flag, cluster)
	if len(cidrs) == 0 {
		// Each address covers itself: nothing lies outside.
		for _, a := range slices.Concat(slices.Collect(maps.Keys(mesh.PodsByAddress)), slices.Collect(maps.Keys(mesh.ServicesByAddress))) {
			cidrs = append(cidrs, netip.PrefixFrom(a, a.BitLen()))
		}
		mesh.Settings.CIDRs = sortPrefixes(cidrs)
		return nil
	}
	mesh.Settings.CIDRs = sortPrefixes(cidrs)
	var fs []report.Finding
	check := func(a netip.Addr, o report.Origin, field string) {
		if !slices.ContainsFunc(cidrs, func(p netip.Prefix) bool { return p.Contains(a) }) {
			fs = append(fs, object.Refused(o, report.OutsideCIDRs, field,
				"%s lies outside of the mesh's CIDRs %v and is treated as outside of the mesh: add its network to MeshConfig's spec.cidrs", a, mesh.Settings.CIDRs))
		}
	}
	for a, p := range mesh.PodsByAddress {
		field := "status.podIPs"
		if p.Origin.Kind == "Workload" {
			field = "spec.addresses"
		}
		check(a, p.Origin, field)
	}
	for a, s := range mesh.ServicesByAddress {
		check(a, s.Origin, "spec.clusterIPs")
	}
	return fs
}

func sortPrefixes(ps []netip.Prefix) []netip.Prefix {
	slices.SortFunc(ps, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	return slices.Compact(ps)
}
