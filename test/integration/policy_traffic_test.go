package integration

import (
	"fmt"
	"strings"
	"sync"

	"github.com/meshd-io/meshd/pkg/lab"
)

func testTraffic(w *world) {
	w.part("timeouts", trafficTimeouts)
	w.part("retries", trafficRetries)
	w.part("circuit breaker", trafficCircuitBreaker)
	w.part("outliers", trafficOutliers)
	w.part("balancing", trafficBalancing)
	w.part("merge", trafficMerge)
	w.part("last good", trafficLastGood)
}

func traffic(name, target, spec string) string {
	return "apiVersion: meshd.io/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: " + name + ", namespace: NS}\nspec: {targetRefs: [{" + target + "}], " + spec + "}\n---\n"
}

const toTarget = "kind: Service, name: target"

func trafficTimeouts(w *world) {
	slow := get("http://target/slow")
	w.with(traffic("t", toTarget, `timeout: {request: 200ms}`), func() {
		w.verdicts(verdict{alice, slow, 504}, verdict{alice, get("http://target/x"), 200})
		// The other Service to the same pods has none.
		if r := w.get(alice, "-timeout", "1s", "http://second/slow"); r.Code != 0 {
			w.Errorf("second: %+v", r)
		}
	})
	w.with(traffic("t", toTarget, `timeout: {backend: 100ms}, retry: {attempts: 2, on: [Reset], codes: [504]}`), func() { w.verdicts(verdict{alice, slow, 504}) })
	if r := w.get(alice, "-timeout", "1s", "http://target/slow"); r.Code != 0 {
		w.Errorf("after deletion: %+v", r)
	}
}

func trafficRetries(w *world) {
	tries := func(key string) string {
		w.Helper()
		return w.ask(alice, get("http://second/tries/"+key))[0].Body
	}
	try := func(key, method string, fail, code int, want string) {
		w.Helper()
		w.verdicts(verdict{alice, question{Method: method, URL: fmt.Sprintf("http://target/flaky/%s/%d", key, fail)}, code})
		if n := tries(key); n != want+" tries" {
			w.Errorf("%s: %s, want %s", key, n, want)
		}
	}
	try("none", "GET", 1, 503, "1")
	w.with(traffic("t", toTarget, `retry: {attempts: 3, codes: [503], backoff: {base: 1ms, max: 2ms}}`), func() {
		try("get", "GET", 3, 200, "4")
		try("too-many", "GET", 4, 503, "4")
		try("post", "POST", 1, 503, "1")
		try("patch", "PATCH", 1, 503, "1")
		try("put", "PUT", 1, 200, "2")
	})
	w.with(traffic("t", toTarget, `retry: {attempts: 1, codes: [503], nonIdempotent: true, backoff: {base: 1ms, max: 2ms}}`), func() {
		try("post-too", "POST", 1, 200, "2")
	})
	w.with(traffic("t", toTarget, `retry: {attempts: 0, codes: [503]}`), func() { try("zero", "GET", 1, 503, "1") })
}

func trafficCircuitBreaker(w *world) {
	w.with(traffic("t", toTarget, `timeout: {request: 2s}, circuitBreaker: {maxRequests: 1, maxPendingRequests: 1, maxConnections: 1}, retry: {attempts: 0}`), func() {
		codes := map[int]int{}
		var mu sync.Mutex
		var group sync.WaitGroup
		for range 4 {
			group.Go(func() {
				r := w.get(alice, "http://target/slow")
				mu.Lock()
				codes[r.Code]++
				mu.Unlock()
			})
		}
		group.Wait()
		if codes[504] == 0 || codes[503] == 0 || codes[503]+codes[504] != 4 {
			w.Errorf("%v", codes)
		}
	})
}

const replicas = `
apiVersion: v1
kind: Service
metadata: {name: pair, namespace: NS}
spec: {selector: {app: pair}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: pair, namespace: NS}
spec:
  replicas: 2
  selector: {matchLabels: {app: pair}}
  template:
    metadata: {labels: {app: pair}}
    spec: {containers: [{name: app, image: app, command: [app, serve, "http:8080"]}]}
---
`

// pods that answered, and how many answers were not 200.
func (w *world) spread(url string, n int) (pods map[string]int, bad int) {
	w.Helper()
	pods = map[string]int{}
	var all []question
	for range n {
		all = append(all, get(url))
	}
	for _, r := range w.ask(alice, all...) {
		if r.Code != 200 {
			bad++
			continue
		}
		pods[r.Seen.Pod]++
	}
	return pods, bad
}

