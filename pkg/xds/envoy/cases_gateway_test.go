package envoy_test

import (
	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/report"
)

// gateway is the ingress of eazybank.com to loans-svc, changed for a case.
func gateway(change ...func(*model.Gateway)) testCase {
	m := shop()
	loans := model.BackendRef{Service: model.Name{Namespace: "shop", Name: "loans-svc"}, Port: loansPort}
	ingress := []report.Origin{object("Ingress", "eazybank")}
	g := &model.Gateway{
		Key: gatewayKey(), Name: model.Name{Namespace: "meshd-system", Name: "ingress"}, Origins: ingress,
		Listeners: []model.GatewayListener{{Port: 80, Hosts: []model.VirtualHost{{Host: "eazybank.com", Routes: []model.Route{{
			Name: "Ingress/shop/eazybank|0", Match: model.RouteMatch{Path: "/loans"}, Traffic: traffic(), Origins: ingress,
			Backends: []model.WeightedBackend{{Ref: loans, Weight: 1}},
		}}}}}},
	}
	for _, f := range change {
		f(g)
	}
	set(&m.Gateways, gatewayKey(), g)
	return testCase{mesh: m, key: gatewayKey()}
}

func gatewayCases() map[string]testCase {
	none := testCase{mesh: shop(), key: gatewayKey()}
	grpc := gateway()
	loansBackend(func(b *model.Backend) { b.Protocol = model.GRPC })(grpc.mesh)
	return map[string]testCase{
		"gateway-none":         none,
		"gateway-grpc-backend": grpc,
		"gateway-no-backends":  gateway(func(g *model.Gateway) { g.Listeners[0].Hosts[0].Routes[0].Backends = nil }),
		"gateway-hosts": gateway(func(g *model.Gateway) {
			h := g.Listeners[0].Hosts[0]
			g.Listeners[0].Hosts = []model.VirtualHost{h, {Host: "*.eazybank.com", OneLabel: true, Routes: h.Routes}, {Host: "*", Routes: h.Routes}}
		}),
		"gateway-tls":          gateway(tlsListener(cert("tls", "eazybank.com"))),
		"gateway-tls-default":  gateway(tlsListener(cert("any"))),
		"gateway-tls-conflict": gateway(tlsListener(cert("first", "eazybank.com"), cert("second", "eazybank.com", "*.eazybank.com"))),
		"gateway-tls-no-certs": gateway(tlsListener()),
	}
}

func tlsListener(certs ...model.GatewayCertificate) func(*model.Gateway) {
	return func(g *model.Gateway) {
		g.Listeners = []model.GatewayListener{{Port: 443, TLS: true, Certificates: certs, Hosts: g.Listeners[0].Hosts}}
	}
}

func cert(name string, hosts ...string) model.GatewayCertificate {
	return model.GatewayCertificate{
		Name: model.Name{Namespace: "shop", Name: name}, Hosts: hosts, Origin: object("Secret", name),
		Chain: bundle, Key: "-----BEGIN PRIVATE KEY-----\nMIGH\n-----END PRIVATE KEY-----\n",
	}
}
