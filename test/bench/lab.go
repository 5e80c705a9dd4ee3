package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// probeServices is how many Services of one server a probe uses: each is a
// destination that its sidecar asks for once.
const probeServices = 30

// lab is a lab of its own, beside one that may run already.
type lab struct{ bin, state string }

func (l lab) run(ctx context.Context, args ...string) ([]byte, error) {
	args = append([]string{"lab", args[0], "--state-dir", l.state}, args[1:]...)
	cmd := exec.CommandContext(ctx, filepath.Join(l.bin, "meshd"), args...) // our own binary
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("meshd %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(errs.Bytes()))
	}
	return out.Bytes(), nil
}

// labFigures are those of whole processes: the example's mesh, with two pods
// that call each other in the mesh, and two that do outside of it.
func labFigures(ctx context.Context, bin string) (out []figure, err error) {
	const group = "lab with examples/eazybank"
	dir, err := os.MkdirTemp("", "meshd-bench-")
	if err != nil {
		return nil, err
	}
	l := lab{bin, filepath.Join(dir, "lab")}
	defer func() {
		_, down := l.run(context.WithoutCancel(ctx), "down") // also when ctx is over
		err = errors.Join(err, down, os.RemoveAll(dir))
	}()
	began := time.Now()
	if _, err := l.run(ctx, "up", "-f", "examples/eazybank"); err != nil {
		return nil, err
	}
	out = append(out, figure{group, "meshd lab up, until all is in force", time.Since(began).Seconds(), "s", "5 proxies"})
	before, err := memories(group, "idle", l.state)
	if err != nil {
		return nil, err
	}
	latencies, err := measureLatency(ctx, l, filepath.Join(dir, "probe.yaml"))
	if err != nil {
		return nil, err
	}
	after, err := memories(group, "after requests", l.state)
	if err != nil {
		return nil, err
	}
	return append(append(append(out, before...), after...), latencies...), nil
}

// demoTime is that of examples/eazybank/demo; building it is not counted.
func demoTime(ctx context.Context, bin string) ([]figure, error) {
	began := time.Now()
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "demo"), "-bin", bin) // our own binary
	if raw, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, raw)
	}
	return []figure{{"demo", "from up to down", time.Since(began).Seconds(), "s", "all rows, rotation and restart under load included"}}, nil
}

// memories of the processes of a lab: the largest of each kind, and how many there are.
func memories(group, when, state string) ([]figure, error) {
	all, err := descendants("lab", "daemon", state)
	if err != nil {
		return nil, err
	}
	var out []figure
	for _, p := range []struct{ name, what string }{{"meshd", "meshd"}, {"meshd-agent", "meshd-agent"}, {"envoy", "Envoy"}} {
		pids := all[p.name]
		if p.name == "meshd" {
			pids = slices.DeleteFunc(pids, func(pid int) bool { return !isServe(pid) })
		}
		var most memory
		alive := 0
		for _, pid := range pids {
			m, err := memoryOf(pid)
			if err != nil || m.rss == 0 {
				continue // it has ended
			}
			alive++
			most = memory{max(most.rss, m.rss), max(most.pss, m.pss), max(most.private, m.private)}
		}
		if alive == 0 {
			return nil, fmt.Errorf("no process %s", p.name)
		}
		note := fmt.Sprintf("PSS %.1f, private %.1f; largest of %d", most.pss, most.private, alive)
		out = append(out, figure{group, fmt.Sprintf("RSS of %s, %s", p.what, when), most.rss, "MB", note})
	}
	return out, nil
}

// isServe tells meshd from the lab, which is the same program.
func isServe(pid int) bool {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err == nil && slices.Contains(strings.Split(string(raw), "\x00"), "serve")
}

func measureLatency(ctx context.Context, l lab, file string) ([]figure, error) {
	if err := os.WriteFile(file, []byte(probePods()), 0o600); err != nil {
		return nil, err
	}
	if _, err := l.run(ctx, "apply", "-f", file); err != nil {
		return nil, err
	}
	const group = "latency, client to server on this machine"
	var out []figure
	for _, where := range []struct{ namespace, how string }{
		{"bench-plain", "direct, no mesh"}, {"bench-mesh", "through two sidecars"},
	} {
		args := []string{"exec", "-n", where.namespace, "deploy/client", "--", filepath.Join(l.bin, "bench"), "probe"}
		for i := range probeServices {
			args = append(args, fmt.Sprintf("http://server-%d.%s:8080/ready", i, where.namespace))
		}
		raw, err := l.run(ctx, args...)
		if err != nil {
			return nil, err
		}
		var p probed
		if err := json.Unmarshal(raw, &p); err != nil {
			return nil, fmt.Errorf("probe: %w: %s", err, raw)
		}
		out = append(out, quantiles(group, where.how+": first request to a destination", p.First, "")...)
		out = append(out, quantiles(group, where.how+": later request, new connection", p.Again, "")...)
		out = append(out, quantiles(group, where.how+": warm request, open connection", p.Warm, "one at a time")...)
	}
	return out, nil
}

// probePods are a client and a server in the mesh and the same outside of it; the server has many Services.
func probePods() string {
	var b strings.Builder
	for namespace, labels := range map[string]string{"bench-plain": "", "bench-mesh": ", labels: {meshd.io/inject: enabled}"} {
		fmt.Fprintf(&b, "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: %s%s}\n", namespace, labels)
		for _, app := range []string{"client", "server"} {
			fmt.Fprintf(&b, probeYAML, namespace, app)
		}
		for i := range probeServices {
			fmt.Fprintf(&b, probeServiceYAML, namespace, i)
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
