package integration

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
)

func testRoutes(w *world) {
	w.part("weights", routeWeights)
	w.part("matches", routeMatches)
	w.part("answers", routeAnswers)
	w.part("changes", routeChanges)
	w.part("mirrors", routeMirrors)
	w.part("shifts under load", routeShifts)
	w.part("timeouts", routeTimeouts)
	w.part("undeclared", routeUndeclared)
	w.part("of a consumer", routeOfConsumer)
	w.part("refused", routeRefused)
}

// routePods are two versions of a Service, which itself leads to both.
var routePods = policyPods + `---
apiVersion: v1
kind: Service
metadata: {name: shop, namespace: NS}
spec: {selector: {part: shop}, ports: [{name: http, port: 80, targetPort: 8080}, {name: plain, port: 82, targetPort: 8080}]}
---
` + version("v1") + version("v2")

func version(v string) string {
	return strings.ReplaceAll(`
apiVersion: v1
kind: Service
metadata: {name: shop-REV, namespace: NS}
spec: {selector: {part: shop, version: REV}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop-REV, namespace: NS}
spec:
  selector: {matchLabels: {part: shop, version: REV}}
  template:
    metadata: {labels: {part: shop, version: REV}}
    spec: {containers: [{name: app, image: app, command: [app, serve, "http:8080"]}]}
---
`, "REV", v)
}

func httpRoute(rules string) string { return httpRouteOf("kind: Service, name: shop", rules) }

func httpRouteOf(parent, rules string) string {
	return "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: shop, namespace: NS}\nspec: {parentRefs: [{group: \"\", " + parent + "}], rules: [" + rules + "]}\n---\n"
}

const shopURL = "http://shop/x"

// versions that have answered, by name.
func (w *world) versions(n int, q question) map[string]int {
	w.Helper()
	out := map[string]int{}
	questions := make([]question, n)
	for i := range questions {
		questions[i] = q
	}
	for _, r := range w.ask(alice, questions...) {
		if r.Code != http.StatusOK {
			w.Errorf("%+v: %d %s", q, r.Code, r.Error)
			continue
		}
		out[strings.Join(strings.Split(r.Seen.Pod, "-")[:2], "-")]++
	}
	return out
}

func (w *world) all(version string, q question) {
	w.Helper()
	if got := w.versions(4, q); got[version] != 4 {
		w.Errorf("%+v is answered by %v, want %s", q, got, version)
	}
}

func routeWeights(w *world) {
	w.with(httpRoute(`{backendRefs: [{name: shop-v1, port: 80, weight: 3}, {name: shop-v2, port: 80}]}`), func() {
		// Of the very first request on; 400 of 1:3 give fewer than 60 once in a million times.
		if got := w.versions(400, get(shopURL)); got["shop-v1"]+got["shop-v2"] != 400 || got["shop-v2"] < 60 || got["shop-v2"] > 145 {
			w.Errorf("%v, want about 300 and 100", got)
		}
		w.all("shop-v2", get("http://shop-v2/x")) // the Services themselves are called as ever
	})
	w.with(httpRoute(`{backendRefs: [{name: shop-v1, port: 80, weight: 0}, {name: shop-v2, port: 80}]}`), func() { w.all("shop-v2", get(shopURL)) })
	if got := w.versions(40, get(shopURL)); len(got) != 2 {
		w.Errorf("without a route: %v, want both versions", got)
	}
}

func routeMatches(w *world) {
	v2 := func(match string) string {
		return `{matches: [` + match + `], backendRefs: [{name: shop-v2, port: 80}]}`
	}
	with := func(name, value string) question {
		return question{URL: shopURL, Headers: http.Header{name: {value}}}
	}
	w.with(httpRoute(v2(`{headers: [{name: Version, value: v2}]}, {headers: [{name: tier, type: RegularExpression, value: "go.d|silver"}]}, {headers: [{name: host, value: other.example}]}, `+
		`{path: {type: Exact, value: /exact}}, {path: {value: /below}}, {path: {type: RegularExpression, value: "/re/[0-9]+"}}, {method: DELETE}, {queryParams: [{name: q, value: "1"}]}`)+
		`, {backendRefs: [{name: shop-v1, port: 80}]}`), func() {
		for _, q := range []question{
			with("version", "v2"), with("tier", "gold"), {URL: shopURL, Host: "other.example"}, get("http://shop/exact"), get("http://shop/exact?x"), get("http://shop/below"), get("http://shop/below/x"),
			get("http://shop/re/77"), {Method: "DELETE", URL: shopURL}, get(shopURL + "?a=b&q=1"),
		} {
			w.all("shop-v2", q)
		}
		for _, q := range []question{
			get(shopURL), with("version", "v22"), with("tier", "golden"), get("http://shop/exact/"), get("http://shop/belowx"), get("http://shop/re/x"), get("http://shop/re/7/x"), get(shopURL + "?q=2"),
		} {
			w.all("shop-v1", q)
		}
	})
}

