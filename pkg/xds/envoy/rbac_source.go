package envoy

import (
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	mtlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/rbac/principals/mtls_authenticated/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/meshd-io/meshd/pkg/identity"
	"github.com/meshd-io/meshd/pkg/model"
)

// The gateway's service account: the only peers that are trusted to say for whom they forward.
const (
	gatewayNamespace      = "meshd-system"
	gatewayServiceAccount = "meshd-ingress"
)

// sources are the principals that any of them names; empty matches nobody.
func (g guard) sources(list []model.AuthzSource) []*rbacv3.Principal {
	if len(list) == 0 {
		return []*rbacv3.Principal{anyone()}
	}
	var out []*rbacv3.Principal
	for _, s := range list {
		if p := g.source(s); p != nil {
			out = append(out, p)
		}
	}
	return out
}

// source is one whole source: all its fields must match. nil matches nobody.
func (g guard) source(s model.AuthzSource) *rbacv3.Principal {
	var all []*rbacv3.Principal
	if s.JWT != nil && !g.anyJWT() {
		return nil
	}
	if len(s.Identities)+len(s.IdentityPrefixes) > 0 {
		all = append(all, oneOf(s.Identities, s.IdentityPrefixes))
	}
	if s.CIDR.IsValid() {
		all = append(all, &rbacv3.Principal{Identifier: &rbacv3.Principal_DirectRemoteIp{DirectRemoteIp: cidrRange(s.CIDR)}})
	}
	if s.ForwardedCIDR.IsValid() {
		if g.http {
			all = append(all, g.forwarded(s))
		} else if !g.denies {
			return nil
		}
	}
	switch len(all) {
	case 0:
		return anyone()
	case 1:
		return all[0]
	}
	return &rbacv3.Principal{Identifier: &rbacv3.Principal_AndIds{AndIds: &rbacv3.Principal_Set{Ids: all}}}
}

// anyJWT: on TCP a token cannot be seen, and a Deny takes it as matching. On
// HTTP no token has been verified, so none matches.
func (g guard) anyJWT() bool { return !g.http && g.denies }

// forwarded is the client as told by a trusted hop, which only a gateway is;
// of any other peer it is the peer's own address, whatever it claims.
func (g guard) forwarded(s model.AuthzSource) *rbacv3.Principal {
	gateway := oneOf(g.trusted, nil)
	told := &rbacv3.Principal{Identifier: &rbacv3.Principal_RemoteIp{RemoteIp: cidrRange(s.ForwardedCIDR)}}
	direct := &rbacv3.Principal{Identifier: &rbacv3.Principal_DirectRemoteIp{DirectRemoteIp: cidrRange(s.ForwardedCIDR)}}
	return anyID(bothIDs(gateway, told), bothIDs(notID(gateway), direct))
}

func trustedHops(s model.Settings) []string {
	var out []string
	for _, td := range append([]string{s.TrustDomain}, s.TrustDomainAliases...) {
		if id, err := identity.New(td, gatewayNamespace, gatewayServiceAccount); err == nil {
			out = append(out, id.String())
		}
	}
	return out
}

// oneOf are peers whose certificate was verified and has one of the IDs.
func oneOf(exact, prefixes []string) *rbacv3.Principal {
	var out []*rbacv3.Principal
	for _, id := range exact {
		out = append(out, proven(exactly(id)))
	}
	for _, p := range prefixes {
		out = append(out, proven(startingWith(p)))
	}
	if len(out) == 0 {
		return proven(exactly(noIdentity))
	}
	return anyID(out...)
}

func proven(m *matcherv3.StringMatcher) *rbacv3.Principal {
	return &rbacv3.Principal{Identifier: &rbacv3.Principal_Custom{
		Custom: extension("envoy.rbac.principals.mtls_authenticated", &mtlsv3.Config{SanMatcher: uriSAN(m)}),
	}}
}

func anyone() *rbacv3.Principal {
	return &rbacv3.Principal{Identifier: &rbacv3.Principal_Any{Any: true}}
}

func notID(p *rbacv3.Principal) *rbacv3.Principal {
	return &rbacv3.Principal{Identifier: &rbacv3.Principal_NotId{NotId: p}}
}

func bothIDs(a, b *rbacv3.Principal) *rbacv3.Principal {
	return &rbacv3.Principal{Identifier: &rbacv3.Principal_AndIds{AndIds: &rbacv3.Principal_Set{Ids: []*rbacv3.Principal{a, b}}}}
}

func anyID(list ...*rbacv3.Principal) *rbacv3.Principal {
	if len(list) == 1 {
		return list[0]
	}
	return &rbacv3.Principal{Identifier: &rbacv3.Principal_OrIds{OrIds: &rbacv3.Principal_Set{Ids: list}}}
}
