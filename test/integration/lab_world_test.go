package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/meshd-io/meshd/pkg/lab"
)

// world is what one feature's test sees of the lab: its own namespace, and the common pods.
type world struct {
	*testing.T
	*mesh
	ns string
}

// apply gives the lab objects; NS stands for the feature's own namespace, which is made and in the mesh.
func (w *world) apply(yaml string) {
	w.Helper()
	own := "apiVersion: v1\nkind: Namespace\nmetadata: {name: NS, labels: {meshd.io/inject: enabled}}\n---\n"
	w.must(w.T, strings.ReplaceAll(own+yaml, "NS", w.ns))
	w.Cleanup(func() { w.delete(yaml) })
}

// delete takes objects away; what is gone already does not matter.
func (w *world) delete(yaml string) {
	w.Helper()
	docs := []lab.Document{{File: "test.yaml", Content: []byte(strings.ReplaceAll(yaml, "NS", w.ns))}}
	out, err := w.Delete(context.WithoutCancel(w.Context()), docs, applyTime)
	if err != nil {
		w.Error(err)
	}
	if len(out.Pending) > 0 {
		w.Errorf("not gone: %v", out.Pending)
	}
}

// in names a pod: [NAMESPACE/]POD or [NAMESPACE/]deploy/NAME (or job/), and its container after "@".
func (w *world) in(pod string) lab.Target {
	pod, container, _ := strings.Cut(pod, "@")
	t := lab.Target{Namespace: w.ns, Pod: pod, Container: container}
	if ns, rest, ok := strings.Cut(pod, "/"); ok && ns != "deploy" && ns != "job" {
		t.Namespace, t.Pod = ns, rest
	}
	return t
}

const commandTime = 60 * time.Second

// exec runs a command in a pod.
func (w *world) exec(pod string, command ...string) (stdout string, code int) {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), commandTime)
	defer cancel()
	var out, errs bytes.Buffer
	code, err := w.Exec(ctx, w.in(pod), command, lab.Streams{Out: &out, Err: &errs})
	if err != nil {
		w.Fatalf("%s: %v: %v", pod, command, err)
	}
	if errs.Len() > 0 {
		w.Logf("%s: %v: exit %d: %s", pod, command, code, errs.String())
	}
	return out.String(), code
}

// app runs the application's client in a pod and reads its answer.
func app[T any](w *world, pod string, args ...string) T {
	w.Helper()
	out, code := w.exec(pod, append([]string{"app"}, args...)...)
	var v T
	if code != 0 {
		w.Fatalf("%s: app %v: exit %d: %s", pod, args, code, out)
	}
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		w.Fatalf("%s: app %v: %v: %s", pod, args, err, out)
	}
	return v
}

type httpAnswer struct {
	Code    int
	Proto   string
	Body    string
	Seen    seen
	Headers http.Header
	Error   string
}

// seen is what the application's server says of a request.
type seen struct {
	Pod, Peer, Proto, Host, Path string
	Headers                      http.Header
}

type tcpAnswer struct {
	Connected              bool
	Local, First, Received string
	Error                  string
}

type grpcAnswer struct {
	Check, Watch string
	Pongs        []string
	Error        string
}

func (w *world) get(pod string, args ...string) httpAnswer {
	w.Helper()
	return app[httpAnswer](w, pod, append([]string{"get"}, args...)...)
}

func (w *world) tcp(pod string, args ...string) tcpAnswer {
	w.Helper()
	return app[tcpAnswer](w, pod, append([]string{"tcp"}, args...)...)
}

// meshed wants an answer of 200 that came by both sidecars: the application's
// peer is its own proxy, which vouches for the caller's identity.
func (w *world) meshed(a httpAnswer, caller string) {
	w.Helper()
	w.answered(a)
	if !fromProxy(a.Seen.Peer) {
		w.Errorf("the application's peer is %s, not its own proxy", a.Seen.Peer)
	}
	want := "URI=spiffe://cluster.local/ns/" + strings.ReplaceAll(caller, "/", "/sa/")
	if got := a.Seen.Headers.Get("X-Forwarded-Client-Cert"); !slices.Contains(strings.Split(got, ";"), want) {
		w.Errorf("the caller's identity is %q, want %s", got, want)
	}
}

func (w *world) answered(a httpAnswer) {
	w.Helper()
	if a.Code != http.StatusOK || a.Error != "" {
		w.Fatalf("answer: %+v", a)
	}
}

