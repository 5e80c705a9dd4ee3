package envoy_test

import (
	"net/netip"

	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/report"
)

// ports are what accounts listens on.
func ports(list ...model.InboundPort) testCase {
	return accounts(shop(func(m *model.Mesh) { get(m.Workloads, accountsKey()).Ports = list }))
}

func inboundCases() map[string]testCase {
	peer := []report.Origin{object("PeerAuthentication", "default")}
	return map[string]testCase{
		"inbound-permissive":     ports(model.InboundPort{Port: 8080, Protocol: model.HTTP, Mode: model.Permissive, Origins: peer}),
		"inbound-permissive-tcp": ports(model.InboundPort{Port: 5432, Protocol: model.TCP, Mode: model.Permissive, Origins: peer}),
		"inbound-disable":        ports(model.InboundPort{Port: 8080, Protocol: model.HTTP, Mode: model.Disable, Origins: peer}),
		"inbound-disable-two": ports(
			model.InboundPort{Port: 5432, Protocol: model.TCP, Mode: model.Disable}, model.InboundPort{Port: 8080, Protocol: model.HTTP, Mode: model.Disable}),
		"inbound-grpc":       ports(model.InboundPort{Port: 9000, Protocol: model.GRPC}),
		"inbound-undeclared": ports(model.InboundPort{Port: 7000}),
		"inbound-per-port": ports(
			model.InboundPort{Port: 8080, Protocol: model.HTTP}, model.InboundPort{Port: 9090, Protocol: model.HTTP, Mode: model.Permissive}),
	}
}

// restCases are about ports that are declared nowhere.
func restCases() map[string]testCase {
	return map[string]testCase{
		"inbound-rest-permissive": accounts(shop(func(m *model.Mesh) {
			get(m.Workloads, accountsKey()).Rest.Mode = model.Permissive
		})),
		"inbound-rest-disable": accounts(shop(func(m *model.Mesh) {
			get(m.Workloads, accountsKey()).Rest.Mode = model.Disable
		})),
		"inbound-no-workload": accounts(shop(func(m *model.Mesh) { m.Workloads = model.Map[model.WorkloadKey, *model.Workload]{} })),
		"trust-none":          accounts(shop(func(m *model.Mesh) { m.Trust.Bundle = "" })),
	}
}

// authz is one HTTP port with policies.
func authz(a model.Authz) testCase {
	return ports(model.InboundPort{Port: 8080, Protocol: model.HTTP, Authz: a})
}

func policy(name string, rules ...model.AuthzRule) []model.AuthzPolicy {
	return []model.AuthzPolicy{{Name: model.Name{Namespace: "shop", Name: name}, Rules: rules, Origin: object("AuthorizationPolicy", name)}}
}

func from(s ...model.AuthzSource) model.AuthzRule { return model.AuthzRule{Sources: s} }

func into(to ...model.AuthzTo) model.AuthzRule { return model.AuthzRule{To: to} }

func authzCases() map[string]testCase {
	caller := model.AuthzSource{Identities: []string{loansID}}
	return map[string]testCase{
		"authz-allow-identity": authz(model.Authz{Allow: policy("callers", from(caller))}),
		"authz-allow-prefix": authz(model.Authz{Allow: policy("ops", from(
			model.AuthzSource{Identities: []string{loansID}, IdentityPrefixes: []string{"spiffe://cluster.local/ns/ops/"}}))}),
		"authz-allow-nothing": authz(model.Authz{Allow: policy("nothing")}),
		"authz-allow-two-rules": authz(model.Authz{Allow: policy("two", from(caller),
			into(model.AuthzTo{Methods: []string{"GET", "HEAD"}, Ports: []uint16{8080, 9090}}))}),
		"authz-deny":               authz(model.Authz{Deny: policy("no-loans", from(caller))}),
		"authz-deny-without-rules": authz(model.Authz{Deny: policy("broken")}),
		"authz-default-deny":       authz(model.Authz{DefaultDeny: true}),
		"authz-audit": authz(model.Authz{
			AuditAllow: policy("try-allow", from(caller)), AuditDeny: policy("try-deny", from(caller)),
		}),
		"authz-paths": authz(model.Authz{Allow: policy("paths", into(model.AuthzTo{Paths: []model.PathPattern{
			{Segments: []string{"loans"}}, {Segments: []string{"docs"}, Prefix: true}, {Prefix: true},
			{Segments: []string{"users", "{}", "loans"}}, {Segments: []string{"a.b", "{}"}, Prefix: true},
		}}))}),
		"authz-headers": authz(model.Authz{Allow: policy("tiers", into(model.AuthzTo{
			Headers: []model.HeaderMatch{{Name: "x-tier", Values: []string{"gold", "a+b"}}, {Name: "x-region", Values: []string{"eu"}}},
		}))}),
		"authz-grpc": authz(model.Authz{Allow: policy("grpc", into(model.AuthzTo{
			GRPC: []model.GRPCMatch{{Service: "shop.Loans", Methods: []string{"Get"}}, {Service: "shop.Cards"}},
		}))}),
		"authz-cidr": authz(model.Authz{Allow: policy("cidr", from(
			model.AuthzSource{CIDR: netip.MustParsePrefix("10.1.0.0/16")},
			model.AuthzSource{Identities: []string{loansID}, ForwardedCIDR: netip.MustParsePrefix("192.0.2.0/24")},
		))}),
		"authz-jwt": authz(model.Authz{
			Allow: policy("token", from(model.AuthzSource{JWT: &model.JWTSource{Issuer: "https://id.example.com"}})),
			Deny:  policy("no-token", from(model.AuthzSource{JWT: &model.JWTSource{Issuer: "https://id.example.com"}})),
		}),
		"authz-tcp": ports(model.InboundPort{Port: 5432, Protocol: model.TCP, Authz: model.Authz{
			Allow: policy("mixed", into(model.AuthzTo{Methods: []string{"GET"}}), into(model.AuthzTo{Ports: []uint16{5432}})),
			Deny:  policy("deny", into(model.AuthzTo{Methods: []string{"POST"}, Ports: []uint16{5432}})),
		}}),
		"authz-many-names": authz(model.Authz{Allow: manyPolicies()}),
	}
}

func manyPolicies() []model.AuthzPolicy {
	var out []model.AuthzPolicy
	for _, n := range []string{"a", "b", "c", "d", "e", "f"} {
		out = append(out, policy(n)...)
	}
	return out
}
