package integration

import (
	"net"
	"slices"
	"strings"
)

// outsideFeatures are about what is not captured, and what is not in the mesh.
func outsideFeatures() []feature {
	return []feature{
		{name: "excluded ports", manifest: excluding, test: testExclusions},
		{name: "external by default", manifest: internet("203.0.113.10,2001:db8:113::10"), test: func(w *world) {
			for _, url := range []string{"http://api.NS.example/x", "https://api.NS.example/x", "http://203.0.113.10/x", "http://[2001:db8:113::10]/x"} {
				w.external(w.get(client, strings.ReplaceAll(url, "NS", w.ns)))
			}
			if a := w.tcp(client, "-first", "-send", "hello", "203.0.113.10:9002"); a.Received != "hello" {
				w.Errorf("%+v", a)
			}
		}},
	}
}

// external wants an answer from a host outside, asked by the client's pod itself, in plain HTTP.
func (w *world) external(a httpAnswer) {
	w.Helper()
	w.answered(a)
	peer, _, err := net.SplitHostPort(a.Seen.Peer)
	if err != nil || !strings.Contains(strings.Join(w.pod("features", "client-").Addresses, " "), peer) {
		w.Errorf("asked by %s", a.Seen.Peer)
	}
	for name := range a.Seen.Headers {
		if strings.HasPrefix(name, "X-") {
			w.Errorf("header %s is not the application's", name)
		}
	}
}

// internet is a host outside of the mesh's ranges.
func internet(addresses string) string {
	return strings.ReplaceAll(`
apiVersion: v1
kind: Pod
metadata:
  name: internet
  namespace: NS
  labels: {meshd.io/inject: disabled}
  annotations: {lab.meshd.io/external-addresses: "ADDRESSES", lab.meshd.io/external-names: "api.NS.example,other.NS.example"}
spec:
  containers:
  - name: internet
    image: app
    command: [app, serve, "http:80", "https:443", "banner:9002"]
    readinessProbe: {tcpSocket: {port: 9002}, periodSeconds: 1}
`, "ADDRESSES", addresses)
}

// excluding: the server's port 8082 is not captured, nor what the client sends to port 8083.
const excluding = ownAccount + `
apiVersion: v1
kind: Service
metadata: {name: half, namespace: NS}
spec: {selector: {app: half}, ports: [{name: http, port: 8080}, {name: http-open, port: 8082}, {name: http-direct, port: 8083}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: half, namespace: NS}
spec:
  selector: {matchLabels: {app: half}}
  template:
    metadata: {labels: {app: half}, annotations: {meshd.io/exclude-inbound-ports: "8082"}}
    spec: {containers: [{name: half, image: app, command: [app, serve, "http:8080", "http:8082", "http:8083"]}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: client, namespace: NS}
spec:
  selector: {matchLabels: {app: client}}
  template:
    metadata: {labels: {app: client}, annotations: {meshd.io/exclude-outbound-ports: "8083"}}
    spec:
      serviceAccountName: own
      containers: [{name: client, image: app, command: [sleep, infinity]}]
`

func testExclusions(w *world) {
	half := "http://half." + w.ns
	w.meshed(w.get("deploy/client", half+":8080/x"), w.ns+"/own")
	// Not captured where it arrives: strangers get in.
	for _, from := range []string{outsider, client} {
		a := w.get(from, half+":8082/x")
		w.answered(a)
		if fromProxy(a.Seen.Peer) {
			w.Errorf("%s was captured: %+v", from, a.Seen)
		}
	}
	// Not captured where it is sent: a stranger to a Strict port.
	w.cut(w.get("deploy/client", half+":8083/x"))
	w.meshed(w.get(client, half+":8083/x"), clientID)
}

const excludingRange = ownAccount + `
apiVersion: apps/v1
kind: Deployment
metadata: {name: client, namespace: NS}
spec:
  selector: {matchLabels: {app: client}}
  template:
    metadata: {labels: {app: client}, annotations: {meshd.io/exclude-outbound-cidrs: 203.0.113.0/25}}
    spec:
      serviceAccountName: own
      containers: [{name: client, image: app, command: [sleep, infinity]}]
`

