package lab

import (
	"context"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/meshd-io/meshd/internal/clock"
)

// eventually asks the status until it holds.
func (l *testLab) eventually(what string, holds func(Status) bool) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), 20*time.Second)
	defer cancel()
	for {
		s, err := l.Status(ctx)
		if err != nil {
			l.t.Fatalf("%s: %v", what, err)
		}
		if holds(s) {
			return
		}
		if !clock.Pause(ctx, 20*time.Millisecond) {
			l.t.Fatalf("%s: %+v", what, s.Pods)
		}
	}
}

func (s Status) pod(owner string) PodStatus {
	for _, p := range s.Pods {
		if p.Owner == owner || p.Owner == "" && p.Name == owner {
			return p
		}
	}
	return PodStatus{}
}

// gated is ready while the file /state/ready is there, and alive until /state/dead is.
const gated = `
apiVersion: v1
kind: Service
metadata: {name: gated, namespace: shop}
spec: {selector: {app: gated}, ports: [{port: 80, targetPort: 8000}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: gated, namespace: shop}
spec:
  selector: {matchLabels: {app: gated}}
  template:
    metadata: {labels: {app: gated}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: gated
        image: any
        command: [python3, -m, http.server, "8000"]
        readinessProbe: {exec: {command: [test, -e, /state/ready]}, periodSeconds: 1, failureThreshold: 1}
        livenessProbe: {exec: {command: [test, "!", -e, /state/dead]}, periodSeconds: 1, failureThreshold: 1}
        volumeMounts: [{name: state, mountPath: /state}]
      volumes: [{name: state, emptyDir: {medium: Memory}}]
`

