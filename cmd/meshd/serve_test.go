package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/meshd-io/meshd/pkg/console"
)

// served is a `meshd serve --config` without a lab around it.
type served struct {
	flags  serveFlags
	client *console.Client
	cancel context.CancelFunc
	done   chan error
}

func startServe(t *testing.T, config, state string) *served {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	s := &served{cancel: cancel, done: make(chan error, 1), flags: serveFlags{
		config: config, stateDir: state, grpcAddress: freeAddress(t), httpAddress: freeAddress(t),
		adminSocket: filepath.Join(t.TempDir(), "admin.sock"), namespace: "meshd-system", logLevel: "error",
	}}
	go func() {
		defer close(s.done)
		s.done <- serve(ctx, s.flags)
	}()
	t.Cleanup(s.stop)
	s.client = console.NewClient(s.flags.adminSocket)
	s.until(t, "it is ready", func(console.State) bool { return s.get("/readyz") == "200 ok" })
	return s
}

func (s *served) stop() {
	s.cancel()
	for range s.done { // closed when serve has ended
	}
}

// freeAddress is one of this machine's that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// get is the code and the body of a page.
func (s *served) get(path string) string {
	resp, err := http.Get("http://" + s.flags.httpAddress + path)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	return resp.Status[:3] + " " + strings.TrimSpace(string(body))
}

// until asks for the state until it is as it should be.
func (s *served) until(t *testing.T, what string, holds func(console.State) bool) console.State {
	t.Helper()
	end := time.After(30 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		state, err := s.client.State(t.Context(), 0)
		if err == nil && holds(state) {
			return state
		}
		select {
		case <-tick.C:
		case err := <-s.done:
			t.Fatalf("serve ended: %v", err)
		case <-end:
			t.Fatalf("%s: not in time: %+v, %v", what, state, err)
		}
	}
}

const shop = `apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.9, clusterIPs: [10.96.0.9], selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: shop, labels: {app: web}}
spec: {containers: [{name: web, image: x}], initContainers: [{name: meshd-proxy, image: x, restartPolicy: Always}]}
status: {phase: Running, podIP: 10.244.0.5, podIPs: [{ip: 10.244.0.5}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
endpoints: [{addresses: [10.244.0.5], conditions: {ready: true}, targetRef: {kind: Pod, name: web-1, namespace: shop}}]
ports: [{name: http, port: 8080, protocol: TCP}]
---
apiVersion: meshd.io/v1alpha1
kind: PeerAuthentication
metadata: {name: default, namespace: shop}
spec:
  mode: Strict
`

func TestServeFiles(t *testing.T) {
	config, state := t.TempDir(), t.TempDir()
	file := filepath.Join(config, "shop.yaml")
	write(t, file, shop)
	s := startServe(t, config, state)
	if got := s.get("/healthz"); got != "200 ok" {
		t.Error(got)
	}
	if got := s.get("/metrics"); !strings.Contains(got, "meshd_compile_seconds_count") {
		t.Error(got)
	}
	accepted := func(status, word string) func(console.State) bool {
		return func(st console.State) bool {
			for _, o := range st.Objects {
				if o.Kind == "PeerAuthentication" && strings.Contains(string(o.Status), `"type":"Accepted","status":"`+status) && strings.Contains(string(o.Status), word) {
					return true
				}
			}
			return false
		}
	}
	s.until(t, "the policy is accepted", accepted("True", ""))
	write(t, file, strings.Replace(shop, "mode: Strict", "mode: Sometimes", 1))
	st := s.until(t, "a refused change is told", accepted("False", "Sometimes"))
	if len(st.Findings) != 1 || st.Findings[0].File != file || st.Findings[0].Line != 27 || st.Findings[0].Field != "spec.mode" {
		t.Errorf("%+v", st.Findings)
	}
	write(t, file, strings.Replace(shop, "mode: Strict", "mode: Permissive", 1))
	s.until(t, "mended", accepted("True", ""))
	write(t, filepath.Join(config, "broken.yaml"), "kind: [\n")
	st = s.until(t, "a broken file is told", func(st console.State) bool { return len(st.Findings) > 0 })
	if !accepted("True", "")(st) {
		t.Errorf("the rest does not go on: %+v", st.Objects)
	}
}

func TestServeKeepsItsRoot(t *testing.T) {
	config, state := t.TempDir(), t.TempDir()
	write(t, filepath.Join(config, "shop.yaml"), shop)
	key := filepath.Join(state, "root.pem")
	var first string
	for i := range 2 {
		s := startServe(t, config, state)
		raw, err := os.ReadFile(key)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(key)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", info.Mode(), err)
		}
		if i == 0 {
			first = string(raw)
		} else if first != string(raw) {
			t.Error("another root after a restart")
		}
		s.stop()
	}
}

func TestServeRefuses(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		says string
	}{
		{"no config", nil, "--config"},
		{"no folder", []string{"--config", filepath.Join(t.TempDir(), "none"), "--state-dir", t.TempDir()}, "none"},
		{"an address that is none", []string{"--config", t.TempDir(), "--state-dir", t.TempDir(), "--grpc-address", "127.0.0.1:99999", "--log-level", "error"}, "99999"},
		{"a CIDR that is none", []string{"--config", t.TempDir(), "--state-dir", t.TempDir(), "--cidrs", "10.0.0.0/99"}, "--cidrs"},
		{"a level that is none", []string{"--config", t.TempDir(), "--log-level", "loud"}, "loud"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, err := meshd(t, append([]string{"serve"}, c.args...)...)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v", err)
			}
		})
	}
}
