package integration

import (
	"net"
	"net/http"
	"strings"
	"testing"
)

// TestPolicies asks of the mesh's policies what the API promises of them, in one lab.
func TestPolicies(t *testing.T) {
	l := startLab(t)
	l.must(t, commonPods)
	for _, f := range []feature{
		{name: "authorization", manifest: policyPods, test: testAuthorization},
		{name: "peers", manifest: policyPods, test: testPeers},
		{name: "traffic", manifest: policyPods, test: testTraffic},
		{name: "ingress", manifest: policyPods, test: testIngress},
		{name: "routes", manifest: routePods, test: testRoutes},
	} {
		t.Run(f.name, func(t *testing.T) { l.run(t, f) })
	}
}

func authz(name, spec string) string {
	return "apiVersion: meshd.io/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {name: " + name + ", namespace: NS}\nspec: " + spec + "\n---\n"
}

func testAuthorization(w *world) {
	w.part("paths", authorizePaths)
	w.part("methods and headers", authorizeHeaders)
	w.part("grpc", authorizeGRPC)
	w.part("sources", authorizeSources)
	w.part("actions", authorizeActions)
	w.part("service target", authorizeService)
	w.part("tcp", authorizeTCP)
	w.part("open connection", authorizeOpenConnection)
	w.part("last good", authorizeLastGood)
}

// part is a test within a feature, in the same namespace.
func (w *world) part(name string, test func(*world)) {
	w.Run(name, func(t *testing.T) {
		own := *w
		own.T = t
		test(&own)
	})
}

func authorizePaths(w *world) {
	allow := authz("paths", `{action: Allow, rules: [{to: [{paths: ["/loans/*", "/exact", "/users/{id}/loans", "/t/{x}/*"]}]}]}`)
	base := "http://target"
	w.with(allow, func() {
		for path, code := range map[string]int{
			"/loans": 200, "/loans/": 200, "/loans/a/b": 200, "/loansx": 403, "/Loans": 403, "/exact": 200, "/exact/": 403, "/exact/x": 403,
			"/exact?x=/other": 200, "/other?x=/exact": 403, "/other?/loans/": 403,
			"//loans//a": 200, "/x/../loans": 200, "/loans/../other": 403, "/loans/./a": 200, "/loans/..": 403, "/loans/a/..": 200,
			"/l%6fans/a": 200, "/%6coans": 200, "/loans/%2e%2e/other": 403, "/loans%2fa": 400, "/loans/%2F": 400, "/loans%5ca": 400, "/other/%5C": 400,
			"/users/7/loans": 200, "/users//loans": 403, "/users/7/8/loans": 403, "/users/7/loans/": 403, "/users/loans": 403,
			"/t/a/b": 200, "/t/a": 200, "/t//a": 200, "/t": 403, "/t/": 403, "/": 403,
		} {
			w.verdicts(verdict{alice, get(base + path), code})
		}
	})
	deny := authz("paths", `{action: Deny, rules: [{to: [{paths: ["/admin/*"]}]}]}`)
	w.with(deny, func() {
		for path, code := range map[string]int{
			"/admin": 403, "/admin/x": 403, "/x": 200, "//admin": 403, "/x/../admin": 403, "/%61dmin": 403, "/./admin/": 403,
			"/x/%2e%2e/admin": 403, "/x%2fadmin": 400, "/x%5c..%5cadmin": 400, "/Admin": 200, "/administrator": 200,
			"/admin?x": 403, "/admin;x": 200,
		} {
			w.verdicts(verdict{alice, get(base + path), code})
		}
		// No path rule applies on port 8081: it takes what the application takes.
	})
}

func authorizeHeaders(w *world) {
	allow := authz("headers", `{action: Allow, rules: [{to: [{methods: [GET, HEAD], headers: [{name: X-Tier, values: [gold, silver]}, {name: x-b, values: [""]}]}]}]}`)
	h := func(tier ...string) http.Header { return http.Header{"x-tier": tier, "x-b": {""}} }
	w.with(allow, func() {
		q := func(method string, h http.Header) question {
			return question{Method: method, URL: "http://target/x", Headers: h}
		}
		w.verdicts(
			verdict{alice, q("GET", h("gold")), 200}, verdict{alice, q("HEAD", h("silver")), 200}, verdict{alice, q("POST", h("gold")), 403},
			verdict{alice, q("GET", h("Gold")), 403}, verdict{alice, q("GET", h("goldx")), 403}, verdict{alice, q("GET", nil), 403},
			verdict{alice, q("GET", h("lead", "gold")), 200}, verdict{alice, q("GET", h("gold", "lead")), 200}, verdict{alice, q("GET", h("lead,gold")), 200}, // to HTTP the same as the two before
			verdict{alice, q("GET", http.Header{"x-tier": {"gold"}}), 403},
		)
	})
}