func TestProbes(t *testing.T) {
	l := startTestLab(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := l.Apply(ctx, []Document{{File: "test.yaml", Content: []byte(gated)}}, 0); err != nil {
		t.Fatal(err)
	}
	l.eventually("it runs", func(s Status) bool { return s.pod("deploy/gated").Phase == "Running" })
	if s, err := l.Status(ctx); err != nil || s.pod("deploy/gated").Ready {
		t.Fatalf("ready without its file: %+v %v", s.Pods, err)
	}
	if _, errs, code := l.exec("deploy/gated", "", "python3", "-c", fetch, "http://gated"); code == 0 || !strings.Contains(errs, "refused") {
		t.Fatalf("a Service without a ready pod answers: %d %s", code, errs)
	}
	l.exec("deploy/gated", "", "touch", "/state/ready")
	l.eventually("ready by its probe", func(s Status) bool { return s.pod("deploy/gated").Ready })
	if _, errs, code := l.exec("deploy/gated", "", "python3", "-c", fetch, "http://gated"); code != 0 {
		t.Fatalf("a ready pod is not reached: %s", errs)
	}
	l.exec("deploy/gated", "", "rm", "/state/ready")
	l.eventually("unready by its probe", func(s Status) bool { return !s.pod("deploy/gated").Ready })
	l.exec("deploy/gated", "", "touch", "/state/dead")
	l.eventually("started again by its liveness probe", func(s Status) bool {
		c := s.pod("deploy/gated").Containers
		return len(c) > 0 && c[0].Restarts > 0
	})
}

const jobs = `
apiVersion: batch/v1
kind: Job
metadata: {name: seed, namespace: shop}
spec:
  template:
    spec:
      restartPolicy: OnFailure
      initContainers:
      - {name: first, image: any, command: [sh, -c, "echo first >> /out/order"], volumeMounts: [{name: out, mountPath: /out}]}
      - name: helper
        image: any
        restartPolicy: Always
        command: [sh, -c, "echo helper >> /out/order; touch /out/up; trap 'echo stopped; exit 0' TERM; while :; do sleep 0.05; done"]
        startupProbe: {exec: {command: [test, -e, /out/up]}, periodSeconds: 1}
        volumeMounts: [{name: out, mountPath: /out}]
      - {name: second, image: any, command: [sh, -c, "echo second >> /out/order"], volumeMounts: [{name: out, mountPath: /out}]}
      containers:
      - name: work
        image: any
        command: [sh, -c]
        args: ["cat /out/order; test -e /out/retried || { touch /out/retried; exit 3; }; echo done"]
        volumeMounts: [{name: out, mountPath: /out}]
      volumes: [{name: out, emptyDir: {}}]
`

func TestJobWithNativeSidecarCompletes(t *testing.T) {
	l := startTestLab(t)
	l.must(jobs)
	l.eventually("it succeeds", func(s Status) bool { return s.pod("job/seed").Phase == "Succeeded" })
	s, err := l.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p := s.pod("job/seed")
	if len(p.Containers) != 4 || !p.Containers[1].Sidecar || p.Containers[1].State != "terminated" || p.Containers[3].Restarts != 1 {
		t.Errorf("%+v", p.Containers)
	}
	for container, want := range map[string]string{
		"":       "first\nhelper\nsecond\nfirst\nhelper\nsecond\ndone\n",
		"helper": "stopped\n",
	} {
		var out strings.Builder
		if err := l.Logs(t.Context(), Target{Namespace: "shop", Pod: "job/seed", Container: container}, false, &out); err != nil || out.String() != want {
			t.Errorf("log of %q: %q %v", container, out.String(), err)
		}
	}
}

const sets = `
apiVersion: v1
kind: Secret
metadata: {name: key, namespace: shop}
stringData: {key: "%KEY%"}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {clusterIP: None, selector: {app: db}, ports: [{port: 8000}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db, namespace: shop}
spec:
  serviceName: db
  replicas: 2
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      containers:
      - name: db
        image: any
        command: [sh, -c, "exec python3 -m http.server 8000 --directory /keys"]
        readinessProbe: {tcpSocket: {port: 8000}, periodSeconds: 1}
        volumeMounts: [{name: key, mountPath: /keys}, {name: key, mountPath: /single, subPath: key}]
      volumes: [{name: key, secret: {secretName: key, defaultMode: 0400}}]
`

func TestStatefulSetAndSecret(t *testing.T) {
	l := startTestLab(t)
	l.must(strings.ReplaceAll(sets, "%KEY%", "one"))
	out, errs, code := l.exec("db-0", "", "python3", "-c", fetch, "http://db-1.db:8000/key")
	if code != 0 || out != "one" {
		t.Errorf("pod by its name: %q %s", out, errs)
	}
	if out, _, _ := l.exec("db-1", "", "sh", "-c", "hostname; hostname -f; cat /single; stat -Lc %a /keys/key"); out != "db-1\ndb-1.db.shop.svc.cluster.local\none400\n" {
		t.Errorf("%q", out)
	}
	l.must(strings.ReplaceAll(sets, "%KEY%", "two"))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for {
		if out, _, _ = l.exec("db-0", "", "cat", "/keys/key"); out == "two" {
			break
		}
		if !clock.Pause(ctx, 20*time.Millisecond) {
			t.Fatalf("the volume does not follow its Secret: %q", out)
		}
	}
	if outcome, err := l.Delete(ctx, []Document{{File: "x", Content: []byte(sets)}}, 10*time.Second); err != nil || len(outcome.Objects) != 3 || len(outcome.Pending) > 0 {
		t.Fatalf("%+v %v", outcome, err)
	}
	if s, err := l.Status(ctx); err != nil || len(s.Pods) != 0 {
		t.Errorf("%+v %v", s.Pods, err)
	}
}

func TestUpAfterKill(t *testing.T) {
	l := startTestLab(t)
	l.must(jobs)
	h, ok := readHandle(l.dir)
	if !ok {
		t.Fatal("no handle")
	}
	if err := syscall.Kill(h.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for !errors.Is(l.Ping(ctx), ErrNoLab) || h.Alive() {
		if !clock.Pause(ctx, 10*time.Millisecond) {
			t.Fatal("it does not end")
		}
	}
	if err := EnsureStarted(ctx, StartOptions{Dir: l.dir, Args: []string{"test-daemon", l.dir}, Env: os.Environ(), Network: testRanges()}); err != nil {
		t.Fatal(err)
	}
	if s, err := l.Status(ctx); err != nil || len(s.Pods) != 0 {
		t.Errorf("a new lab is empty: %+v %v", s.Pods, err)
	}
}
