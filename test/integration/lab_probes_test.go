package integration

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/meshd-io/meshd/pkg/lab"
)

// Probes under Strict: kubelet has no identity of the mesh, and a probe that
// the proxy answers for the application would be worth nothing.
func probeFeatures() []feature {
	return []feature{
		{name: "probes that pass", manifest: probedPod("well", goodProbes()), test: testGoodProbes},
		{name: "probes that fail", test: testBadProbes},
	}
}

// probe is a container and the handler of all of its probes.
type probe struct{ name, serves, handler string }

func goodProbes() []probe {
	return []probe{
		{"http", "http:8080", `httpGet: {path: /counted, port: 8080}`},
		{"tcp", "echo:9001", `tcpSocket: {port: 9001}`},
		{"grpc", "grpc:9004", `grpc: {port: 9004}`},
		{"exec", "http:8090", `exec: {command: ["true"]}`},
		{"https", "https:8443", `httpGet: {path: /counted, port: 8443, scheme: HTTPS}`},
	}
}

// badProbes fail although the pod's proxy listens everywhere.
func badProbes() []probe {
	return []probe{
		{"http", "http:8080", `httpGet: {path: /status/500, port: 8080}`},
		{"tcp", "echo:9001", `tcpSocket: {port: 9999}`},
		{"grpc", "grpc:9004", `grpc: {port: 9004, service: unknown}`},
		{"exec", "http:8090", `exec: {command: ["false"]}`},
		{"https", "https:8443", `httpGet: {path: /status/500, port: 8443, scheme: HTTPS}`},
	}
}

func probedPod(name string, probes []probe) string {
	var b strings.Builder
	fmt.Fprintf(&b, `
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: NS}
spec:
  terminationGracePeriodSeconds: 1
  containers:
`, name)
	for _, p := range probes {
		fmt.Fprintf(&b, "  - name: %s\n    image: app\n    command: [app, serve, %q]\n", p.name, p.serves)
		fmt.Fprintf(&b, "    livenessProbe: {%s, periodSeconds: 1, failureThreshold: 1, timeoutSeconds: 10}\n", p.handler)
		if name == "well" {
			fmt.Fprintf(&b, "    startupProbe: {%s, periodSeconds: 1, failureThreshold: 30, timeoutSeconds: 10}\n", p.handler)
			fmt.Fprintf(&b, "    readinessProbe: {%s, periodSeconds: 1, timeoutSeconds: 10}\n", p.handler)
		}
	}
	return b.String()
}

// testGoodProbes: every container was asked for long enough, and none was started again.
func testGoodProbes(w *world) {
	count := func() int {
		a := w.get("well@http", "http://127.0.0.1:8080/counted?peek")
		n, err := strconv.Atoi(a.Body)
		if err != nil {
			w.Fatalf("%+v", a)
		}
		return n
	}
	first := count()
	w.eventually("liveness and readiness are asked", func() bool { return count() >= first+8 },
		func() string { return strconv.Itoa(count()) })
	p := w.pod(w.ns, "well")
	if !p.Ready {
		w.Errorf("not ready: %+v", p)
	}
	for _, c := range p.Containers {
		if c.Restarts > 0 {
			w.Errorf("%s was started again %d times", c.Name, c.Restarts)
		}
	}
}

// testBadProbes: every container is started again, because its probe says so.
func testBadProbes(w *world) {
	yaml := strings.ReplaceAll("apiVersion: v1\nkind: Namespace\nmetadata: {name: NS, labels: {meshd.io/inject: enabled}}\n---"+
		probedPod("sick", badProbes()), "NS", w.ns)
	// Not waited for: it is ready now and then.
	out, err := w.Apply(w.Context(), []lab.Document{{File: "test.yaml", Content: []byte(yaml)}}, 0)
	if err != nil || len(out.Refused) > 0 {
		w.Fatalf("%v %+v", err, out)
	}
	w.Cleanup(func() { w.delete(yaml) })
	left := func() string {
		var out []string
		for _, c := range w.pod(w.ns, "sick").Containers {
			if c.Restarts == 0 && !strings.HasPrefix(c.Name, "meshd-") {
				out = append(out, c.Name)
			}
		}
		return strings.Join(out, " ")
	}
	w.eventually("all are started again", func() bool { return left() == "" && len(w.pod(w.ns, "sick").Containers) == 8 }, left)
}
