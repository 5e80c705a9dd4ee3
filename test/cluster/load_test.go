package cluster

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// steady is a namespace of the mesh with a service of two replicas, whose
// identities the agent carries (the client's come as the cluster has it). Its pods end as well-behaved ones do: they wait until nobody is sent to them any more.
const steady = `
apiVersion: v1
kind: Namespace
metadata: {name: steady, labels: {meshd.io/inject: enabled}}
---
apiVersion: v1
kind: Service
metadata: {name: target, namespace: steady}
spec:
  selector: {app: target}
  ports: [{name: http, port: 8080}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: target, namespace: steady}
spec:
  replicas: 2
  selector: {matchLabels: {app: target}}
  template:
    metadata: {labels: {app: target}, annotations: {meshd.io/identity: Agent}}
    spec:
      containers:
      - name: target
        image: ghcr.io/meshd-io/eazybank:0.5.0
        command: [eazybank, serve, target, --port, "8080"]
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: {httpGet: {path: /ready, port: http}, periodSeconds: 1}
        lifecycle: {preStop: {sleep: {seconds: 3}}}
`

// loader asks 200 times a second, and says once a second how it stands. It ends by itself.
const loader = `
apiVersion: v1
kind: Pod
metadata: {name: load, namespace: steady, labels: {app: load}}
spec:
  restartPolicy: Never
  containers:
  - name: load
    image: ghcr.io/meshd-io/eazybank:0.5.0
    command: [eazybank, load, "http://target:8080/target", --every, 5ms, --report, 1s, --for, 15m]
`

// outcome is a line that eazybank load prints.
type outcome struct {
	Requests, Failed int
	Codes            map[string]int
	Errors           map[string]int
}

// load is a pod that asks.
type load struct {
	t               *testing.T
	namespace, name string
}

// targeted makes sure that there are meshd, the bank and the target. The latter stays for the next test.
func targeted(t *testing.T) {
	t.Helper()
	installed(t)
	target(t)
}

func target(t *testing.T) {
	t.Helper()
	if _, err := run(steady, "kubectl", "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	if err := rolledOut("steady", "target"); err != nil {
		t.Fatal(err)
	}
}

// underLoad does something to the cluster while a client asks a service of the mesh
// 200 times a second. No request may fail: before, meanwhile and in the seconds after.
func underLoad(t *testing.T, disturb func()) {
	t.Helper()
	targeted(t)
	apply(t, loader)
	loaded(t, disturb, load{t, "steady", "load"})
}

// loaded does something while pods ask; no request of theirs may fail.
func loaded(t *testing.T, disturb func(), loads ...load) {
	t.Helper()
	began, before := time.Now(), make([]outcome, len(loads))
	for i, l := range loads {
		l.further(2)
		before[i] = l.newest()
	}
	disturb()
	for i, l := range loads {
		l.further(3)
		after := l.newest()
		t.Logf("%s: %d requests in %s, %d failed", l.name, after.Requests-before[i].Requests, time.Since(began).Round(time.Second), after.Failed)
		if after.Failed > 0 {
			t.Errorf("%s: %d of %d requests failed: %v %v", l.name, after.Failed, after.Requests, after.Codes, after.Errors)
		}
	}
}

// reports are the lines so far.
func (l load) reports() []outcome {
	out, err := run("", "kubectl", "logs", "-n", l.namespace, l.name, "-c", "load")
	if err != nil {
		return nil // it has not started yet
	}
	var all []outcome
	for line := range strings.Lines(out) {
		var o outcome
		if err := json.Unmarshal([]byte(line), &o); err != nil {
			l.t.Fatalf("%v: %s", err, line)
		}
		all = append(all, o)
	}
	return all
}

func (l load) newest() outcome {
	all := l.reports()
	if len(all) == 0 {
		l.t.Fatal("the load has said nothing")
	}
	return all[len(all)-1]
}

// further waits for n more reports, each with more requests than the one before.
func (l load) further(n int) {
	l.t.Helper()
	had := len(l.reports())
	eventually(l.t, "the load goes on", func() (bool, string) {
		all := l.reports()
		grown := 0
		for i := max(had, 1); i < len(all); i++ {
			if all[i].Requests > all[i-1].Requests {
				grown++
			}
		}
		return grown >= n, fmt.Sprintf("%d reports, %d of them with more requests", len(all)-had, grown)
	})
}
