package store

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"github.com/meshd-io/meshd/pkg/report"
)

// Addresses gives Services their ClusterIPs.
type Addresses struct {
	mu       sync.Mutex
	prefixes map[corev1.IPFamily]netip.Prefix
	used     map[netip.Addr]bool
}

// NewAddresses gives addresses of the service CIDRs, at most one of a family.
func NewAddresses(prefixes ...netip.Prefix) *Addresses {
	a := &Addresses{prefixes: map[corev1.IPFamily]netip.Prefix{}, used: map[netip.Addr]bool{}}
	for _, p := range prefixes {
		a.prefixes[familyOf(p.Addr())] = p.Masked()
	}
	return a
}

// Release takes addresses back.
func (a *Addresses) Release(ips []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, ip := range ips {
		if addr, err := netip.ParseAddr(ip); err == nil {
			delete(a.used, addr)
		}
	}
}

// Assign fills in clusterIP, clusterIPs and ipFamilies of a Service. old is its
// version in force, whose addresses it keeps. The finding says why it is refused.
func (a *Addresses) Assign(s, old *corev1.Service) *report.Finding {
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		return nil
	}
	families, f := a.families(s, old)
	if f != nil {
		return f
	}
	s.Spec.IPFamilies = families
	if s.Spec.IPFamilyPolicy == nil {
		policy := corev1.IPFamilyPolicySingleStack
		if len(families) == 2 {
			policy = corev1.IPFamilyPolicyRequireDualStack
		}
		s.Spec.IPFamilyPolicy = &policy
	}
	given := s.Spec.ClusterIPs
	if len(given) == 0 && s.Spec.ClusterIP != "" {
		given = []string{s.Spec.ClusterIP}
	}
	if len(given) > 0 && given[0] == corev1.ClusterIPNone {
		if old != nil {
			a.Release(old.Spec.ClusterIPs)
		}
		s.Spec.ClusterIP, s.Spec.ClusterIPs = corev1.ClusterIPNone, []string{corev1.ClusterIPNone}
		return nil
	}
	return a.allocate(s, old, given)
}

// families are the address families that a Service wants, the primary one first.
func (a *Addresses) families(s, old *corev1.Service) ([]corev1.IPFamily, *report.Finding) {
	families := slices.Clone(s.Spec.IPFamilies)
	if len(families) == 0 && old != nil && len(s.Spec.ClusterIPs) == 0 && s.Spec.ClusterIP == "" {
		families = slices.Clone(old.Spec.IPFamilies[:min(1, len(old.Spec.IPFamilies))])
	}
	if len(families) == 0 {
		families = []corev1.IPFamily{corev1.IPv4Protocol}
		ips := append(slices.Clone(s.Spec.ClusterIPs), s.Spec.ClusterIP)
		if addr, err := netip.ParseAddr(ips[0]); err == nil {
			families[0] = familyOf(addr)
		}
	}
	policy := corev1.IPFamilyPolicySingleStack
	if s.Spec.IPFamilyPolicy != nil {
		policy = *s.Spec.IPFamilyPolicy
	}
	if policy == corev1.IPFamilyPolicySingleStack {
		if len(families) > 1 && s.Spec.IPFamilyPolicy != nil {
			return nil, refusal(s, "spec.ipFamilies", report.Invalid, "two families need ipFamilyPolicy PreferDualStack or RequireDualStack")
		}
	} else if len(families) == 1 {
		other := corev1.IPv6Protocol
		if families[0] == other {
			other = corev1.IPv4Protocol
		}
		if _, ok := a.prefixes[other]; ok {
			families = append(families, other)
		} else if policy == corev1.IPFamilyPolicyRequireDualStack {
			return nil, refusal(s, "spec.ipFamilyPolicy", report.Invalid, fmt.Sprintf("this lab has no %s addresses for Services", other))
		}
	}
	for _, f := range families {
		if _, ok := a.prefixes[f]; !ok {
			return nil, refusal(s, "spec.ipFamilies", report.Invalid, fmt.Sprintf("this lab has no %s addresses for Services", f))
		}
	}
	return families, nil
}

func (a *Addresses) allocate(s, old *corev1.Service, given []string) *report.Finding {
	a.mu.Lock()
	defer a.mu.Unlock()
	mine := map[netip.Addr]bool{}
	kept := map[corev1.IPFamily]netip.Addr{}
	if old != nil {
		for _, ip := range old.Spec.ClusterIPs {
			if addr, err := netip.ParseAddr(ip); err == nil {
				mine[addr] = true
				kept[familyOf(addr)] = addr
			}
		}
	}
	var chosen []netip.Addr
	for i, family := range s.Spec.IPFamilies {
		var want netip.Addr
		if i < len(given) {
			addr, err := netip.ParseAddr(given[i])
			if err != nil || familyOf(addr) != family || !a.prefixes[family].Contains(addr) {
				return refusal(s, "spec.clusterIP", report.Invalid, fmt.Sprintf(
					"%q is no %s address of %s; leave clusterIP out to be given one", given[i], family, a.prefixes[family]))
			}
			if a.used[addr] && !mine[addr] {
				return refusal(s, "spec.clusterIP", report.Conflict, fmt.Sprintf("%s is taken; leave clusterIP out to be given one", addr))
			}
			want = addr
		} else if addr, ok := kept[family]; ok {
			want = addr
		} else if want = a.free(family); !want.IsValid() {
			return refusal(s, "spec.clusterIP", report.Conflict, fmt.Sprintf("no address is left in %s", a.prefixes[family]))
		}
		a.used[want] = true
		chosen = append(chosen, want)
	}
	s.Spec.ClusterIPs = nil
	for _, addr := range chosen {
		delete(mine, addr)
		s.Spec.ClusterIPs = append(s.Spec.ClusterIPs, addr.String())
	}
	for addr := range mine {
		delete(a.used, addr)
	}
	s.Spec.ClusterIP = s.Spec.ClusterIPs[0]
	return nil
}

// free is the lowest address that no one has, but the first twenty, which are left to those who choose.
func (a *Addresses) free(family corev1.IPFamily) netip.Addr {
	p := a.prefixes[family]
	addr := p.Addr()
	for range 20 {
		addr = addr.Next()
	}
	for ; p.Contains(addr); addr = addr.Next() {
		if !a.used[addr] {
			return addr
		}
	}
	return netip.Addr{}
}

func familyOf(a netip.Addr) corev1.IPFamily {
	if a.Is4() {
		return corev1.IPv4Protocol
	}
	return corev1.IPv6Protocol
}
