package injector_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	jsonpatch "github.com/evanphx/json-patch/v5"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"github.com/meshd-io/meshd/internal/golden"
	"github.com/meshd-io/meshd/pkg/injector"
)

// namespaces are what the webhook is told of; shop is in the mesh.
type namespaces map[string]map[string]string

func (n namespaces) Namespace(name string) (*corev1.Namespace, bool) {
	labels, ok := n[name]
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}, ok
}

func (n namespaces) fetch(_ context.Context, name string) (*corev1.Namespace, error) {
	if ns, ok := n.Namespace(name); ok {
		return ns, nil
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "namespaces"}, name)
}

var inMesh = map[string]string{injector.InjectLabel: "enabled"}

// outcomes counts what became of reviews.
type outcomes struct {
	mu    sync.Mutex
	seen  []injector.Outcome
	times []time.Duration
}

func (o *outcomes) Reviewed(outcome injector.Outcome, took time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.seen, o.times = append(o.seen, outcome), append(o.times, took)
}

func (o *outcomes) last() injector.Outcome {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.seen) == 0 {
		return ""
	}
	return o.seen[len(o.seen)-1]
}

// hook is a running webhook.
type hook struct {
	server   *httptest.Server
	outcomes *outcomes
}

func serveWebhook(t testing.TB, c injector.WebhookConfig) hook {
	t.Helper()
	h := hook{outcomes: &outcomes{}}
	if c.Config == nil {
		c.Config = func() (injector.Config, bool) { return injector.Config{Bootstrap: bootstrap}, true }
	}
	if c.Namespaces == nil {
		c.Namespaces = namespaces{"shop": inMesh, "plain": nil}
	}
	c.Reviews, c.Log = h.outcomes, slog.New(slog.DiscardHandler)
	h.server = httptest.NewUnstartedServer(injector.NewWebhook(c))
	h.server.TLS = &tls.Config{MinVersion: tls.VersionTLS13}
	h.server.StartTLS()
	t.Cleanup(h.server.Close)
	return h
}

// review is what the API server posts about a pod.
func review(t testing.TB, pod string) *admissionv1.AdmissionReview {
	t.Helper()
	raw, err := yaml.YAMLToJSON([]byte(pod))
	if err != nil {
		t.Fatal(err)
	}
	return &admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
		Request: &admissionv1.AdmissionRequest{
			UID: "705ab4f5-6393-11e8-b7cc-42010a800002", Namespace: "shop", Operation: admissionv1.Create,
			Kind:     metav1.GroupVersionKind{Version: "v1", Kind: "Pod"},
			Resource: metav1.GroupVersionResource{Version: "v1", Resource: "pods"},
			Object:   runtime.RawExtension{Raw: raw},
		},
	}
}

func (h hook) ask(t testing.TB, r *admissionv1.AdmissionReview) *admissionv1.AdmissionResponse {
	t.Helper()
	body, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	status, answer := h.post(t, "application/json", body)
	if status != http.StatusOK {
		t.Fatalf("HTTP %d: %s", status, answer)
	}
	var out admissionv1.AdmissionReview
	if err := json.Unmarshal(answer, &out); err != nil {
		t.Fatal(err)
	}
	if out.TypeMeta != r.TypeMeta || out.Response == nil || out.Response.UID != r.Request.UID {
		t.Fatalf("not an answer to this review: %s", answer)
	}
	return out.Response
}

