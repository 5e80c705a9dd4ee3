package integration

import (
	"slices"
	"strings"
	"testing"
)

// together are features that do not get in each other's way.
func together() []feature {
	return slices.Concat(protocolFeatures(), addressFeatures(), probeFeatures(), outsideFeatures(), serverFeatures(), changeFeatures())
}

// alone are features that change the whole mesh, or count what is done in it.
func alone() []feature {
	return slices.Concat(egressFeatures(), scopeFeatures(), restartFeatures(), useFeatures(), demandFeatures())
}

const (
	client   = "features/deploy/client"
	outsider = "outside/deploy/client"
	// who the client is.
	clientID = "features/client"
)

func protocolFeatures() []feature {
	return []feature{
		{name: "http", test: func(w *world) { w.meshed(w.get(client, "http://server/x"), clientID) }},
		{name: "http refuses a stranger", test: func(w *world) {
			w.cut(w.get(outsider, "http://server.features/x"))
		}},
		{name: "http undeclared", test: func(w *world) {
			w.meshed(w.get(client, "http://server:8082/x"), clientID)
		}},
		{name: "http undeclared obeys", manifest: undeclared, test: testUndeclared},
		{name: "http bodies", manifest: fresh("http", 7357), test: func(w *world) {
			// The very first request to the address has a body that no buffer holds.
			for range 2 {
				for _, flags := range [][]string{nil, {"-h2"}} {
					args := append(flags, "-method", "POST", "-body", "3000000", "http://new."+w.ns+":7357/echo")
					if a := w.get(client, args...); a.Code != 200 || a.Body != "same" || a.Error != "" {
						w.Errorf("%v: %+v", flags, a)
					}
				}
			}
		}},
		{name: "http2 by prior knowledge", test: func(w *world) {
			a := w.get(client, "-h2", "http://server:8081/x")
			w.meshed(a, clientID)
			if a.Proto != "HTTP/2.0" || a.Seen.Proto != "HTTP/2.0" {
				w.Errorf("answered by %s, asked by %s", a.Proto, a.Seen.Proto)
			}
		}},
		{name: "http1 to a port of http2", test: func(w *world) {
			a := w.get(client, "http://server:8081/x")
			w.meshed(a, clientID)
			if a.Seen.Proto != "HTTP/1.1" {
				w.Errorf("asked by %s", a.Seen.Proto)
			}
		}},
		{name: "tcp", test: func(w *world) { w.echoes("server:9001") }},
		{name: "tcp refuses a stranger", test: func(w *world) {
			if a := w.tcp(outsider, "-send", "hello", "server.features:9001"); a.Received != "" {
				w.Errorf("%+v", a)
			}
		}},
		{name: "tcp server first", test: func(w *world) { w.greets("server:9002") }},
		{name: "tcp server first undeclared", test: func(w *world) { w.greets("server:9012") }},
		{name: "tcp half close", test: testHalfClose},
		{name: "grpc", test: func(w *world) { w.calls("server:9004") }},
		{name: "grpc undeclared", test: func(w *world) { w.calls("server:9014") }},
		{name: "tls of the application", test: func(w *world) {
			// Declared and undeclared: carried as it is, inside of the mesh's own.
			for _, port := range []string{"8443", "8444"} {
				a := w.get(client, "https://server:"+port+"/x")
				w.answered(a)
				if !fromProxy(a.Seen.Peer) || len(a.Seen.Headers["X-Forwarded-Client-Cert"]) > 0 {
					w.Errorf("%s: %+v", port, a.Seen)
				}
				w.cut(w.get(outsider, "https://server.features:"+port+"/x"))
			}
		}},
		{name: "websocket", test: func(w *world) { w.websocket("ws://server/ws") }},
		{name: "websocket undeclared", test: func(w *world) { w.websocket("ws://server:8082/ws") }},
	}
}

