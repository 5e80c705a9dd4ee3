package integration

import (
	"bufio"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/meshd-io/meshd/pkg/xds/envoy"
)

// useFeatures are about what a sidecar is sent, and when. They count what meshd sends to all proxies.
func useFeatures() []feature {
	return []feature{
		{name: "a first request asks once", manifest: user + services(0, 3), test: testFirstRequest},
		{name: "a sidecar holds what it uses", manifest: user + services(0, 20), test: testHoldsWhatItUses},
	}
}

// user is a client that nobody else uses, and a server.
const user = `
apiVersion: v1
kind: ServiceAccount
metadata: {name: own, namespace: NS}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: own, namespace: NS}
spec:
  selector: {matchLabels: {app: own}}
  template:
    metadata: {labels: {app: own}}
    spec:
      serviceAccountName: own
      containers: [{name: own, image: app, command: [app, serve, "http:8080"]}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: new, namespace: NS}
spec:
  selector: {matchLabels: {app: new}}
  template:
    metadata: {labels: {app: new}}
    spec: {containers: [{name: new, image: app, command: [app, serve, "http:8080", "echo:9001"]}]}
`

// services lead to the server, each in three ways: declared HTTP, declared TCP and undeclared.
func services(from, to int) string {
	var b strings.Builder
	for i := from; i < to; i++ {
		fmt.Fprintf(&b, `---
apiVersion: v1
kind: Service
metadata: {name: s%d, namespace: NS}
spec:
  selector: {app: new}
  ports: [{name: http, port: 80, targetPort: 8080}, {name: tcp, port: 81, targetPort: 9001}, {name: other, port: 82, targetPort: 8080}]
`, i)
	}
	return b.String()
}

const (
	own   = "deploy/own"
	ownID = "own"
)

// testFirstRequest: the first connection to a destination is paid for with one
// response of each type that it needs, and a later one with nothing.
func testFirstRequest(w *world) {
	http := func(service, port string) func() {
		return func() { w.meshed(w.get(own, "http://"+service+":"+port+"/x"), w.ns+"/"+ownID) }
	}
	tcp := func() {
		if a := w.tcp(own, "-send", "hello", "s1:81"); a.Received != "hello" {
			w.Errorf("%+v", a)
		}
	}
	for _, of := range []struct {
		what    string
		use     func()
		first   map[string]int
		promote uint64 // listeners
	}{
		{"HTTP", http("s0", "80"), map[string]int{"Cluster": 1, "ClusterLoadAssignment": 1, "ScopedRouteConfiguration": 1, "OnDemandCluster": 1}, 1},
		{"TCP", tcp, map[string]int{"ClusterLoadAssignment": 1, "OnDemandCluster": 1}, 0},
		{"undeclared", http("s2", "82"), map[string]int{"Cluster": 2, "ClusterLoadAssignment": 2, "ScopedRouteConfiguration": 1, "OnDemandCluster": 1}, 0},
	} {
		listeners := w.listenerUpdates()
		before := w.sent()
		of.use()
		first := w.sent()
		if got := difference(before, first); !maps.Equal(got, of.first) {
			w.Errorf("first use of %s: sent %v, want %v", of.what, got, of.first)
		}
		of.use()
		w.eventually(of.what+" is promoted", func() bool { return w.listenerUpdates() >= listeners+of.promote }, func() string { return "" })
		of.use()
		if got := difference(first, w.sent()); len(got) > 0 {
			w.Errorf("later uses of %s: sent %v", of.what, got)
		}
		if got := w.listenerUpdates() - listeners; got != of.promote {
			w.Errorf("%s: %d updates of listeners, want %d", of.what, got, of.promote)
		}
	}
}

// testHoldsWhatItUses: what a sidecar does not use is nowhere in it, however much there is.
func testHoldsWhatItUses(w *world) {
	used := []string{"s3", "s17"}
	for _, s := range used {
		w.meshed(w.get(own, "http://"+s+"/x"), w.ns+"/"+ownID)
	}
	name := regexp.MustCompile(regexp.QuoteMeta(w.ns) + `/(s\d+)\b`)
	dump := func() []string {
		w.Helper()
		text := w.admin("/config_dump?include_eds")
		var found []string
		for _, m := range name.FindAllStringSubmatch(text, -1) {
			found = append(found, m[1])
		}
		slices.Sort(found)
		return append(slices.Compact(found), fmt.Sprintf("%d clusters", strings.Count(text, `"type.googleapis.com/envoy.config.cluster.v3.Cluster"`)),
			fmt.Sprintf("%d scopes", strings.Count(text, `"type.googleapis.com/envoy.config.route.v3.ScopedRouteConfiguration"`)))
	}
	few := dump()
	if !slices.Equal(few[:len(few)-2], []string{"s17", "s3"}) {
		w.Fatalf("of 20 Services two are used; the proxy holds %v", few)
	}
	before := w.sent()
	w.apply(services(20, 220))
	if many := dump(); !slices.Equal(few, many) {
		w.Errorf("with 20 Services it held %v, with 220 %v", few, many)
	}
	if got := difference(before, w.sent()); len(got) > 0 {
		w.Errorf("200 Services that nobody uses: sent %v", got)
	}
}

// sent counts the resources that meshd has sent, by type; listeners excepted,
// which change with what is promoted, at a pace of their own.
func (w *world) sent() map[string]int {
	w.Helper()
	const metric = `meshd_xds_resources_sent_total{type="`
	a := w.get(outsider, "http://meshd.meshd-system:15014/metrics")
	w.answered(a)
	out := map[string]int{}
	for lines := bufio.NewScanner(strings.NewReader(a.Body)); lines.Scan(); {
		rest, ok := strings.CutPrefix(lines.Text(), metric)
		typ, value, cut := strings.Cut(rest, `"} `)
		if !ok || !cut || typ == "Listener" {
			continue
		}
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			w.Fatal(err)
		}
		out[typ] = int(n)
	}
	if len(out) == 0 {
		w.Fatalf("meshd does not say what it has sent:\n%s", a.Body)
	}
	return out
}

func difference(before, after map[string]int) map[string]int {
	out := map[string]int{}
	for typ, n := range after {
		if n != before[typ] {
			out[typ] = n - before[typ]
		}
	}
	return out
}

// admin asks the proxy of the feature's own client.
func (w *world) admin(path string) string {
	w.Helper()
	a := w.get(own+"@meshd-proxy", "-unix", envoy.RunDir+"/admin.sock", "http://admin"+path)
	w.answered(a)
	return a.Body
}

func (w *world) listenerUpdates() uint64 {
	w.Helper()
	_, value, _ := strings.Cut(strings.TrimSpace(w.admin("/stats?filter=^listener_manager.lds.update_success$")), ": ")
	n, err := strconv.ParseUint(value, 10, 64)
	if err != nil {
		w.Fatal(err)
	}
	return n
}
