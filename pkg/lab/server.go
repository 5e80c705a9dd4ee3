package lab

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/meshd-io/meshd/internal/clock"
	"github.com/meshd-io/meshd/pkg/crds"
	"github.com/meshd-io/meshd/pkg/lab/control"
	"github.com/meshd-io/meshd/pkg/lab/kubelet"
	"github.com/meshd-io/meshd/pkg/lab/store"
	"github.com/meshd-io/meshd/pkg/report"
)

// listen makes the socket that only the lab's owner can use.
func listen(ctx context.Context, path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("lab's socket: %w", err)
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("lab's socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// serve answers the command line until ctx is done.
func (d *daemon) serve(ctx context.Context, l net.Listener) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/ping", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("POST /v1/apply", d.handleApply)
	mux.HandleFunc("POST /v1/delete", d.handleDelete)
	mux.HandleFunc("GET /v1/status", d.handleStatus)
	mux.HandleFunc("POST /v1/exec", d.handleExec)
	mux.HandleFunc("GET /v1/logs", d.handleLogs)
	requests, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	s := &http.Server{
		Handler: mux, ReadHeaderTimeout: 10 * time.Second,
		BaseContext: func(net.Listener) context.Context { return requests },
	}
	defer context.AfterFunc(ctx, func() {
		cancel()
		if err := s.Close(); err != nil {
			d.log.Debug("lab's socket", "error", err)
		}
	})()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Document is a file that the user gave.
type Document struct {
	File    string `json:"file"`
	Content []byte `json:"content"`
}

// applyRequest is what `apply` and `delete` send. A deadline of 0 is no waiting.
type applyRequest struct {
	Documents []Document    `json:"documents"`
	Wait      time.Duration `json:"wait"`
}

// Outcome is what came of an `apply` or a `delete`.
type Outcome struct {
	// Objects were taken.
	Objects []report.Object `json:"objects"`
	// Refused says what was not, and why.
	Refused []report.Finding `json:"refused"`
	// Pending says, a line each, what was not as asked for when the time was over.
	Pending []string `json:"pending"`
	// Notes are no faults.
	Notes []string `json:"notes"`

	places map[report.Object]place
}

// place is where an object stands in the user's files.
type place struct {
	file string
	line int
}

// maxRequest bounds what is read of a request, in bytes.
const maxRequest = 64 << 20

func decodeRequest(r *http.Request) (applyRequest, error) {
	var req applyRequest
	err := json.NewDecoder(io.LimitReader(r.Body, maxRequest)).Decode(&req)
	return req, err
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		panic(http.ErrAbortHandler) // the client is gone
	}
}

func (d *daemon) handleApply(w http.ResponseWriter, r *http.Request) {
	req, err := decodeRequest(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	out := d.apply(req.Documents)
	d.reconcile()
	if req.Wait > 0 {
		ctx, cancel := context.WithTimeout(r.Context(), req.Wait)
		defer cancel()
		d.await(ctx, &out)
	}
	for i := range out.Refused {
		if at, ok := out.places[out.Refused[i].Object]; ok && out.Refused[i].File == "" {
			out.Refused[i].File, out.Refused[i].Line = at.file, at.line
		}
	}
	out.Refused = report.Sort(out.Refused)
	d.addNotes(&out)
	reply(w, out)
}

// addNotes adds what the injector said about the objects' pods.
func (d *daemon) addNotes(out *Outcome) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, o := range out.Objects {
		out.Notes = append(out.Notes, d.notes[o]...)
	}
}

// apply stores what the documents hold, in an order that lets a pod be made
// with everything that was given beside it.
func (d *daemon) apply(docs []Document) Outcome {
	out := Outcome{places: map[report.Object]place{}}
	var objects []crds.Object
	for _, doc := range docs {
		found, findings := crds.Decode(doc.Content, doc.File)
		objects = append(objects, found...)
		out.Refused = append(out.Refused, findings...)
	}
	slices.SortStableFunc(objects, func(a, b crds.Object) int { return cmp.Compare(rank(a), rank(b)) })
	seen := map[report.Object]bool{}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, o := range objects {
		f := d.applyOne(o, seen[o.Ref()])
		if !seen[o.Ref()] {
			out.places[o.Ref()] = place{o.File, o.Line}
		}
		seen[o.Ref()] = true
		if f != nil {
			f.File, f.Line = o.File, o.Line
			out.Refused = append(out.Refused, *f)
			continue
		}
		out.Objects = append(out.Objects, o.Ref())
		if note := effect(o.Ref().Kind); note != "" {
			out.Notes = append(out.Notes, o.Ref().String()+": "+note)
		}
	}
	return out
}

func (d *daemon) applyOne(o crds.Object, again bool) *report.Finding {
	if again {
		return &report.Finding{
			Object: o.Ref(), Condition: report.Accepted, Reason: report.Duplicate,
			Message: "the same object was given before; the first one counts",
		}
	}
	return d.store.Apply(o.Resource)
}

// rank: what pods depend on comes before them.
func rank(o crds.Object) int {
	switch o.Ref().Kind {
	case "Namespace", "MeshConfig", "CertificateAuthority":
		return 0
	case "Deployment", "StatefulSet", "DaemonSet", "Job", "Pod":
		return 2
	}
	return 1
}

// effect tells of kinds that the lab keeps and does nothing with.
func effect(kind string) string {
	switch kind {
	case "Namespace", "ServiceAccount", "Service", "EndpointSlice", "Pod", "Secret", "ConfigMap", "Ingress", "IngressClass", "HTTPRoute",
		"Deployment", "StatefulSet", "DaemonSet", "Job",
		"MeshConfig", "CertificateAuthority", "PeerAuthentication", "RequestAuthentication",
		"AuthorizationPolicy", "TrafficPolicy", "Workload":
		return ""
	}
	return "the lab keeps objects of this kind and does nothing with them"
}

func (d *daemon) handleDelete(w http.ResponseWriter, r *http.Request) {
	req, err := decodeRequest(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	out := d.remove(req.Documents)
	d.reconcile()
	if req.Wait > 0 {
		ctx, cancel := context.WithTimeout(r.Context(), req.Wait)
		defer cancel()
		d.awaitGone(ctx, &out)
	}
	reply(w, out)
}

// remove deletes what the documents name; of a document with a fault that is its name only.
func (d *daemon) remove(docs []Document) Outcome {
	var out Outcome
	var named []report.Finding
	for _, doc := range docs {
		found, findings := crds.Decode(doc.Content, doc.File)
		for _, o := range found {
			named = append(named, report.Finding{Object: o.Ref(), File: o.File, Line: o.Line})
		}
		for _, f := range findings {
			if f.Object.Name == "" {
				out.Refused = append(out.Refused, f)
			} else if !slices.ContainsFunc(named, func(n report.Finding) bool { return n.Object == f.Object }) {
				named = append(named, f)
			}
		}
	}
	for _, n := range named {
		if d.store.Delete(n.Object) {
			out.Objects = append(out.Objects, n.Object)
			continue
		}
		out.Refused = append(out.Refused, report.Finding{
			Object: n.Object, Condition: report.Accepted, Reason: report.NotFound, File: n.File, Line: n.Line,
			Message: "there is no such object",
		})
	}
	return out
}

// pod finds the pod that a user names: NAME, or deploy/NAME, sts/, ds/, job/.
func (d *daemon) pod(namespace, name string) (*corev1.Pod, error) {
	view, _ := d.store.View()
	return choosePod(store.List[*corev1.Pod](view), namespace, name)
}

// choosePod prefers, of the pods of an owner, a ready one.
func choosePod(pods []*corev1.Pod, namespace, name string) (*corev1.Pod, error) {
	kind, rest, owned := strings.Cut(name, "/")
	if long := map[string]string{"deployment": "deploy", "statefulset": "sts", "daemonset": "ds", "jobs": "job"}[kind]; owned && long != "" {
		name = long + "/" + rest
	} else if kind == "pod" && owned {
		name, owned = rest, false
	}
	var best *corev1.Pod
	for _, p := range pods {
		if p.Namespace != namespace {
			continue
		}
		if !owned && p.Name == name {
			return p, nil
		}
		if owned && control.Owner(p) == name && (best == nil || better(p, best)) {
			best = p
		}
	}
	if best == nil {
		return nil, fmt.Errorf("namespace %s has no pod %s", namespace, name)
	}
	return best, nil
}

func better(p, q *corev1.Pod) bool {
	score := func(p *corev1.Pod) int {
		switch {
		case control.Ready(p):
			return 2
		case p.DeletionTimestamp == nil && p.Status.Phase == corev1.PodRunning:
			return 1
		}
		return 0
	}
	return score(p) > score(q)
}

func (d *daemon) handleLogs(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	p, err := d.pod(q.Get("namespace"), q.Get("pod"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	container := cmp.Or(q.Get("container"), kubelet.DefaultContainer(p))
	if !hasContainer(p, container) {
		http.Error(w, fmt.Sprintf("pod %s/%s has no container %q", p.Namespace, p.Name, container), http.StatusNotFound)
		return
	}
	follow, _ := strconv.ParseBool(q.Get("follow"))
	d.copyLog(r.Context(), w, p, logRequest{container: container, follow: follow})
}

func hasContainer(p *corev1.Pod, name string) bool {
	is := func(c corev1.Container) bool { return c.Name == name }
	return slices.ContainsFunc(p.Spec.Containers, is) || slices.ContainsFunc(p.Spec.InitContainers, is)
}

type logRequest struct {
	container string
	follow    bool
}

// logTick is how often a followed log is looked at.
const logTick = 100 * time.Millisecond

func (d *daemon) copyLog(ctx context.Context, w http.ResponseWriter, p *corev1.Pod, req logRequest) {
	f, err := os.Open(d.kubelet.LogFile(p, req.container))
	if errors.Is(err, os.ErrNotExist) && !req.follow {
		return // it has not started
	}
	for errors.Is(err, os.ErrNotExist) && clock.Pause(ctx, logTick) {
		f, err = os.Open(d.kubelet.LogFile(p, req.container))
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer f.Close()
	flush := http.NewResponseController(w)
	for {
		_, gone := d.pod(p.Namespace, p.Name)
		if _, err := io.Copy(w, f); err != nil || flush.Flush() != nil {
			return
		}
		if !req.follow || gone != nil || !clock.Pause(ctx, logTick) {
			return
		}
	}
}
