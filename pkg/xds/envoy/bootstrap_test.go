package envoy_test

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/meshd-io/meshd/internal/envoytest"
	"github.com/meshd-io/meshd/internal/golden"
	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/xds/envoy"
)

func sidecarBootstrap() envoy.BootstrapConfig {
	return envoy.BootstrapConfig{
		Namespace: "$(POD_NAMESPACE)", Pod: "$(POD_NAME)", ServiceAccount: "accounts",
		MeshdAddress:  "meshd.meshd-system.svc:15012",
		MeshdIdentity: "spiffe://cluster.local/ns/meshd-system/sa/meshd",
		Probes: []envoy.Probe{
			{
				Path: "/probe/app/readiness", Port: 8080, HTTPPath: "/healthz?full=1", Timeout: 3 * time.Second,
				Headers: []envoy.ProbeHeader{{Name: "Host", Value: "app.example"}, {Name: "X-Probe", Value: "50%"}},
			},
			{Path: "/probe/app/liveness", Port: 8443, HTTPPath: "healthz", HTTPS: true},
			{Path: "/probe/app/startup", Port: 8081, HTTPPath: "/", Host: "127.0.0.1"},
			{Path: "/probe/db/readiness", Kind: envoy.TCPProbe, Port: 5432},
			{Path: "/probe/rpc/readiness", Kind: envoy.GRPCProbe, Port: 9000, GRPCService: "shop.Loans"},
		},
	}
}

func gatewayBootstrap() envoy.BootstrapConfig {
	return envoy.BootstrapConfig{
		Kind: model.GatewayProxy, Namespace: "meshd-system", Pod: "ingress-0", ServiceAccount: "meshd-ingress",
		MeshdAddress: "[fd00::1]:15012", MeshdIdentity: "spiffe://cluster.local/ns/meshd-system/sa/meshd",
	}
}

func podCertificateBootstrap() envoy.BootstrapConfig {
	c := sidecarBootstrap()
	c.Probes, c.IdentityDir = nil, envoy.IdentityDir
	return c
}

func TestBootstrapLoads(t *testing.T) {
	for name, config := range map[string]envoy.BootstrapConfig{
		"sidecar": sidecarBootstrap(), "gateway": gatewayBootstrap(), "pod-certificate": podCertificateBootstrap(),
	} {
		t.Run(name, func(t *testing.T) {
			got, err := envoy.Bootstrap(config)
			if err != nil {
				t.Fatal(err)
			}
			var text bytes.Buffer
			if err := json.Indent(&text, got, "", "  "); err != nil {
				t.Fatal(err)
			}
			golden.Check(t, "testdata/bootstrap/"+name+".json", append(text.Bytes(), '\n'))
			envoytest.Validate(t, withRealFiles(t, got))
		})
	}
}

func TestBootstrapIsRefused(t *testing.T) {
	for name, change := range map[string]func(*envoy.BootstrapConfig){
		"no port":            func(c *envoy.BootstrapConfig) { c.MeshdAddress = "meshd" },
		"port too big":       func(c *envoy.BootstrapConfig) { c.MeshdAddress = "meshd:70000" },
		"probe path twice":   func(c *envoy.BootstrapConfig) { c.Probes = append(c.Probes, c.Probes[0]) },
		"probe takes /ready": func(c *envoy.BootstrapConfig) { c.Probes[0].Path = "/ready" },
		"gateway's probe":    func(c *envoy.BootstrapConfig) { c.Kind = model.GatewayProxy },
	} {
		config := sidecarBootstrap()
		change(&config)
		if _, err := envoy.Bootstrap(config); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
