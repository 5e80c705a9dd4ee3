package injector

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
	"github.com/meshd-io/meshd/internal/golden"
	"github.com/meshd-io/meshd/pkg/report"
)

// inputs is what a case's file holds.
type inputs struct {
	pod *corev1.Pod
	ns  *corev1.Namespace
	cfg Config
}

// outputs is what is written beside it.
type outputs struct {
	Injected bool             `json:"injected"`
	Findings []report.Finding `json:"findings,omitempty"`
	Pod      *corev1.Pod      `json:"pod,omitempty"`
}

func TestGolden(t *testing.T) {
	for _, in := range golden.Inputs(t, "testdata/*.in.yaml") {
		t.Run(strings.TrimSuffix(filepath.Base(in), ".in.yaml"), func(t *testing.T) {
			c := load(t, in)
			before := marshal(t, c.pod)
			pod, d := Inject(c.pod, c.ns, c.cfg)
			if d.Err != nil {
				t.Fatal(d.Err)
			}
			if !bytes.Equal(before, marshal(t, c.pod)) {
				t.Error("the input was changed")
			}
			again, second := Inject(pod, c.ns, c.cfg)
			if !bytes.Equal(marshal(t, pod), marshal(t, again)) || second.Injected != d.Injected {
				t.Error("a second run changes the pod")
			}
			out := outputs{Injected: d.Injected, Findings: d.Findings}
			if d.Injected {
				out.Pod = pod
			} else if !bytes.Equal(before, marshal(t, pod)) {
				t.Error("a pod that is not injected was changed")
			}
			golden.Check(t, strings.TrimSuffix(in, ".in.yaml")+".out.yaml", marshal(t, out))
		})
	}
}

// showInput is a Bootstrapper that shows what it was given.
func showInput(in BootstrapInput) (Bootstrap, error) {
	text, err := json.MarshalIndent(in, "", "  ")
	out := Bootstrap{Config: string(text) + "\n"}
	if in.IdentityDir != "" {
		out.Files = map[string]string{"anchor.json": "{}", "leaf.json": "{}"}
	}
	return out, err
}

func load(t *testing.T, path string) inputs {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	in := inputs{cfg: Config{
		Bootstrap: showInput,
		// "# served: WORDS" says what the cluster serves of certificates.k8s.io.
		PodCertificates: strings.Contains(string(text), "PodCertificateRequests"),
		TrustBundles:    strings.Contains(string(text), "ClusterTrustBundles"),
	}}
	for doc := range strings.SplitSeq(string(text), "\n---\n") {
		var kind struct{ Kind string }
		read(t, doc, &kind, yaml.Unmarshal)
		switch kind.Kind {
		case "Pod":
			in.pod = &corev1.Pod{}
			read(t, doc, in.pod, yaml.UnmarshalStrict)
		case "Job":
			job := &batchv1.Job{}
			read(t, doc, job, yaml.UnmarshalStrict)
			in.pod = &corev1.Pod{ObjectMeta: job.Spec.Template.ObjectMeta, Spec: job.Spec.Template.Spec}
			in.pod.Namespace, in.pod.GenerateName = job.Namespace, job.Name+"-"
		case "Namespace":
			in.ns = &corev1.Namespace{}
			read(t, doc, in.ns, yaml.UnmarshalStrict)
		case "MeshConfig":
			mesh := &meshv1a1.MeshConfig{}
			read(t, doc, mesh, yaml.UnmarshalStrict)
			in.cfg.Injection, in.cfg.Carrier = mesh.Spec.Injection, mesh.Spec.Identity.Carrier
		default:
			t.Fatalf("%s: kind %q is not for an injector", path, kind.Kind)
		}
	}
	return in
}

func read(t *testing.T, doc string, into any, unmarshal func([]byte, any, ...yaml.JSONOpt) error) {
	t.Helper()
	if err := unmarshal([]byte(doc), into); err != nil {
		t.Fatal(err)
	}
}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	out, err := yaml.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestBootstrapThatFailsLeavesThePod(t *testing.T) {
	c := load(t, "testdata/plain.in.yaml")
	broken := errors.New("no template")
	c.cfg.Bootstrap = func(BootstrapInput) (Bootstrap, error) { return Bootstrap{}, broken }
	pod, d := Inject(c.pod, c.ns, c.cfg)
	if !errors.Is(d.Err, broken) || d.Injected {
		t.Errorf("got %+v", d)
	}
	if !bytes.Equal(marshal(t, pod), marshal(t, c.pod)) {
		t.Error("the pod was changed")
	}
}
