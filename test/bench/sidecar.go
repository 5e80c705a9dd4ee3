package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	// usedServices of a cluster are what a sidecar uses: each is a destination that it asks for once.
	usedServices = 20
	// sidecarClients are workloads of their own, so that each has its first requests.
	sidecarClients = 3
)

// sidecarSizes are clusters, in Services: what a sidecar costs is not to depend on them.
func sidecarSizes() []int { return []int{100, 1000, 10000} }

// sidecarFigures are memory and latencies of a sidecar, in clusters of several sizes.
func sidecarFigures(ctx context.Context, bin string) (out []figure, err error) {
	dir, err := os.MkdirTemp("", "meshd-bench-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	var thousands, private []float64
	for _, services := range sidecarSizes() {
		file := filepath.Join(dir, fmt.Sprintf("%d.yaml", services))
		if err := os.WriteFile(file, []byte(probePods(services)), 0o600); err != nil {
			return out, err
		}
		err := withLab(ctx, bin, file, func(l lab, _ time.Duration) error {
			figures, most, err := sidecarIn(ctx, l, services)
			out = append(out, figures...)
			thousands, private = append(thousands, float64(services)/1000), append(private, most.private)
			return err
		})
		if err != nil {
			return out, fmt.Errorf("%d services: %w", services, err)
		}
	}
	return append(out, figure{
		"sidecar, by size of the cluster", "private memory of Envoy, 1000 services more", slope(thousands, private) * 1024, "KB",
		fmt.Sprintf("of clusters of %v services, %d of them in use", sidecarSizes(), usedServices),
	}), nil
}

// usedOf are the Services that are used, spread over all.
func usedOf(services int) []int {
	var out []int
	for i := range usedServices {
		out = append(out, i*services/usedServices)
	}
	return out
}

// sidecarIn gives the figures of one lab, and the memory of its largest client's Envoy.
func sidecarIn(ctx context.Context, l lab, services int) ([]figure, memory, error) {
	group := fmt.Sprintf("sidecar, %d of %d services in use", usedServices, services)
	idle, err := l.largest("envoy", "sidecar~"+meshNamespace+"/client")
	if err != nil {
		return nil, memory{}, err
	}
	direct, err := l.probes(ctx, plainNamespace, services)
	if err != nil {
		return nil, memory{}, err
	}
	meshed, err := l.probes(ctx, meshNamespace, services)
	if err != nil {
		return nil, memory{}, err
	}
	used, err := l.largest("envoy", "sidecar~"+meshNamespace+"/client")
	if err != nil {
		return nil, memory{}, err
	}
	agent, err := l.largest("meshd-agent", "")
	if err != nil {
		return nil, memory{}, err
	}
	note := func(m memory) string { return fmt.Sprintf("RSS %.1f, PSS %.1f; the largest client's", m.rss, m.pss) }
	out := []figure{
		{group, "private memory of Envoy, nothing used", idle.private, "MB", note(idle)},
		{group, "private memory of Envoy, after requests", used.private, "MB", note(used)},
		{group, "RSS of meshd-agent", agent.rss, "MB", fmt.Sprintf("PSS %.1f, private %.1f", agent.pss, agent.private)},
	}
	for _, row := range []struct {
		what           string
		direct, meshed []time.Duration
	}{
		{"first request to a destination", direct.First, meshed.First},
		{"later request, new connection", direct.Again, meshed.Again},
		{"request on an open connection", direct.Warm, meshed.Warm},
	} {
		out = append(out, quantiles(group, row.what+", direct", row.direct, "")...)
		out = append(out, quantiles(group, row.what+", through two sidecars", row.meshed, "")...)
		out = append(out, figure{group, row.what + ", added at p50", quantile(0.5, row.meshed) - quantile(0.5, row.direct), "ms", ""})
	}
	return out, used, nil
}

// probes are the requests of all clients of a namespace, one client after the other.
func (l lab) probes(ctx context.Context, namespace string, services int) (probed, error) {
	var all probed
	for client := range sidecarClients {
		args := []string{"exec", "-n", namespace, fmt.Sprintf("deploy/client-%d", client), "--", filepath.Join(l.bin, "bench"), "probe"}
		for _, i := range usedOf(services) {
			args = append(args, fmt.Sprintf("http://server-%d.%s:8080/ready", i, namespace))
		}
		raw, err := l.run(ctx, args...)
		if err != nil {
			return probed{}, err
		}
		var p probed
		if err := json.Unmarshal(raw, &p); err != nil {
			return probed{}, fmt.Errorf("probe: %w: %s", err, raw)
		}
		all.First, all.Again, all.Warm = append(all.First, p.First...), append(all.Again, p.Again...), append(all.Warm, p.Warm...)
	}
	return all, nil
}

const (
	plainNamespace = "bench-plain"
	meshNamespace  = "bench-mesh"
)

// probePods are clients and a server in the mesh and the same outside of it.
// All Services lead to the server; outside are only those that are used.
func probePods(services int) string {
	var b strings.Builder
	used := usedOf(services)
	for _, namespace := range []string{plainNamespace, meshNamespace} {
		labels := ""
		if namespace == meshNamespace {
			labels = ", labels: {meshd.io/inject: enabled}"
		}
		fmt.Fprintf(&b, "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: %s%s}\n", namespace, labels)
		fmt.Fprintf(&b, probeYAML, namespace, "server")
		for client := range sidecarClients {
			fmt.Fprintf(&b, probeYAML, namespace, fmt.Sprintf("client-%d", client))
		}
		for i := range services {
			if namespace == meshNamespace || slices.Contains(used, i) {
				fmt.Fprintf(&b, probeServiceYAML, namespace, i)
			}
		}
	}
	return b.String()
}

const probeYAML = `---
apiVersion: v1
kind: ServiceAccount
metadata: {name: %[2]s, namespace: %[1]s}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[2]s, namespace: %[1]s}
spec:
  selector: {matchLabels: {app: %[2]s}}
  template:
    metadata: {labels: {app: %[2]s}}
    spec:
      serviceAccountName: %[2]s
      containers:
      - name: %[2]s
        image: ghcr.io/meshd-io/eazybank
        command: [eazybank, serve, %[2]s, --port, "8080"]
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: {httpGet: {path: /ready, port: http}, periodSeconds: 1}
`

const probeServiceYAML = `---
apiVersion: v1
kind: Service
metadata: {name: server-%[2]d, namespace: %[1]s}
spec:
  selector: {app: server}
  ports: [{name: http, port: 8080, targetPort: http}]
`
