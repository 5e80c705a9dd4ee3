package scope

import (
	"iter"
	"net/netip"
	"slices"

	"github.com/meshd-io/meshd/pkg/model"
)

// With is the demand with further addresses. d itself stays as it is.
func (d Demand) With(addresses ...netip.AddrPort) Demand {
	var more []netip.AddrPort
	for _, a := range addresses {
		if a = Plain(a); !d.Has(a) {
			more = append(more, a)
		}
	}
	if len(more) == 0 {
		return d
	}
	slices.SortFunc(more, netip.AddrPort.Compare)
	all := make([]netip.AddrPort, 0, len(d.addresses)+len(more))
	rest := d.addresses
	for _, a := range slices.Compact(more) {
		i, _ := slices.BinarySearchFunc(rest, a, netip.AddrPort.Compare)
		all = append(append(all, rest[:i]...), a)
		rest = rest[i:]
	}
	return Demand{addresses: append(all, rest...), promoted: d.promoted}
}

// Without is the demand without some addresses.
func (d Demand) Without(addresses ...netip.AddrPort) Demand {
	gone := make(map[netip.AddrPort]bool, len(addresses))
	for _, a := range addresses {
		gone[Plain(a)] = true
	}
	left := func(as []netip.AddrPort) []netip.AddrPort {
		return slices.DeleteFunc(slices.Clone(as), func(a netip.AddrPort) bool { return gone[a] })
	}
	return Demand{addresses: left(d.addresses), promoted: left(d.promoted)}
}

// Covers reports whether the demand has all that another one has.
func (d Demand) Covers(other Demand) bool {
	return !slices.ContainsFunc(other.addresses, func(a netip.AddrPort) bool { return !d.Has(a) })
}

// Promote is the demand with everything in it promoted; moved is false where
// it was so before. It is a step of its own because a promotion changes the
// listener, which is worth doing for many addresses at a time.
func (d Demand) Promote() (next Demand, moved bool) {
	return Demand{addresses: d.addresses, promoted: d.addresses}, len(d.promoted) < len(d.addresses)
}

// And is the demand with all of another one, promoted.
func (d Demand) And(all Demand) Demand {
	d, _ = d.With(all.addresses...).Promote()
	return d
}

// HasPromoted reports whether an address has been promoted.
func (d Demand) HasPromoted(a netip.AddrPort) bool {
	_, found := slices.BinarySearchFunc(d.promoted, a, netip.AddrPort.Compare)
	return found
}

// Len is the number of addresses.
func (d Demand) Len() int { return len(d.addresses) }

// Has reports whether an address is demanded.
func (d Demand) Has(a netip.AddrPort) bool {
	_, found := slices.BinarySearchFunc(d.addresses, Plain(a), netip.AddrPort.Compare)
	return found
}

// All are the demanded addresses, sorted.
func (d Demand) All() iter.Seq[netip.AddrPort] { return slices.Values(d.addresses) }

// Promoted are those that have been promoted, sorted.
func (d Demand) Promoted() iter.Seq[netip.AddrPort] { return slices.Values(d.promoted) }

// Addresses are the demanded ones, sorted.
func (d Demand) Addresses() []netip.AddrPort { return slices.Clone(d.addresses) }

// All is every address that Services lead to: their ClusterIPs, and the
// endpoints of those without one.
func All(mesh *model.Mesh) Demand {
	var all []netip.AddrPort
	for _, s := range mesh.Services.All() {
		all = append(all, Leads(s)...)
	}
	return Demand{}.With(all...)
}

// Leads are the addresses that a Service leads to.
func Leads(s *model.Service) []netip.AddrPort {
	var out []netip.AddrPort
	for _, p := range s.Ports {
		for _, a := range s.Addresses {
			out = append(out, netip.AddrPortFrom(a, p.Port))
		}
		if !s.Headless {
			continue
		}
		for _, e := range p.Backend.Endpoints {
			out = append(out, e.Address)
		}
	}
	return out
}

// Plain is the address as Envoy prints it: IPv4 never in IPv6's clothes, no zone.
func Plain(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}