func (h hook) post(t testing.TB, kind string, body []byte) (int, []byte) {
	t.Helper()
	res, err := h.server.Client().Post(h.server.URL+injector.WebhookPath, kind, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, answer
}

// patched is the pod as the API server has it afterwards.
func patched(t testing.TB, raw []byte, r *admissionv1.AdmissionResponse) ([]byte, *corev1.Pod) {
	t.Helper()
	if r.Patch == nil {
		t.Fatalf("no patch: %+v", r)
	}
	if r.PatchType == nil || *r.PatchType != admissionv1.PatchTypeJSONPatch {
		t.Fatalf("patch type %v", r.PatchType)
	}
	patch, err := jsonpatch.DecodePatch(r.Patch)
	if err != nil {
		t.Fatal(err)
	}
	out, err := patch.Apply(raw)
	if err != nil {
		t.Fatalf("%v\n%s", err, r.Patch)
	}
	pod := &corev1.Pod{}
	if err := json.Unmarshal(out, pod); err != nil {
		t.Fatal(err)
	}
	return out, pod
}

const plainPod = "{apiVersion: v1, kind: Pod, metadata: {generateName: a-}, spec: {containers: [{name: a, image: a}]}}"

func TestReviewInjects(t *testing.T) {
	h := serveWebhook(t, injector.WebhookConfig{})
	dry := true
	r := review(t, plainPod)
	r.Request.DryRun = &dry
	answer := h.ask(t, r)
	if !answer.Allowed || len(answer.Warnings) > 0 {
		t.Fatalf("%+v", answer)
	}
	_, pod := patched(t, r.Request.Object.Raw, answer)
	if len(pod.Spec.InitContainers) != 3 || len(pod.Spec.Volumes) != 3 {
		t.Errorf("%d init containers, %d volumes", len(pod.Spec.InitContainers), len(pod.Spec.Volumes))
	}
	if h.outcomes.last() != injector.Injected {
		t.Errorf("outcome %q", h.outcomes.last())
	}
	// Asked again, as reinvocationPolicy IfNeeded has it, about a pod that has it all.
	again := review(t, string(must(yaml.Marshal(pod))))
	if answer := h.ask(t, again); !answer.Allowed || answer.Patch != nil {
		t.Errorf("a second time: %+v", answer)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestPatchIsWhatInjectDid: of every golden case, the pod that the API server
// makes of the patch is the one that Inject gives; fields that this build does
// not know stay where they are.
func TestPatchIsWhatInjectDid(t *testing.T) {
	for _, file := range golden.Inputs(t, "testdata/*.in.yaml") {
		text := string(must(os.ReadFile(file)))
		var pod, mesh string
		labels := map[string]string{}
		for doc := range strings.SplitSeq(text, "\n---\n") {
			switch {
			case strings.Contains(doc, "kind: Pod\n"):
				pod = doc
			case strings.Contains(doc, "kind: MeshConfig"):
				mesh = doc
			case strings.Contains(doc, "kind: Namespace"):
				var ns corev1.Namespace
				if err := yaml.Unmarshal([]byte(doc), &ns); err != nil {
					t.Fatal(err)
				}
				labels = ns.Labels
			}
		}
		if pod == "" || mesh != "" {
			continue // what MeshConfig changes is no other kind of patch
		}
		t.Run(filepath.Base(file), func(t *testing.T) {
			cfg := injector.Config{Bootstrap: bootstrap, PodCertificates: true, TrustBundles: true}
			h := serveWebhook(t, injector.WebhookConfig{
				Config:     func() (injector.Config, bool) { return cfg, true },
				Namespaces: namespaces{"shop": labels, "kube-system": labels, "meshd-system": labels},
			})
			r := review(t, pod)
			var object map[string]any
			if err := json.Unmarshal(r.Request.Object.Raw, &object); err != nil {
				t.Fatal(err)
			}
			if own, ok := object["metadata"].(map[string]any)["namespace"].(string); ok {
				r.Request.Namespace = own
			}
			for _, at := range []string{"containers", "initContainers", "volumes"} {
				for _, item := range list(object["spec"].(map[string]any)[at]) {
					item["fromTheFuture"] = map[string]any{"x": "y"}
					if probe, ok := item["livenessProbe"].(map[string]any); ok {
						probe["fromTheFuture"] = true
					}
				}
			}
			r.Request.Object.Raw = must(json.Marshal(object))
			before := &corev1.Pod{}
			if err := json.Unmarshal(r.Request.Object.Raw, before); err != nil {
				t.Fatal(err)
			}
			ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: r.Request.Namespace, Labels: labels}}
			want, d := injector.Inject(before, ns, cfg)
			if !d.Injected {
				if answer := h.ask(t, r); answer.Patch != nil || answer.Allowed == d.Refused {
					t.Errorf("refused: %v, got %+v", d.Refused, answer)
				}
				return
			}
			answer := h.ask(t, r)
			if !answer.Allowed || len(answer.Warnings) != len(d.Findings) {
				t.Errorf("%+v", answer)
			}
			whole, got := patched(t, r.Request.Object.Raw, answer)
			if !reflect.DeepEqual(got, want) {
				t.Errorf("differs (-want +got):\n%s", golden.Diff(string(must(yaml.Marshal(want))), string(must(yaml.Marshal(got)))))
			}
			if a, b := bytes.Count(r.Request.Object.Raw, []byte("fromTheFuture")), bytes.Count(whole, []byte("fromTheFuture")); a != b {
				t.Errorf("of %d unknown fields %d are left", a, b)
			}
		})
	}
}

func list(v any) []map[string]any {
	items, _ := v.([]any)
	var out []map[string]any
	for _, i := range items {
		out = append(out, i.(map[string]any))
	}
	return out
}

// TestAwkwardPods: what is refused says what to change, and everything else is let in.
func TestAwkwardPods(t *testing.T) {
	big := strings.Repeat("x", 1<<20)
	for name, c := range map[string]struct {
		pod     string
		refused []string // words of the message; nil: allowed
		warned  string
		patch   bool
		outcome injector.Outcome
	}{
		"plain":                         {pod: plainPod, patch: true, outcome: injector.Injected},
		"a namespace that is not its":   {pod: "{metadata: {name: a, namespace: other}, spec: {containers: [{name: a}]}}", patch: true, outcome: injector.Injected},
		"no name at all":                {pod: "{spec: {containers: [{name: a}]}}", patch: true, outcome: injector.Injected},
		"no containers":                 {pod: "{metadata: {name: a}}", patch: true, outcome: injector.Injected},
		"says no":                       {pod: "{metadata: {labels: {meshd.io/inject: disabled}}, spec: {containers: [{name: a}]}}", outcome: injector.Unchanged},
		"host network":                  {pod: "{spec: {hostNetwork: true, containers: [{name: a}]}}", warned: "spec.hostNetwork", outcome: injector.Unchanged},
		"host network, asked for":       {pod: "{metadata: {labels: {meshd.io/inject: enabled}}, spec: {hostNetwork: true, containers: [{name: a}]}}", refused: []string{"spec.hostNetwork", "leave hostNetwork out"}, outcome: injector.Refused},
		"the proxy's user":              {pod: "{spec: {containers: [{name: a, securityContext: {runAsUser: 1337}}]}}", refused: []string{"spec.containers[0].securityContext.runAsUser", "run the container as another user"}, outcome: injector.Refused},
		"the proxy's name":              {pod: "{spec: {containers: [{name: meshd-proxy}]}}", refused: []string{"spec.containers[0].name", "name the container otherwise"}, outcome: injector.Refused},
		"several faults":                {pod: "{spec: {containers: [{name: meshd-proxy, ports: [{containerPort: 15006}]}]}}", refused: []string{"spec.containers[0].name", "; ", "spec.containers[0].ports[0].containerPort"}, outcome: injector.Refused},
		"1 MB of annotations":           {pod: "{metadata: {annotations: {x: " + big + "}}, spec: {containers: [{name: a}]}}", patch: true, outcome: injector.Injected},
		"Windows by os":                 {pod: "{spec: {os: {name: windows}, containers: [{name: a}]}}", warned: "spec.os.name", outcome: injector.Unchanged},
		"Windows by selector":           {pod: "{spec: {nodeSelector: {kubernetes.io/os: windows}, containers: [{name: a}]}}", warned: "spec.nodeSelector", outcome: injector.Unchanged},
		"static":                        {pod: "{metadata: {annotations: {kubernetes.io/config.mirror: x}}, spec: {containers: [{name: a}]}}", warned: "static pod", outcome: injector.Unchanged},
		"ephemeral containers":          {pod: "{spec: {containers: [{name: a}], ephemeralContainers: [{name: e, image: e}]}}", patch: true, outcome: injector.Injected},
		"a label that means nothing":    {pod: "{metadata: {labels: {meshd.io/inject: 'yes'}}, spec: {containers: [{name: a}]}}", warned: "write enabled or disabled", patch: true, outcome: injector.Injected},
		"an annotation beside the list": {pod: "{metadata: {annotations: {meshd.io/exclude-inbound-ports: '22,x'}}, spec: {containers: [{name: a}]}}", warned: `"x" is not a port`, patch: true, outcome: injector.Injected},
		"a container that is no object": {pod: "{spec: {containers: [1]}}", refused: []string{"the pod cannot be read"}, outcome: injector.BadReview},
		"no object":                     {pod: "null", refused: []string{"the pod cannot be read"}, outcome: injector.BadReview},
	} {
		t.Run(name, func(t *testing.T) {
			h := serveWebhook(t, injector.WebhookConfig{})
			r := review(t, c.pod)
			answer := h.ask(t, r)
			if answer.Allowed != (c.refused == nil) || (answer.Patch != nil) != c.patch {
				t.Fatalf("allowed %v, patch %v: %+v", answer.Allowed, answer.Patch != nil, answer.Result)
			}
			for _, words := range c.refused {
				if !strings.Contains(answer.Result.Message, words) {
					t.Errorf("no %q in %q", words, answer.Result.Message)
				}
			}
			if all := strings.Join(answer.Warnings, "\n"); (c.warned != "") != (all != "") || !strings.Contains(all, c.warned) {
				t.Errorf("warnings: %q", all)
			}
			if h.outcomes.last() != c.outcome {
				t.Errorf("outcome %q", h.outcomes.last())
			}
		})
	}
}

// TestFailureIsRefusal: what meshd cannot decide is not let in, and not by
// HTTP's status, which a failurePolicy could overrule.
func TestFailureIsRefusal(t *testing.T) {
	ready := func(c injector.Config) func() (injector.Config, bool) {
		return func() (injector.Config, bool) { return c, true }
	}
	for name, c := range map[string]struct {
		config  injector.WebhookConfig
		code    int32
		says    string
		outcome injector.Outcome
	}{
		"not ready": {
			injector.WebhookConfig{Config: func() (injector.Config, bool) { return injector.Config{}, false }},
			http.StatusServiceUnavailable, "try again", injector.NotReady,
		},
		"no bootstrap": {
			injector.WebhookConfig{Config: ready(injector.Config{Bootstrap: func(injector.BootstrapInput) (injector.Bootstrap, error) {
				return injector.Bootstrap{}, errors.New("no template")
			}})},
			http.StatusInternalServerError, "no template", injector.Failed,
		},
		"unknown namespace": {
			injector.WebhookConfig{Namespaces: namespaces{}}, http.StatusInternalServerError, "namespace shop is not known", injector.Failed,
		},
		"no such namespace": {
			injector.WebhookConfig{Namespaces: namespaces{}, Fetch: namespaces{}.fetch}, http.StatusInternalServerError, "there is no namespace shop", injector.Failed,
		},
		"namespace cannot be read": {
			injector.WebhookConfig{Namespaces: namespaces{}, Fetch: func(context.Context, string) (*corev1.Namespace, error) { return nil, errors.New("away") }},
			http.StatusInternalServerError, "read namespace shop: away", injector.Failed,
		},
	} {
		h := serveWebhook(t, c.config)
		answer := h.ask(t, review(t, plainPod))
		if answer.Allowed || answer.Result.Code != c.code || !strings.Contains(answer.Result.Message, c.says) || h.outcomes.last() != c.outcome {
			t.Errorf("%s: %s: %+v", name, h.outcomes.last(), answer)
		}
	}
}

// TestNewerLabelCounts: the API server asks by what it knows; a source that is
// behind must not leave the pod outside of the mesh.
func TestNewerLabelCounts(t *testing.T) {
	for name, behind := range map[string]namespaces{"label": {"shop": nil}, "namespace": {}} {
		h := serveWebhook(t, injector.WebhookConfig{Namespaces: behind, Fetch: namespaces{"shop": inMesh}.fetch})
		if answer := h.ask(t, review(t, plainPod)); answer.Patch == nil {
			t.Errorf("a newer %s: %+v", name, answer)
		}
	}
}

func TestWrongQuestions(t *testing.T) {
	for name, change := range map[string]func(*admissionv1.AdmissionRequest){
		"kind":        func(r *admissionv1.AdmissionRequest) { r.Kind.Kind = "Deployment" },
		"group":       func(r *admissionv1.AdmissionRequest) { r.Kind.Group = "example.com" },
		"version":     func(r *admissionv1.AdmissionRequest) { r.Kind.Version = "v2" },
		"operation":   func(r *admissionv1.AdmissionRequest) { r.Operation = admissionv1.Update },
		"subresource": func(r *admissionv1.AdmissionRequest) { r.SubResource = "ephemeralcontainers" },
	} {
		h := serveWebhook(t, injector.WebhookConfig{})
		r := review(t, plainPod)
		change(r.Request)
		answer := h.ask(t, r)
		if answer.Allowed || answer.Result.Code != http.StatusBadRequest || h.outcomes.last() != injector.BadReview {
			t.Errorf("another %s: %s: %+v", name, h.outcomes.last(), answer)
		}
	}
}

func TestWhatIsNoReview(t *testing.T) {
	good := must(json.Marshal(review(t, plainPod)))
	for name, c := range map[string]struct {
		kind   string
		body   []byte
		status int
	}{
		"not JSON":          {"application/json", []byte("{"), http.StatusBadRequest},
		"no body":           {"application/json", nil, http.StatusBadRequest},
		"another kind":      {"application/json", []byte(`{"apiVersion":"v1","kind":"Pod"}`), http.StatusBadRequest},
		"an older version":  {"application/json", bytes.Replace(good, []byte("admission.k8s.io/v1"), []byte("admission.k8s.io/v1beta1"), 1), http.StatusBadRequest},
		"no request":        {"application/json", []byte(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}`), http.StatusBadRequest},
		"YAML":              {"application/yaml", good, http.StatusUnsupportedMediaType},
		"no type":           {"", good, http.StatusUnsupportedMediaType},
		"a form":            {"application/json;;", good, http.StatusUnsupportedMediaType},
		"with a charset":    {"application/json; charset=utf-8", good, http.StatusOK},
		"more than is read": {"application/json", bytes.Repeat([]byte(" "), 7<<20+1), http.StatusRequestEntityTooLarge},
	} {
		h := serveWebhook(t, injector.WebhookConfig{})
		status, answer := h.post(t, c.kind, c.body)
		if status != c.status {
			t.Errorf("%s: HTTP %d: %s", name, status, answer)
		}
		if status != http.StatusOK && h.outcomes.last() != injector.BadReview {
			t.Errorf("%s: outcome %q", name, h.outcomes.last())
		}
	}
	h := serveWebhook(t, injector.WebhookConfig{})
	res, err := h.server.Client().Get(h.server.URL + injector.WebhookPath)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("GET: HTTP %d", res.StatusCode)
	}
}

// TestManyAtOnce: more reviews than are answered at a time are all answered.
func TestManyAtOnce(t *testing.T) {
	h := serveWebhook(t, injector.WebhookConfig{})
	body := must(json.Marshal(review(t, plainPod)))
	var all sync.WaitGroup
	for range 200 {
		all.Go(func() {
			res, err := h.server.Client().Post(h.server.URL+injector.WebhookPath, "application/json", bytes.NewReader(body))
			if err != nil {
				t.Error(err)
				return
			}
			defer res.Body.Close()
			if _, err := io.Copy(io.Discard, res.Body); err != nil || res.StatusCode != http.StatusOK {
				t.Errorf("HTTP %d, %v", res.StatusCode, err)
			}
		})
	}
	all.Wait()
	if n := len(h.outcomes.seen); n != 200 {
		t.Errorf("%d reviews are counted", n)
	}
}