func authorizeGRPC(w *world) {
	allow := authz("grpc", `{action: Allow, rules: [{to: [{ports: [9004], grpc: [{service: grpc.health.v1.Health, methods: [Check]}, {service: shop.Loans}]}]}]}`)
	call := func(path, typ string) question {
		return question{Method: "POST", URL: "http://target:9004" + path, H2: true, Headers: http.Header{"content-type": {typ}, "te": {"trailers"}}}
	}
	w.with(allow, func() {
		for _, c := range []struct {
			q      question
			denied bool
		}{
			{call("/grpc.health.v1.Health/Check", "application/grpc"), false},
			{call("/grpc.health.v1.Health/Check", "application/grpc+proto"), false},
			{call("/grpc.health.v1.Health/Check", "application/json"), true},
			{call("/grpc.health.v1.Health/Watch", "application/grpc"), true},
			{call("/shop.Loans/Anything", "application/grpc"), false},
			{call("/shop.LoansX/Anything", "application/grpc"), true},
			{question{Method: "GET", URL: "http://target:9004/shop.Loans/Get", H2: true, Headers: http.Header{"content-type": {"application/grpc"}}}, true},
		} {
			r := w.ask(alice, c.q)[0]
			denied := r.Code == 403 || r.Headers.Get("Grpc-Status") == "7"
			if denied != c.denied {
				w.Errorf("%+v: %+v", c.q, r)
			}
		}
	})
}

func authorizeSources(w *world) {
	x := get("http://target/x")
	features := "features/deploy/client"
	from := get("http://target." + w.ns + "/x")
	try := func(name, sources string, forAlice, forBob, forOther int) {
		w.part(name, func(w *world) {
			w.with(authz("sources", `{action: Allow, rules: [{sources: [`+sources+`]}]}`), func() {
				w.verdicts(verdict{alice, x, forAlice}, verdict{bob, x, forBob}, verdict{features, from, forOther})
			})
		})
	}
	ip := w.pod(w.ns, "bob-").Address
	try("name", `{serviceAccount: {name: alice}}`, 200, 403, 403)
	try("namespace", `{serviceAccount: {namespace: NS}}`, 200, 200, 403)
	try("other namespace", `{serviceAccount: {namespace: features, name: client}}`, 403, 403, 200)
	try("spiffe", `{spiffe: "spiffe://cluster.local/ns/NS/sa/bob"}`, 403, 200, 403)
	try("spiffe prefix", `{spiffe: "spiffe://cluster.local/ns/NS/*"}`, 200, 200, 403)
	try("spiffe whole segments", `{spiffe: "spiffe://cluster.local/ns/NS/sa/al/*"}`, 403, 403, 403)
	try("trust domain", `{spiffe: "spiffe://cluster.local/*"}`, 200, 200, 200)
	try("cidr", `{cidr: `+ip+`/32}`, 403, 200, 403)
	try("both", `{serviceAccount: {name: alice}, cidr: `+ip+`/32}`, 403, 403, 403)
	try("either", `{serviceAccount: {name: alice}}, {cidr: `+ip+`/32}`, 200, 200, 403)
}