func trafficOutliers(w *world) {
	w.with(replicas+traffic("t", "kind: Service, name: pair", `outlierDetection: {consecutiveErrors: 2, interval: 100ms, baseEjection: 300s, maxEjectedPercent: 50}`), func() {
		sick := w.pod(w.ns, "pair-")
		w.verdicts(verdict{alice, get("http://" + sick.Address + ":8080/sick"), 200})
		var pods map[string]int
		var bad int
		w.eventually("the sick one is left out", func() bool {
			pods, bad = w.spread("http://pair/health", 20)
			return bad == 0
		}, func() string { return fmt.Sprint(pods, bad) })
		if pods[sick.Name] > 0 || pods[""] > 0 || len(pods) != 1 {
			w.Errorf("%v", pods)
		}
	})
}

func trafficBalancing(w *world) {
	for _, policy := range []string{"RoundRobin", "LeastRequest", "Random"} {
		w.with(replicas+traffic("t", "kind: Service, name: pair", `loadBalancing: {policy: `+policy+`}`), func() {
			if pods, bad := w.spread("http://pair/x", 30); len(pods) != 2 || bad > 0 {
				w.Errorf("%s: %v, %d", policy, pods, bad)
			}
		})
	}
}

func trafficMerge(w *world) {
	slow := func(want int) {
		w.Helper()
		if r := w.get(alice, "-timeout", "2s", "http://target/slow"); r.Code != want {
			w.Errorf("%+v, want %d", r, want)
		}
	}
	quick, never := `timeout: {request: 150ms}`, `timeout: {request: 1h}`
	w.with(meshConfig(`{defaults: {traffic: {`+quick+`}}}`), func() {
		slow(504)
		w.with(traffic("namespace", "kind: Namespace", never), func() {
			slow(0)
			w.with(traffic("service", toTarget, quick+`, retry: {attempts: 1, codes: [503]}`), func() {
				slow(504)
				w.with(traffic("younger", toTarget, never), func() {
					slow(504)
					st := w.status("TrafficPolicy", "younger")
					c := w.condition("TrafficPolicy", "younger", "Accepted")
					if c.Status != "True" || c.Reason != "Overridden" || !strings.Contains(c.Message, w.ns+"/service") {
						w.Errorf("%+v", c)
					}
					if len(st.Targets) != 1 || len(st.Targets[0].OverriddenBy) != 1 || st.Targets[0].OverriddenBy[0] != "TrafficPolicy "+w.ns+"/service" {
						w.Errorf("%+v", st)
					}
				})
			})
			// Another group of the same Service leaves the namespace's timeout.
			w.with(traffic("service", toTarget, `retry: {attempts: 1}`), func() { slow(0) })
		})
	})
	slow(0)
}

func trafficLastGood(w *world) {
	w.with(traffic("changed", toTarget, `timeout: {request: 150ms}`), func() {
		for _, bad := range []string{
			`loadBalancing: {policy: Maglev, hash: {header: x}}`, `timeout: {request: 1x}`, `retry: {on: []}`, `rateLimit: {requests: 1, per: 1s}`,
			`retry: {codes: [200]}`, `circuitBreaker: {maxRequests: -1}`, `timeout: {request: 1s, backend: 2s}`, `timeout: {request: -1s}`,
			`outlierDetection: {maxEjectedPercent: 101}`, `unknown: 1`, `retry: {attempts: 3.5}`, `timeout: 5`,
		} {
			out := w.refused(traffic("changed", toTarget, bad))
			if len(out.Refused) != 1 || out.Refused[0].Field == "" {
				w.Errorf("%s: %+v", bad, out)
			}
			w.verdicts(verdict{alice, get("http://target/slow"), 504})
		}
	})
	var out lab.Outcome
	w.part("dangling", func(w *world) {
		w.must(w.T, strings.ReplaceAll(traffic("dangling", "kind: Service, name: nowhere", `retry: {attempts: 1}`), "NS", w.ns))
		if c := w.condition("TrafficPolicy", "dangling", "ResolvedRefs"); c.Status != "False" || c.Reason != "NotFound" || !strings.Contains(c.Message, "nowhere") {
			w.Errorf("%+v %+v", c, out)
		}
		w.delete(traffic("dangling", toTarget, `retry: {attempts: 1}`))
	})
}
