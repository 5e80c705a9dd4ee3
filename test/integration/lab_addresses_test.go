package integration

import (
	"net"
	"strings"
)

func addressFeatures() []feature {
	return []feature{
		{name: "across namespaces", manifest: aClient, test: func(w *world) {
			for _, name := range []string{"server.features", "server.features.svc", "server.features.svc.cluster.local"} {
				w.meshed(w.get("deploy/client", "http://"+name+"/x"), w.ns+"/own")
			}
		}},
		{name: "headless", manifest: headless, test: testHeadless},
		{name: "pod address", test: func(w *world) {
			p := w.pod("features", "server-")
			for _, a := range p.Addresses {
				w.meshed(w.get(client, "http://"+net.JoinHostPort(a, "8080")+"/x"), clientID)
			}
			w.echoes(net.JoinHostPort(p.Address, "9001"))
			w.greets(net.JoinHostPort(p.Address, "9012"))
		}},
		{name: "pod outside of the mesh", test: func(w *world) {
			p := w.pod("outside", "client-")
			urls := []string{"http://outsider.outside/x"}
			for _, a := range p.Addresses {
				urls = append(urls, "http://"+net.JoinHostPort(a, "8080")+"/x")
			}
			for _, url := range urls {
				a := w.get(client, url)
				w.answered(a)
				if peer, _, err := net.SplitHostPort(a.Seen.Peer); err != nil || strings.HasPrefix(peer, "127.") || a.Seen.Pod != p.Name {
					w.Errorf("%s: %+v", url, a.Seen)
				}
				if got := a.Seen.Headers.Get("X-Meshd-Destination"); got != "" {
					w.Errorf("%s: the mesh's own header got out: %s", url, got)
				}
			}
			if a := w.tcp(client, "-first", "-send", "hello", net.JoinHostPort(p.Address, "9002")); a.Received != "hello" {
				w.Errorf("%+v", a)
			}
		}},
		{name: "ipv6 alone", manifest: ipv6Service, test: func(w *world) {
			// There is an AAAA record only.
			w.meshed(w.get(client, "http://six."+w.ns+"/x"), clientID)
			w.echoes("six." + w.ns + ":9001")
		}},
		{name: "dual stack", test: func(w *world) {
			for _, ip := range w.lookup("server") {
				a := w.get(client, "-host", "server", "http://"+net.JoinHostPort(ip, "80")+"/x")
				w.meshed(a, clientID)
			}
		}},
		{name: "one port number with two protocols", manifest: samePort, test: func(w *world) {
			w.meshed(w.get(client, "http://web."+w.ns+":9000/x"), clientID)
			w.echoes("raw." + w.ns + ":9000")
			// Both again, now that both are known.
			w.meshed(w.get(client, "http://web."+w.ns+":9000/x"), clientID)
			w.echoes("raw." + w.ns + ":9000")
		}},
		{name: "one pod port behind two services", manifest: twoServices, test: testTwoServices},
		{name: "itself by its service", manifest: itself, test: func(w *world) {
			w.meshed(w.get("deploy/self", "http://self/x"), w.ns+"/own")
			// By its own address it talks to itself, as it would without a mesh.
			w.answered(w.get("deploy/self", "http://"+w.pod(w.ns, "self-").Address+":8080/x"))
			if a := w.tcp("deploy/self", "-first", "-send", "hello", "self:9002"); a.Received != "hello" {
				w.Errorf("%+v", a)
			}
			// Loopback is no one's business.
			if a := w.get("deploy/self", "http://127.0.0.1:8080/x"); a.Code != 200 || !strings.HasPrefix(a.Seen.Peer, "127.0.0.1:") {
				w.Errorf("%+v", a)
			}
		}},
	}
}

// lookup are a name's addresses, as a pod resolves it.
func (w *world) lookup(name string) []string {
	w.Helper()
	out, code := w.exec(client, "getent", "ahosts", name)
	if code != 0 {
		w.Fatalf("%s has no address", name)
	}
	var ips []string
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) > 1 && f[1] == "STREAM" {
			ips = append(ips, f[0])
		}
	}
	if len(ips) != 2 {
		w.Fatalf("%s: %s", name, out)
	}
	return ips
}

