package lab

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/meshd-io/meshd/pkg/lab/sandbox"
)

// testLab is a lab without a mesh, for one test binary.
type testLab struct {
	*Client
	t   *testing.T
	dir string
}

func startTestLab(t *testing.T) *testLab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: the ranges of a rootless lab are its own, and are tested elsewhere")
	}
	if err := sandbox.Check(); err != nil {
		t.Skip(err)
	}
	dir := filepath.Join(t.TempDir(), "lab")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	err := EnsureStarted(ctx, StartOptions{Dir: dir, Args: []string{"test-daemon", dir}, Env: os.Environ(), Network: testRanges()})
	t.Cleanup(func() {
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(dir, daemonLog))
			t.Logf("daemon:\n%s", log)
		}
		if err := Down(context.Background(), dir); err != nil {
			t.Error(err)
		}
		if word, err := os.ReadFile(dir + ".error"); err == nil {
			t.Errorf("the daemon did not end well: %s", word)
		}
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("the lab's folder is left: %v", err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return &testLab{Client: NewClient(dir), t: t, dir: dir}
}

func (l *testLab) apply(yaml string) Outcome {
	l.t.Helper()
	out, err := l.Apply(l.t.Context(), []Document{{File: "test.yaml", Content: []byte(yaml)}}, 30*time.Second)
	if err != nil {
		l.t.Fatal(err)
	}
	return out
}

// must is apply where nothing may be refused or left over.
func (l *testLab) must(yaml string) {
	l.t.Helper()
	if out := l.apply(yaml); len(out.Refused)+len(out.Pending) > 0 {
		l.t.Fatalf("refused: %v, pending: %v", out.Refused, out.Pending)
	}
}

func (l *testLab) exec(pod string, stdin string, command ...string) (stdout, stderr string, code int) {
	l.t.Helper()
	var out, errs bytes.Buffer
	code, err := l.Exec(l.t.Context(), Target{Namespace: "shop", Pod: pod}, command, Streams{In: strings.NewReader(stdin), Out: &out, Err: &errs})
	if err != nil {
		l.t.Fatalf("exec %v: %v", command, err)
	}
	return out.String(), errs.String(), code
}

const twoPods = `
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: page, namespace: shop}
data: {index.html: hello from the config map, greeting: hi}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  ipFamilyPolicy: PreferDualStack
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: http}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: python
        command: [python3, -m, http.server, "8000", --bind, "::", --directory, /srv/page]
        ports: [{name: http, containerPort: 8000}]
        readinessProbe: {httpGet: {path: /index.html, port: http}, periodSeconds: 1}
        volumeMounts: [{name: page, mountPath: /srv/page}]
      volumes: [{name: page, configMap: {name: page, items: [{key: index.html, path: index.html}]}}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: client, namespace: shop}
spec:
  selector: {matchLabels: {app: client}}
  template:
    metadata: {labels: {app: client}}
    spec:
      securityContext: {runAsUser: 1000, runAsGroup: 1000, fsGroup: 2000}
      containers:
      - name: client
        image: any
        command: [sleep, infinity]
        workingDir: /work
        env:
        - {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
        - {name: GREETING, valueFrom: {configMapKeyRef: {name: page, key: greeting}}}
        - {name: BOTH, value: "$(GREETING) $(POD)"}
        volumeMounts: [{name: work, mountPath: /work}, {name: token, mountPath: /tokens}]
      volumes:
      - {name: work, emptyDir: {}}
      - {name: token, projected: {sources: [{serviceAccountToken: {audience: meshd, path: token}}]}}
`

const fetch = `import sys,urllib.request; sys.stdout.write(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode())`

func TestLab(t *testing.T) {
	l := startTestLab(t)
	l.must(twoPods)

	t.Run("status", func(t *testing.T) {
		s, err := l.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(s.Pods) != 3 {
			t.Fatalf("pods: %+v", s.Pods)
		}
		for _, p := range s.Pods {
			if !p.Ready || p.Phase != "Running" || len(p.Addresses) != 2 || !strings.HasPrefix(p.Owner, "deploy/") {
				t.Errorf("pod: %+v", p)
			}
		}
	})
	t.Run("services resolve and answer", func(t *testing.T) {
		for _, url := range []string{"http://web/index.html", "http://web.shop/index.html", "http://web.shop.svc/index.html", "http://web.shop.svc.cluster.local/index.html"} {
			out, errs, code := l.exec("deploy/client", "", "python3", "-c", fetch, url)
			if code != 0 || out != "hello from the config map" {
				t.Errorf("%s: %d %q %q", url, code, out, errs)
			}
		}
	})
	t.Run("exec", func(t *testing.T) {
		if out, _, code := l.exec("deploy/client", "some input", "sh", "-c", "cat; echo to stderr >&2; exit 7"); code != 7 || out != "some input" {
			t.Errorf("%d %q", code, out)
		}
		if _, errs, code := l.exec("deploy/client", "", "no-such-command"); code != 127 || errs == "" {
			t.Errorf("%d %q", code, errs)
		}
		out, _, _ := l.exec("deploy/client", "", "sh", "-c", `id -u; id -G; pwd; echo "$BOTH"; touch x && stat -c %g x; cut -d. -f2 /tokens/token | wc -c`)
		lines := strings.Split(out, "\n")
		if lines[0] != "1000" || lines[2] != "/work" || !strings.HasPrefix(lines[3], "hi client-") || lines[4] != "2000" {
			t.Errorf("%q", out)
		}
	})
	t.Run("rolling update drops no request", func(t *testing.T) { testRollingUpdate(t, l) })
}

// testRollingUpdate asks all the time while the Deployment's template changes.
func testRollingUpdate(t *testing.T, l *testLab) {
	const loop = `import sys,time,urllib.request
n=bad=0
while not sys.stdin.closed:
    import select
    if select.select([sys.stdin],[],[],0)[0]: break
    try:
        urllib.request.urlopen("http://web/index.html", timeout=5).read(); n+=1
    except Exception as e:
        bad+=1; print("bad", e)
print(n>0, bad)`
	in, feed, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	done := make(chan error, 1)
	go func() {
		_, err := l.Exec(t.Context(), Target{Namespace: "shop", Pod: "deploy/client"}, []string{"python3", "-c", loop}, Streams{In: in, Out: &out, Err: &out})
		done <- err
	}()
	// The servers end only when they have answered: that is the application's own part.
	l.must(strings.ReplaceAll(twoPods, "image: python", "image: python2\n        lifecycle: {preStop: {exec: {command: [sleep, \"0.2\"]}}}"))
	if err := feed.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if out.String() != "True 0\n" {
		t.Errorf("%s", out.String())
	}
}

func TestRefusals(t *testing.T) {
	l := startTestLab(t)
	out := l.apply(`
apiVersion: v1
kind: Service
metadata: {name: good, namespace: shop}
spec: {ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: bad, namespace: shop}
spec: {ports: [{port: 80}], colour: red}
---
apiVersion: v1
kind: Pod
metadata: {name: silent, namespace: shop}
spec: {containers: [{name: app, image: nginx}]}
`)
	if len(out.Objects) != 1 || len(out.Refused) != 2 {
		t.Fatalf("%+v", out)
	}
	for _, f := range out.Refused {
		if f.File != "test.yaml" || f.Line == 0 || f.Field == "" {
			t.Errorf("%+v", f)
		}
	}
}