func (w *world) echoes(address string) {
	w.Helper()
	if a := w.tcp(client, "-send", "hello", "-repeat", "100000", address); a.Received != strings.Repeat("hello", 100_000) || a.Error != "" {
		w.Errorf("%d bytes came back, %s", len(a.Received), a.Error)
	}
}

func (w *world) greets(address string) {
	w.Helper()
	a := w.tcp(client, "-first", "-send", "hello", address)
	_, peer, _ := strings.Cut(strings.TrimSpace(a.First), " sees ")
	if a.Error != "" || !fromProxy(peer) || a.Received != "hello" {
		w.Errorf("%+v", a)
	}
}

// calls wants all kinds of gRPC calls to be answered, by way of both proxies.
func (w *world) calls(address string) {
	w.Helper()
	a := app[grpcAnswer](w, client, "grpc", address)
	if a.Error != "" || a.Check != "SERVING" || a.Watch != "SERVING" || len(a.Pongs) != 3 {
		w.Fatalf("%+v", a)
	}
	for _, p := range a.Pongs {
		if f := strings.Fields(p); !fromProxy(f[len(f)-1]) {
			w.Errorf("%s: not from its own proxy", p)
		}
	}
}

func (w *world) websocket(url string) {
	w.Helper()
	type messages struct {
		Messages []string
		Error    string
	}
	if a := app[messages](w, client, "ws", url); a.Error != "" || !slices.Equal(a.Messages, []string{"one", "two", "xxx"}) {
		w.Errorf("%+v", a)
	}
}

func testHalfClose(w *world) {
	w.Run("by the client", func(*testing.T) {
		a := w.tcp(client, "-send", "0123456789", "-repeat", "50000", "server:9003")
		if a.Error != "" || !strings.Contains(a.Received, "got 500000 bytes from 127.0.0.6:") {
			w.Errorf("%+v", a)
		}
	})
	w.Run("by the server", func(*testing.T) {
		a := w.tcp(client, "-wait-eof", "-send", "0123456789", "-repeat", "50000", "server:9005")
		if a.Error != "" || a.Received != "my side is closed now\n" {
			w.Errorf("%+v", a)
		}
		said := func() string { return w.log("features/deploy/server") }
		w.eventually("what came after closing is read", func() bool {
			return strings.Contains(said(), "after closing: 500000 bytes, <nil>")
		}, said)
	})
}

// log is what a container has written.
func (w *world) log(pod string) string {
	w.Helper()
	var out strings.Builder
	if err := w.Logs(w.Context(), w.in(pod), false, &out); err != nil {
		w.Fatal(err)
	}
	return out.String()
}

// undeclared is a server whose Service says nothing of its protocol.
const undeclared = `
apiVersion: v1
kind: Service
metadata: {name: web, namespace: NS}
spec: {selector: {app: web}, ports: [{port: 8080}]}
---
apiVersion: meshd.io/v1alpha1
kind: TrafficPolicy
metadata: {name: hasty, namespace: NS}
spec: {targetRefs: [{kind: Service, name: web}], timeout: {request: 100ms}}
---
apiVersion: meshd.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: readers, namespace: NS}
spec: {action: Allow, rules: [{sources: [{serviceAccount: {namespace: features, name: client}}], to: [{methods: [GET]}]}]}
---
apiVersion: meshd.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: secrets, namespace: NS}
spec: {action: Deny, rules: [{to: [{paths: ["/secret/*"]}]}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: NS}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: app, command: [app, serve, "http:8080"]}]}
`

func testUndeclared(w *world) {
	url := "http://web." + w.ns + ":8080"
	w.meshed(w.get(client, url+"/x"), clientID)
	if a := w.get(client, url+"/slow"); a.Code != 504 {
		w.Errorf("the route's timeout: %+v", a)
	}
	for policy, args := range map[string][]string{"secrets": {url + "/secret/1"}, "readers": {"-method", "POST", url + "/x"}} {
		if a := w.get(client, args...); a.Code != 403 || !strings.Contains(a.Body, w.ns+"/"+policy) {
			w.Errorf("%s: %+v", policy, a)
		}
	}
}
