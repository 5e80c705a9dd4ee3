package main

import (
	"github.com/meshd-io/meshd/pkg/injector"
	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/xds/envoy"
)

// renderBootstrap is where the injector, which knows no Envoy, gets its bootstrap from.
func renderBootstrap(in injector.BootstrapInput) (injector.Bootstrap, error) {
	c := envoy.BootstrapConfig{
		Kind: model.Sidecar, Namespace: in.Namespace, Pod: in.Pod, ServiceAccount: in.ServiceAccount,
		MeshdAddress: in.Server, MeshdIdentity: in.ServerIdentity,
		IdentityDir: in.IdentityDir,
	}
	if in.Gateway {
		c.Kind = model.GatewayProxy
	}
	for _, p := range in.Probes {
		c.Probes = append(c.Probes, envoy.Probe{
			Path: p.Path, Kind: probeKind(p.Protocol), Port: uint16(p.Port), // a port
			HTTPPath: p.Target, HTTPS: p.Protocol == injector.ProbeHTTPS, GRPCService: p.Service, Timeout: p.Timeout,
		})
	}
	raw, err := envoy.Bootstrap(c)
	if err != nil || in.IdentityDir == "" {
		return injector.Bootstrap{Config: string(raw)}, err
	}
	files, err := envoy.FileSecrets(in.IdentityDir)
	return injector.Bootstrap{Config: string(raw), Files: files}, err
}

func probeKind(p injector.Protocol) envoy.ProbeKind {
	switch p {
	case injector.ProbeTCP:
		return envoy.TCPProbe
	case injector.ProbeGRPC:
		return envoy.GRPCProbe
	default:
		return envoy.HTTPProbe
	}
}
