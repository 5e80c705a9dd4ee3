package integration

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/meshd-io/meshd/pkg/lab"
)

// policyPods are in every policy feature's own namespace: a server that is
// reached in several ways, and two clients, alice and bob.
const policyPods = `
apiVersion: v1
kind: ServiceAccount
metadata: {name: alice, namespace: NS}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: bob, namespace: NS}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: alice, namespace: NS}
spec:
  selector: {matchLabels: {app: alice}}
  template:
    metadata: {labels: {app: alice}}
    spec: {serviceAccountName: alice, containers: [{name: app, image: app, command: [sleep, infinity]}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: bob, namespace: NS}
spec:
  selector: {matchLabels: {app: bob}}
  template:
    metadata: {labels: {app: bob}}
    spec: {serviceAccountName: bob, containers: [{name: app, image: app, command: [sleep, infinity]}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: target, namespace: NS}
spec:
  selector: {matchLabels: {app: target}}
  template:
    metadata: {labels: {app: target}}
    spec:
      containers:
      - name: app
        image: app
        command: [app, serve, "http:8080", "http:8081", "http:8082", "echo:9001", "grpc:9004"]
        readinessProbe: {httpGet: {path: /ready, port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: target, namespace: NS}
spec: {selector: {app: target}, ports: [{name: http, port: 80, targetPort: 8080}, {name: tcp, port: 9001}, {name: grpc, port: 9004}]}
---
apiVersion: v1
kind: Service
metadata: {name: second, namespace: NS}
spec: {selector: {app: target}, ports: [{name: http, port: 80, targetPort: 8080}, {name: http-more, port: 81, targetPort: 8081}]}
---
apiVersion: v1
kind: Service
metadata: {name: bare, namespace: NS}
spec: {clusterIP: None, selector: {app: target}, ports: [{name: http, port: 8080}]}
`

const (
	alice = "deploy/alice"
	bob   = "deploy/bob"
)

// question is one HTTP request; see the application's.
type question struct {
	Method  string      `json:"method,omitempty"`
	URL     string      `json:"url"`
	Host    string      `json:"host,omitempty"`
	H2      bool        `json:"h2,omitempty"`
	Headers http.Header `json:"headers,omitempty"`
}

type reply struct {
	httpAnswer
	Reused      bool
	Certificate []string
}

// ask asks from one pod, in order, on kept connections.
func (w *world) ask(pod string, questions ...question) []reply {
	w.Helper()
	var in, out, errs bytes.Buffer
	for _, q := range questions {
		if err := json.NewEncoder(&in).Encode(q); err != nil {
			w.Fatal(err)
		}
	}
	code, err := w.Exec(w.Context(), w.in(pod), []string{"app", "ask"}, lab.Streams{In: &in, Out: &out, Err: &errs})
	if err != nil || code != 0 {
		w.Fatalf("%s: exit %d, %v: %s", pod, code, err, errs.String())
	}
	var replies []reply
	for dec := json.NewDecoder(&out); dec.More(); {
		var r reply
		if err := dec.Decode(&r); err != nil {
			w.Fatal(err)
		}
		replies = append(replies, r)
	}
	if len(replies) != len(questions) {
		w.Fatalf("%s: %d answers to %d questions", pod, len(replies), len(questions))
	}
	return replies
}

// verdict is a request and what should come of it; 0 is no answer at all.
type verdict struct {
	from string
	q    question
	code int
}

// verdicts asks all questions, those of one pod at once.
func (w *world) verdicts(all ...verdict) {
	w.Helper()
	byPod := map[string][]verdict{}
	for _, v := range all {
		byPod[v.from] = append(byPod[v.from], v)
	}
	for pod, vs := range byPod {
		var questions []question
		for _, v := range vs {
			questions = append(questions, v.q)
		}
		for i, r := range w.ask(pod, questions...) {
			if q := vs[i].q; r.Code != vs[i].code {
				w.Errorf("%s: %s %s %v h2=%t: %d %s%s, want %d", pod, q.Method, q.URL, q.Headers, q.H2, r.Code, r.Error, strings.TrimSpace(first(r.Body, 200)), vs[i].code)
			}
		}
	}
}

func first(s string, n int) string { return s[:min(n, len(s))] }

func get(url string) question { return question{URL: url} }

// with applies objects for the time of a test; none may be refused.
func (w *world) with(yaml string, test func()) {
	w.Helper()
	yaml = w.named(yaml)
	w.must(w.T, yaml)
	test()
	w.delete(yaml)
}

// named puts the feature's namespace in place of NS, and leaves alone what only looks like it in a certificate.
func (w *world) named(yaml string) string {
	yaml = strings.ReplaceAll(yaml, "namespace: NS", "namespace: "+w.ns)
	return strings.ReplaceAll(yaml, "/ns/NS/", "/ns/"+w.ns+"/")
}

func documents(yaml string) []lab.Document {
	return []lab.Document{{File: "test.yaml", Content: []byte(yaml)}}
}

// refused applies objects of which some must be refused, and gives what was said of them.
func (w *world) refused(yaml string) lab.Outcome {
	w.Helper()
	out, err := w.Apply(w.Context(), documents(w.named(yaml)), applyTime)
	if err != nil {
		w.Fatal(err)
	}
	if len(out.Refused) == 0 || len(out.Pending) > 0 {
		w.Errorf("nothing is refused: %+v", out)
	}
	return out
}