func authorizeActions(w *world) {
	x, y := get("http://target/x"), get("http://target/y")
	rules := `rules: [{sources: [{serviceAccount: {name: alice}}], to: [{paths: [/x]}]}]`
	w.with(authz("nothing", `{action: Allow}`), func() {
		w.verdicts(verdict{alice, x, 403}, verdict{bob, x, 403})
	})
	w.verdicts(verdict{alice, x, 200}, verdict{bob, x, 200})
	w.with(authz("nothing", `{action: Allow}`)+authz("some", `{action: Allow, `+rules+`}`), func() {
		w.verdicts(verdict{alice, x, 200}, verdict{alice, y, 403}, verdict{bob, x, 403})
	})
	w.with(authz("all", `{action: Allow, rules: [{}]}`)+authz("not", `{action: Deny, `+rules+`}`), func() {
		w.verdicts(verdict{alice, x, 403}, verdict{alice, y, 200}, verdict{bob, x, 200})
		if r := w.ask(alice, x)[0]; !strings.Contains(r.Body, w.ns+"/not") {
			w.Errorf("the policy is not named: %q", r.Body)
		}
	})
	w.with(authz("audited", `{action: Deny, mode: Audit, `+rules+`}`)+authz("audited-too", `{action: Allow, mode: Audit}`), func() {
		w.verdicts(verdict{alice, x, 200}, verdict{bob, y, 200})
	})
	w.with(authz("pods", `{action: Allow, targetRefs: [{kind: Pod, selector: {matchExpressions: [{key: app, operator: In, values: [bob]}]}}]}`), func() {
		w.verdicts(verdict{alice, x, 200})
	})
	w.with(authz("namespace", `{action: Allow, targetRefs: [{kind: Namespace}]}`), func() { w.verdicts(verdict{alice, x, 403}) })
	w.with(authz("everything", `{action: Deny, rules: [{}]}`), func() {
		w.verdicts(verdict{alice, x, 403})
		if p := w.pod(w.ns, "target-"); !p.Ready {
			w.Error("its probes are denied")
		}
	})
}

func authorizeService(w *world) {
	p := w.pod(w.ns, "target-")
	direct := func(port string) question { return get("http://" + net.JoinHostPort(p.Address, port) + "/x") }
	w.with(authz("target", `{action: Allow, targetRefs: [{kind: Service, name: target}], rules: [{sources: [{serviceAccount: {name: alice}}]}]}`), func() {
		for _, q := range []question{get("http://target/x"), get("http://second/x"), get("http://bare:8080/x"), direct("8080"),
			get("http://" + net.JoinHostPort(p.Addresses[1], "8080") + "/x")} {
			w.verdicts(verdict{alice, q, 200}, verdict{bob, q, 403})
		}
		// Other ports of the same pods are not led to by this Service.
		w.verdicts(verdict{bob, get("http://second:81/x"), 200}, verdict{bob, direct("8081"), 200}, verdict{bob, direct("8082"), 200})
		if a := w.tcp(bob, "-send", "hello", "target:9001"); a.Received != "" {
			w.Errorf("tcp port of the Service: %+v", a)
		}
	})
	w.with(authz("ports", `{action: Deny, rules: [{to: [{ports: [8080]}]}]}`), func() {
		w.verdicts(verdict{bob, get("http://target/x"), 403}, verdict{bob, get("http://second:81/x"), 200})
	})
	w.with(authz("service-port", `{action: Deny, rules: [{to: [{ports: [80]}]}]}`), func() {
		w.verdicts(verdict{bob, get("http://target/x"), 200})
	})
}

func authorizeTCP(w *world) {
	works := func(what, pod string, want bool) {
		w.Helper()
		if a := w.tcp(pod, "-send", "hello", "target:9001"); (a.Received == "hello") != want {
			w.Errorf("%s: %s: %+v, want %t", what, pod, a, want)
		}
	}
	for _, c := range []struct {
		name, spec string
		alice, bob bool
	}{
		{"by account", `{action: Allow, rules: [{sources: [{serviceAccount: {name: alice}}]}]}`, true, false},
		{"allow with paths", `{action: Allow, rules: [{to: [{ports: [9001], paths: ["/*"]}]}]}`, false, false},
		{"deny with paths", `{action: Deny, rules: [{sources: [{serviceAccount: {name: alice}}], to: [{methods: [POST]}]}]}`, false, true},
		{"deny another port", `{action: Deny, rules: [{to: [{ports: [8080], methods: [POST]}]}]}`, true, true},
		{"audit", `{action: Deny, mode: Audit, rules: [{}]}`, true, true},
	} {
		w.with(authz("tcp", c.spec), func() {
			works(c.name, alice, c.alice)
			works(c.name, bob, c.bob)
		})
	}
}