func routeAnswers(w *world) {
	w.with(httpRoute(`{matches: [{path: {value: /there}}], backendRefs: [{name: shop-v1, port: 80}]}, {matches: [{path: {value: /gone}}], backendRefs: [{name: nobody, port: 80}]}, `+
		`{matches: [{path: {value: /zero}}], backendRefs: [{name: shop-v1, port: 80, weight: 0}]}, {matches: [{path: {value: /half}}], backendRefs: [{name: shop-v1, port: 80}, {name: nobody, port: 80}]}`), func() {
		w.verdicts(verdict{alice, get("http://shop/there"), 200}, verdict{alice, get(shopURL), 404}, verdict{alice, get("http://shop/gone"), 500}, verdict{alice, get("http://shop/zero"), 500})
		codes := map[int]int{}
		half := make([]question, 100)
		for i := range half {
			half[i] = get("http://shop/half")
		}
		for _, r := range w.ask(alice, half...) {
			codes[r.Code]++
		}
		if codes[200]+codes[500] != 100 || codes[500] < 20 || codes[500] > 80 {
			w.Errorf("%v, want half of them 500", codes)
		}
	})
}

// routeChanges is what filters change.
func routeChanges(w *world) {
	rule := func(path, filters, more string) string {
		return `{matches: [{path: {value: ` + path + `}}], filters: [` + filters + `]` + more + `}, `
	}
	to := `, backendRefs: [{name: shop-v1, port: 80}]`
	w.with(httpRoute(
		rule("/headers", `{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-set, value: "100%"}], add: [{name: x-add, value: b}], remove: [x-secret]}},
			{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-answer, value: "%REQ(x)%"}]}}`, to)+
			rule("/host", `{type: URLRewrite, urlRewrite: {hostname: new.example.com}}`, to)+
			rule("/full", `{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: /all}}}`, to)+
			rule("/pre", `{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /new/}}}`, to)+
			rule("/cut", `{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: ""}}}`, to)+
			rule("/moved", `{type: RequestRedirect, requestRedirect: {hostname: x.example.com, statusCode: 301, path: {type: ReplacePrefixMatch, replacePrefixMatch: /now}}}`, "")+
			rule("/secure", `{type: RequestRedirect, requestRedirect: {scheme: https, statusCode: 308}}`, "")+
			rule("/", `{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /root}}}`, to),
	), func() {
		r := w.ask(alice, question{URL: "http://shop/headers", Headers: http.Header{"X-Set": {"a"}, "X-Add": {"a"}, "X-Secret": {"a"}}})[0]
		if got := fmt.Sprint(r.Seen.Headers["X-Set"], r.Seen.Headers["X-Add"], r.Seen.Headers["X-Secret"], r.Headers["X-Answer"]); got != "[100%] [a b] [] [%REQ(x)%]" && got != "[100%] [a,b] [] [%REQ(x)%]" {
			w.Errorf("headers %s", got)
		}
		if r := w.ask(alice, get("http://shop/host"))[0]; r.Seen.Host != "new.example.com" {
			w.Errorf("host %q", r.Seen.Host)
		}
		for path, want := range map[string]string{
			"/full/x": "/all", "/pre": "/new", "/pre/": "/new/", "/pre/x": "/new/x", "/cut": "/", "/cut/": "/", "/cut/x": "/x", "/x": "/root/x",
		} {
			if r := w.ask(alice, get("http://shop"+path))[0]; r.Seen.Path != want {
				w.Errorf("%s arrives as %q, want %q (%d)", path, r.Seen.Path, want, r.Code)
			}
		}
		for path, want := range map[string]string{"/moved/x?q": "301 http://x.example.com/now/x?q", "/secure/x": "308 https://shop/secure/x"} {
			if r := w.ask(alice, get("http://shop"+path))[0]; fmt.Sprint(r.Code, " ", r.Headers.Get("Location")) != want {
				w.Errorf("%s: %d %v, want %s", path, r.Code, r.Headers, want)
			}
		}
	})
}

// routeMirrors: copies go to the other version, whose answers nobody gets.
func routeMirrors(w *world) {
	w.with(httpRoute(`{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: shop-v2, port: 80}}}],
		backendRefs: [{name: shop-v1, port: 80, filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-version, value: v1}]}}]}]}`), func() {
		for range 5 {
			w.verdicts(verdict{alice, get("http://shop/counted"), 200})
		}
		if r := w.ask(alice, get(shopURL))[0]; fmt.Sprint(r.Seen.Headers["X-Version"]) != "[v1]" || r.Seen.Host != "shop" || !strings.HasPrefix(r.Seen.Pod, "shop-v1") {
			w.Errorf("%+v", r.Seen)
		}
		count := ""
		w.eventually("five copies", func() bool {
			count = w.ask(alice, get("http://shop-v2/counted?peek"))[0].Body
			return strings.TrimSpace(count) == "5"
		}, func() string { return count })
	})
}