const ownAccount = `
apiVersion: v1
kind: ServiceAccount
metadata: {name: own, namespace: NS}
---
`

const aClient = ownAccount + `
apiVersion: apps/v1
kind: Deployment
metadata: {name: client, namespace: NS}
spec:
  selector: {matchLabels: {app: client}}
  template:
    metadata: {labels: {app: client}}
    spec:
      serviceAccountName: own
      containers: [{name: client, image: app, command: [sleep, infinity]}]
`

const headless = `
apiVersion: v1
kind: Service
metadata: {name: db, namespace: NS}
spec: {clusterIP: None, selector: {app: db}, ports: [{name: http, port: 8080}, {name: tcp, port: 9001}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db, namespace: NS}
spec:
  serviceName: db
  replicas: 2
  podManagementPolicy: Parallel
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec: {containers: [{name: db, image: app, command: [app, serve, "http:8080", "echo:9001"]}]}
`

func testHeadless(w *world) {
	for _, pod := range []string{"db-0", "db-1"} {
		a := w.get(client, "http://"+pod+".db."+w.ns+":8080/x")
		w.meshed(a, clientID)
		if a.Seen.Pod != pod {
			w.Errorf("%s is answered by %s", pod, a.Seen.Pod)
		}
		w.echoes(pod + ".db." + w.ns + ":9001")
	}
	w.meshed(w.get(client, "http://db."+w.ns+":8080/x"), clientID)
}

const ipv6Service = `
apiVersion: v1
kind: Service
metadata: {name: six, namespace: NS}
spec: {ipFamilies: [IPv6], ipFamilyPolicy: SingleStack, selector: {app: six}, ports: [{name: http, port: 80, targetPort: 8080}, {name: tcp, port: 9001}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: six, namespace: NS}
spec:
  selector: {matchLabels: {app: six}}
  template:
    metadata: {labels: {app: six}}
    spec: {containers: [{name: six, image: app, command: [app, serve, "http:8080", "echo:9001"]}]}
`

const samePort = `
apiVersion: v1
kind: Service
metadata: {name: web, namespace: NS}
spec: {selector: {app: both}, ports: [{name: http, port: 9000, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: raw, namespace: NS}
spec: {selector: {app: both}, ports: [{name: tcp, port: 9000, targetPort: 9001}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: both, namespace: NS}
spec:
  selector: {matchLabels: {app: both}}
  template:
    metadata: {labels: {app: both}}
    spec: {containers: [{name: both, image: app, command: [app, serve, "http:8080", "echo:9001"]}]}
`

// twoServices lead to the same port; only one of them has a timeout.
const twoServices = `
apiVersion: v1
kind: Service
metadata: {name: patient, namespace: NS}
spec: {selector: {app: two}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: hasty, namespace: NS}
spec: {selector: {app: two}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: meshd.io/v1alpha1
kind: TrafficPolicy
metadata: {name: hasty, namespace: NS}
spec: {targetRefs: [{kind: Service, name: hasty}], timeout: {request: 100ms}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: two, namespace: NS}
spec:
  selector: {matchLabels: {app: two}}
  template:
    metadata: {labels: {app: two}}
    spec: {containers: [{name: two, image: app, command: [app, serve, "http:8080"]}]}
`

func testTwoServices(w *world) {
	for _, s := range []string{"patient", "hasty"} {
		w.meshed(w.get(client, "http://"+s+"."+w.ns+"/x"), clientID)
	}
	if a := w.get(client, "http://hasty."+w.ns+"/slow"); a.Code != 504 {
		w.Errorf("hasty: %+v", a)
	}
	if a := w.get(client, "-timeout", "1s", "http://patient."+w.ns+"/slow"); a.Code != 0 {
		w.Errorf("patient has the other's timeout: %+v", a)
	}
}

const itself = ownAccount + `
apiVersion: v1
kind: Service
metadata: {name: self, namespace: NS}
spec: {selector: {app: self}, ports: [{name: http, port: 80, targetPort: 8080}, {name: tcp, port: 9002}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: self, namespace: NS}
spec:
  selector: {matchLabels: {app: self}}
  template:
    metadata: {labels: {app: self}}
    spec:
      serviceAccountName: own
      containers: [{name: self, image: app, command: [app, serve, "http:8080", "banner:9002"]}]
`
