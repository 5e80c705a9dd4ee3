package main

import (
	"github.com/meshd-io/meshd/pkg/injector"
	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/xds/envoy"
)

// renderBootstrap is where the injector meets Envoy: it implements injector.Bootstrapper.
func renderBootstrap(in injector.BootstrapInput) (string, error) {
	config := envoy.BootstrapConfig{
		Namespace: in.Namespace, Pod: in.Pod, ServiceAccount: in.ServiceAccount,
		MeshdAddress: in.Server, MeshdIdentity: in.ServerIdentity,
	}
	if in.Gateway {
		config.Kind = model.GatewayProxy
	}
	for _, p := range in.Probes {
		probe := envoy.Probe{
			Path: p.Path, Port: uint16(p.Port), HTTPPath: p.Target, GRPCService: p.Service, Timeout: p.Timeout, //nolint:gosec // a port, checked by the injector
		}
		switch p.Protocol {
		case injector.ProbeTCP:
			probe.Kind = envoy.TCPProbe
		case injector.ProbeGRPC:
			probe.Kind = envoy.GRPCProbe
		case injector.ProbeHTTPS:
			probe.HTTPS = true
		case injector.ProbeHTTP:
		}
		config.Probes = append(config.Probes, probe)
	}
	text, err := envoy.Bootstrap(config)
	return string(text), err
}