// cut wants a connection that was ended without an answer, not one that nobody answered.
func (w *world) cut(a httpAnswer) {
	w.Helper()
	ended := func(words string) bool { return strings.Contains(a.Error, words) }
	if a.Code != 0 || !slices.ContainsFunc([]string{"reset", "EOF", "closed"}, ended) {
		w.Errorf("want no answer, got %+v", a)
	}
}

// fromProxy tells whether a connection was made by the pod's own proxy.
func fromProxy(peer string) bool {
	a, err := netip.ParseAddrPort(peer)
	return err == nil && slices.Contains([]string{"127.0.0.6", "::6"}, a.Addr().Unmap().String())
}

// pod is the first pod of a namespace whose name begins so.
func (w *world) pod(namespace, prefix string) lab.PodStatus {
	w.Helper()
	s, err := w.Status(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	for _, p := range s.Pods {
		if p.Namespace == namespace && strings.HasPrefix(p.Name, prefix) && p.Phase != "Terminating" {
			return p
		}
	}
	w.Fatalf("no pod %s/%s*: %+v", namespace, prefix, s.Pods)
	return lab.PodStatus{}
}

// eventually asks again until it holds.
func (w *world) eventually(what string, holds func() bool, seen func() string) {
	w.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	end := time.After(commandTime)
	for !holds() {
		select {
		case <-tick.C:
		case <-end:
			w.Fatalf("%s: not within %s: %s", what, commandTime, seen())
		}
	}
}

// healthy holds after every test: no proxy has refused anything, and no proxy,
// agent or meshd has complained of what the test does not provoke.
func (w *world) healthy() {
	s, err := w.Status(context.WithoutCancel(w.Context()))
	if err != nil {
		w.Error(err)
	}
	for _, p := range s.Proxies {
		for _, typ := range p.Types {
			for _, r := range typ.Rejected {
				w.Errorf("%s has refused %s %s: %s", p.Name, typ.Type, r.Resource, r.Message)
			}
		}
	}
	if bad := w.logs.complaints(); bad != "" {
		w.Errorf("complaints in the logs:\n%s", bad)
	}
	if w.Failed() {
		w.Logf("logs:\n%s", w.logs.all(w.ns+"_", "meshd-system_"))
	}
}

// logs are the containers' outputs. Each complaint is told once.
type logs struct {
	dir string

	mu   sync.Mutex
	read map[string]int // bytes seen, by file
}

// complaints are the new lines that no test expects.
func (l *logs) complaints() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out strings.Builder
	files, _ := filepath.Glob(filepath.Join(l.dir, "*", "meshd*.log"))
	files = append(files, filepath.Join(filepath.Dir(l.dir), "daemon.log"))
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil || len(raw) <= l.read[f] {
			continue
		}
		fresh := raw[l.read[f]:]
		l.read[f] = len(raw)
		for line := range strings.Lines(string(fresh)) {
			if complaint.MatchString(line) && !explained.MatchString(line) {
				out.WriteString(filepath.Base(filepath.Dir(f)) + "/" + filepath.Base(f) + ": " + line)
			}
		}
	}
	return out.String()
}

var (
	complaint = regexp.MustCompile(`\]\[(error|critical)\]|\[warning\]\[config\]|rejected|level=ERROR|"level":"ERROR"|"PodGone"|panic|DATA RACE|Caught`)
	explained = regexp.MustCompile(strings.Join([]string{
		// A proxy starts before its agent has a certificate, and outlives meshd.
		`DeltaAggregatedResources gRPC config stream (to .* )?closed`,
		`DeltaClusters gRPC config stream (to .* )?closed`,
		`StreamSecrets|DeltaSecrets`,
	}, "|"))
)

// all is the last of every log of pods whose folder's name begins so.
func (l *logs) all(prefixes ...string) string {
	var out strings.Builder
	files, _ := filepath.Glob(filepath.Join(l.dir, "*", "*.log"))
	for _, f := range files {
		pod := filepath.Base(filepath.Dir(f))
		if !slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(pod, p) }) {
			continue
		}
		raw, err := os.ReadFile(f)
		if err != nil || len(raw) == 0 {
			continue
		}
		out.WriteString("--- " + pod + "/" + filepath.Base(f) + "\n" + string(raw[max(0, len(raw)-6000):]) + "\n")
	}
	return out.String()
}

func itoa(n int) string { return strconv.Itoa(n) }
