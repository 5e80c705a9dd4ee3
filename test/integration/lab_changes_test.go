package integration

import (
	"net/netip"
	"strings"
	"syscall"
)

// changeFeatures are about what changes under a proxy that knows it already.
func changeFeatures() []feature {
	return []feature{
		{name: "a port changes its protocol", manifest: fresh("http", 7358), test: testProtocolChanges},
		{name: "an address changes hands", test: testAddressChangesHands},
		{name: "an address of nobody", test: testAddressOfNobody},
		{name: "a service without endpoints", manifest: noEndpoints, test: testNoEndpoints},
		{name: "a proxy killed", manifest: fresh("http", 7362), test: testProxyKilled},
		{name: "many first connections at once", manifest: fresh("http", 7363), test: testManyAtOnce},
		{name: "a job calls", manifest: aJob, test: func(w *world) {
			for _, container := range []string{"first", "then"} {
				said := func() string { return w.log("job/once@" + container) }
				w.eventually(container+" has called", func() bool {
					return strings.Contains(said(), `"code":200`) && strings.Contains(said(), "/ns/"+w.ns+"/sa/own")
				}, said)
			}
			ended := func() string { return w.pod(w.ns, "once-").Phase }
			w.eventually("the job has ended", func() bool { return ended() == "Succeeded" }, ended)
		}},
	}
}

// fresh is a server on a port that must be no other test's: an address that a proxy
// has asked for before is not asked for again, whosever it is now.
func fresh(protocol string, port int) string {
	return freshService(protocol, port) + `
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: new, namespace: NS}
spec:
  selector: {matchLabels: {app: new}}
  template:
    metadata: {labels: {app: new}}
    spec: {containers: [{name: new, image: app, command: [app, serve, "http:8080", "banner:9002"]}]}
`
}

func freshService(protocol string, port int) string {
	target := map[string]string{"http": "8080", "tcp": "9002", "other": "8080"}[protocol]
	return strings.NewReplacer("PROTOCOL", protocol, "NUMBER", itoa(port), "TARGET", target).Replace(`
apiVersion: v1
kind: Service
metadata: {name: new, namespace: NS}
spec: {selector: {app: new}, ports: [{name: PROTOCOL, port: NUMBER, targetPort: TARGET}]}
`)
}

// testProtocolChanges: what has been promoted to HTTP becomes TCP, and comes back.
func testProtocolChanges(w *world) {
	at := "new." + w.ns + ":7358"
	speaks := func(protocol string) {
		w.Helper()
		if protocol == "tcp" {
			w.greets(at)
			return
		}
		w.meshed(w.get(client, "http://"+at+"/x"), clientID)
	}
	speaks("http")
	for _, protocol := range []string{"tcp", "http", "other", "tcp", "other", "http"} {
		w.must(w.T, strings.ReplaceAll(freshService(protocol, 7358), "NS", w.ns))
		speaks(protocol)
		speaks(protocol)
	}
}

// testAddressChangesHands: the address of a Service that has gone is another's.
func testAddressChangesHands(w *world) {
	at := chosen(5)
	w.apply(with(at, fresh("http", 7359)))
	w.meshed(w.get(client, "http://new."+w.ns+":7359/x"), clientID)
	w.delete(freshService("http", 7359))
	if a := w.get(client, "http://"+at+":7359/x"); a.Code == 200 {
		w.Errorf("a Service that has gone answers: %+v", a)
	}
	heir := strings.NewReplacer("NS", w.ns, "name: new", "name: heir")
	w.must(w.T, heir.Replace(with(at, freshService("tcp", 7359))))
	w.greets(at + ":7359")
	w.greets("heir." + w.ns + ":7359")
	w.Cleanup(func() { w.delete(strings.ReplaceAll(freshService("tcp", 7359), "name: new", "name: heir")) })
}

// testAddressOfNobody: who has been told that nobody is at an address is told otherwise when a Service gets it.
func testAddressOfNobody(w *world) {
	at := chosen(6)
	w.apply(with(at, fresh("http", 7368)))
	w.delete(freshService("http", 7368))
	if a := w.get(client, "http://"+at+":7368/x"); a.Code == 200 {
		w.Errorf("nobody answers: %+v", a)
	}
	w.must(w.T, strings.ReplaceAll(with(at, freshService("http", 7368)), "NS", w.ns))
	w.meshed(w.get(client, "http://"+at+":7368/x"), clientID)
}

// chosen is an address for a Service that no other feature's Service is given
// meanwhile: the lab leaves the first twenty to those who choose.
func chosen(n byte) string {
	_, services := labRanges()
	ip := netip.MustParsePrefix(services[0]).Addr().As4()
	ip[3] = n
	return netip.AddrFrom4(ip).String()
}

// with gives the first Service of some objects its address.
func with(clusterIP, objects string) string {
	return strings.Replace(objects, "selector:", "clusterIP: "+clusterIP+", selector:", 1)
}

const noEndpoints = `
apiVersion: v1
kind: Service
metadata: {name: empty, namespace: NS}
spec: {selector: {app: empty}, ports: [{name: http, port: 80}, {name: tcp, port: 9001}, {name: other, port: 9002}]}
`

// testNoEndpoints: told at once, not waited for; and others are not concerned.
func testNoEndpoints(w *world) {
	if a := w.get(client, "http://empty."+w.ns+"/x"); a.Code != 503 {
		w.Errorf("%+v", a)
	}
	if a := w.get(client, "http://empty."+w.ns+":9002/x"); a.Code != 503 {
		w.Errorf("undeclared: %+v", a)
	}
	if a := w.tcp(client, "-send", "hello", "empty."+w.ns+":9001"); a.Received != "" {
		w.Errorf("%+v", a)
	}
	// A port that it has not.
	if a := w.tcp(client, "-send", "hello", "empty."+w.ns+":9003"); a.Received != "" {
		w.Errorf("%+v", a)
	}
	w.meshed(w.get(client, "http://server/x"), clientID)
}

// aJob calls from an init container, and ends although its sidecar would not.
const aJob = ownAccount + `
apiVersion: batch/v1
kind: Job
metadata: {name: once, namespace: NS}
spec:
  template:
    spec:
      serviceAccountName: own
      restartPolicy: Never
      initContainers: [{name: first, image: app, command: [app, get, "http://server.features/x"]}]
      containers: [{name: then, image: app, command: [app, get, "http://server.features/y"]}]
`

func scopeFeatures() []feature {
	return []feature{{name: "scope all asks for nothing", manifest: fresh("http", 7360), test: func(w *world) {
		w.meshConfig("scope: All")
		meshd := w.meshdProcess()
		// With a meshd that stands still nothing can be asked.
		if err := syscall.Kill(meshd, syscall.SIGSTOP); err != nil {
			w.Fatal(err)
		}
		w.Cleanup(func() {
			if err := syscall.Kill(meshd, syscall.SIGCONT); err != nil {
				w.Error(err)
			}
		})
		w.meshed(w.get(client, "-timeout", "9s", "http://new."+w.ns+":7360/x"), clientID)
	}}}
}