const workload = `
apiVersion: v1
kind: Service
metadata: {name: vm, namespace: NS}
spec: {selector: {app: vm}, ports: [{name: http, port: 80, targetPort: 80}]}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: vm, namespace: NS}
---
apiVersion: meshd.io/v1alpha1
kind: Workload
metadata: {name: vm-1, namespace: NS, labels: {app: vm}}
spec: {serviceAccount: vm, addresses: [203.0.113.30], ports: [{name: http, port: 80}]}
---
apiVersion: meshd.io/v1alpha1
kind: PeerAuthentication
metadata: {name: vm, namespace: NS}
spec: {targetRefs: [{kind: Pod, selector: {matchLabels: {app: vm}}}], mode: Disable}
---
apiVersion: v1
kind: Pod
metadata:
  name: machine
  namespace: NS
  labels: {meshd.io/inject: disabled}
  annotations: {lab.meshd.io/external-addresses: "203.0.113.30"}
spec: {containers: [{name: vm, image: app, command: [app, serve, "http:80"], readinessProbe: {tcpSocket: {port: 80}, periodSeconds: 1}}]}
`

func egressFeatures() []feature {
	return []feature{
		{name: "workload object", test: func(w *world) {
			pods, services := labRanges()
			w.meshConfig(`cidrs: ["` + strings.Join(slices.Concat(pods, services, []string{"203.0.113.0/24"}), `", "`) + `"]`)
			w.apply(workload)
			// It has no certificate of the mesh: by PeerAuthentication it is called in plaintext.
			a := w.get(client, "http://vm."+w.ns+"/x")
			w.answered(a)
			if a.Seen.Pod != "machine" {
				w.Errorf("%+v", a.Seen)
			}
		}},
		{name: "egress denied", manifest: internet("203.0.113.40,2001:db8:113::40") + "---" + excludingRange, test: func(w *world) {
			w.egress("mode: Deny")
			for _, url := range []string{"http://203.0.113.40/x", "https://203.0.113.40/x"} {
				w.cut(w.get(client, url))
			}
			if a := w.tcp(client, "-first", "203.0.113.40:9002"); a.First != "" || a.Error == "" {
				w.Errorf("%+v", a)
			}
			w.meshed(w.get(client, "http://server/x"), clientID)
			w.answered(w.get(client, "http://outsider.outside/x"))
			// What is not captured is not refused either.
			w.answered(w.get("deploy/client", "http://203.0.113.40/x"))
			w.cut(w.get("deploy/client", "http://[2001:db8:113::40]/x"))
		}},
		{name: "egress let out by range", manifest: internet("203.0.113.50,203.0.113.150"), test: func(w *world) {
			w.egress("mode: Deny, cidrs: [203.0.113.0/25]")
			w.external(w.get(client, "http://203.0.113.50/x"))
			w.external(w.get(client, "https://203.0.113.50/x"))
			if a := w.tcp(client, "-first", "-send", "hello", "203.0.113.50:9002"); a.Received != "hello" {
				w.Errorf("%+v", a)
			}
			w.cut(w.get(client, "http://203.0.113.150/x"))
		}},
		{name: "egress let out by name", manifest: internet("203.0.113.60"), test: func(w *world) {
			w.egress(`mode: Deny, hosts: ["api.` + w.ns + `.example"]`)
			api, other := "api."+w.ns+".example", "other."+w.ns+".example"
			w.answered(w.get(client, "http://"+api+"/x"))
			w.answered(w.get(client, "-host", api, "https://"+api+"/x"))
			if a := w.get(client, "http://"+other+"/x"); a.Code != 403 {
				w.Errorf("%+v", a)
			}
			w.cut(w.get(client, "-host", other, "https://"+other+"/x"))
			if a := w.tcp(client, "-first", "203.0.113.60:9002"); a.First != "" {
				w.Errorf("%+v", a)
			}
			w.meshed(w.get(client, "http://server/x"), clientID)
		}},
	}
}

func (w *world) egress(spec string) {
	w.Helper()
	w.meshConfig("egress: {" + spec + "}")
}

// meshConfig is in force for the rest of the test.
func (w *world) meshConfig(spec string) {
	w.Helper()
	yaml := "apiVersion: meshd.io/v1alpha1\nkind: MeshConfig\nmetadata: {name: default}\nspec: {" + spec + "}\n"
	w.must(w.T, yaml)
	w.Cleanup(func() { w.delete(yaml) })
}