// routeShifts moves all requests from one version to the other and back, under load: none may fail.
func routeShifts(w *world) {
	shift := func(v1, v2 int) string {
		return httpRoute(fmt.Sprintf(`{backendRefs: [{name: shop-v1, port: 80, weight: %d}, {name: shop-v2, port: 80, weight: %d}]}`, v1, v2))
	}
	w.with(shift(1, 0), func() {
		end, done := make(chan struct{}), sync.WaitGroup{}
		total := 0
		done.Go(func() {
			for {
				select {
				case <-end:
					return
				default:
				}
				for _, n := range w.versions(50, get(shopURL)) {
					total += n
				}
			}
		})
		var open httpAnswer // a request that is under way when its version is left, and is answered by nobody
		done.Go(func() { open = w.get(alice, "-timeout", "5s", "http://shop/slow") })
		for range 3 {
			w.must(w.T, w.named(shift(0, 1)))
			w.all("shop-v2", get(shopURL))
			w.must(w.T, w.named(shift(1, 0)))
			w.all("shop-v1", get(shopURL))
		}
		w.delete(shift(1, 0))
		w.versions(20, get(shopURL))
		w.must(w.T, w.named(shift(1, 0)))
		close(end)
		done.Wait()
		if total == 0 {
			w.Error("no load")
		}
		if open.Code != 0 || !strings.Contains(open.Error, "deadline exceeded") {
			w.Errorf("an open request was ended by a shift: %+v", open)
		}
	})
}

func routeTimeouts(w *world) {
	slow := get("http://shop/slow")
	policy := traffic("t", "kind: Service, name: shop", `timeout: {request: 1h}`)
	w.with(policy+httpRoute(`{timeouts: {request: 200ms}, backendRefs: [{name: shop-v1, port: 80}]}`), func() { w.verdicts(verdict{alice, slow, 504}) })
	ofRule := traffic("t", "group: gateway.networking.k8s.io, kind: HTTPRoute, name: shop, sectionName: slow", `timeout: {request: 200ms}`)
	w.with(httpRoute(`{name: slow, matches: [{path: {value: /slow}}], backendRefs: [{name: shop-v1, port: 80}]}, {backendRefs: [{name: shop-v1, port: 80}]}`)+ofRule, func() {
		w.verdicts(verdict{alice, slow, 504}, verdict{alice, get(shopURL), 200})
	})
	w.with(httpRoute(`{timeouts: {backendRequest: 200ms}, retry: {attempts: 0}, backendRefs: [{name: shop-v1, port: 80}]}`), func() { w.verdicts(verdict{alice, slow, 504}) })
}

// routeUndeclared: a port whose protocol is detected has routes for the requests that are found.
func routeUndeclared(w *world) {
	w.with(httpRouteOf("kind: Service, name: shop, port: 82", `{backendRefs: [{name: shop-v2, port: 80}]}`), func() {
		w.all("shop-v2", get("http://shop:82/x"))
		if got := w.versions(40, get(shopURL)); len(got) != 2 {
			w.Errorf("port 80: %v, want both versions", got)
		}
	})
}

// routeOfConsumer: a route to another namespace's Service is for the clients of
// its own namespace, instead of the Service's own routes; the others keep these.
func routeOfConsumer(w *world) {
	consumer := strings.ReplaceAll(`
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: shop, namespace: features}
spec:
  parentRefs: [{group: "", kind: Service, name: shop, namespace: NS}]
  rules: [{backendRefs: [{name: shop-v2, namespace: NS, port: 80}]}]
`, "NS", w.ns)
	far := "http://shop." + w.ns + "/x"
	answers := func(version string) {
		w.Helper()
		for range 4 {
			if r := w.get(client, far); !strings.HasPrefix(r.Seen.Pod, version) {
				w.Errorf("the client in namespace features is answered by %q (%d), want %s", r.Seen.Pod, r.Code, version)
			}
		}
	}
	w.with(httpRoute(`{backendRefs: [{name: shop-v1, port: 80}]}`), func() {
		answers("shop-v1")
		w.with(consumer, func() {
			answers("shop-v2")
			w.all("shop-v1", get(shopURL))
		})
		answers("shop-v1")
	})
}

// routeRefused says what is wrong with a route, and leaves the Service as it is.
func routeRefused(w *world) {
	for _, c := range []struct{ route, field string }{
		{httpRouteOf("kind: Service, name: nobody", `{backendRefs: [{name: shop-v1, port: 80}]}`), "spec.parentRefs[0].name"},
		{httpRouteOf("kind: Service, name: target, sectionName: tcp", `{backendRefs: [{name: shop-v1, port: 80}]}`), "spec.parentRefs[0]"},
		{httpRoute(`{matches: [{path: {type: RegularExpression, value: "("}}], backendRefs: [{name: shop-v1, port: 80}]}`), "spec.rules[0].matches[0].path.value"},
		{httpRoute(`{matches: [{path: {value: x}}]}`), "spec.rules[0].matches[0].path"},
	} {
		out := w.refused(c.route)
		if len(out.Refused) == 0 || out.Refused[0].Field != c.field {
			w.Errorf("%+v, want %s", out.Refused, c.field)
		}
		w.verdicts(verdict{alice, get(shopURL), 200})
		w.delete(w.named(c.route))
	}
}
