package chart

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/meshd-io/meshd/internal/golden"
)

func TestLint(t *testing.T) {
	mustHelm(t, nil, "lint", "--strict", "--quiet", chartDir)
}

// Each values file in testdata gives the YAML beside it.
func TestRender(t *testing.T) {
	for _, values := range golden.Inputs(t, "testdata/*.values.yaml") {
		name := strings.TrimSuffix(filepath.Base(values), ".values.yaml")
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(values)
			if err != nil {
				t.Fatal(err)
			}
			golden.Check(t, "testdata/"+name+".yaml", []byte(render(t, string(text))))
		})
	}
}

func TestRefusedValues(t *testing.T) {
	for name, c := range map[string]struct{ values, says string }{
		"a key that there is not":        {"replica: 3", "additional properties 'replica' not allowed"},
		"an image's":                     {"image: {name: x}", "additional properties 'name' not allowed"},
		"one of resources":               {"resources: {limit: {cpu: 1}}", "additional properties 'limit' not allowed"},
		"one deep in MeshConfig":         {"meshConfig: {injection: {proxy: {imag: x}}}", "additional properties 'imag' not allowed"},
		"MeshConfig's spec nested":       {"meshConfig: {spec: {trustDomain: a.b}}", "additional properties 'spec' not allowed"},
		"a word that is none of a list":  {"meshConfig: {scope: Some}", "at '/meshConfig/scope'"},
		"a trust domain in capitals":     {"meshConfig: {trustDomain: Example.com}", "at '/meshConfig/trustDomain'"},
		"a number as a word":             {"replicas: two", "at '/replicas': got string, want integer"},
		"no replica":                     {"replicas: 0", "at '/replicas'"},
		"no replica of the gateway":      {"gateway: {replicas: 0}", "at '/gateway/replicas'"},
		"a log level that there is not":  {"logLevel: trace", "at '/logLevel'"},
		"an argument that is no flag":    {"extraArgs: [lab]", "at '/extraArgs/0'"},
		"a digest that is none":          {"image: {digest: latest}", "at '/image/digest'"},
		"a tag with what no tag has":     {"image: {tag: 'a b'}", "at '/image/tag'"},
		"a boolean as text":              {"networkPolicy: {enabled: 'yes'}", "at '/networkPolicy/enabled': got string, want boolean"},
		"a pull secret's name by itself": {"imagePullSecrets: [mine]", "at '/imagePullSecrets/0': got string, want object"},
		"too little time to end":         {"terminationGracePeriodSeconds: 1", "at '/terminationGracePeriodSeconds'"},
		"a tolerations map":              {"tolerations: {key: x}", "at '/tolerations': got object, want array"},
		"a label that is no text":        {"podLabels: {x: 1}", "at '/podLabels/x': got number, want string"},
		"a share that is none":           {"podDisruptionBudget: {minAvailable: most}", "at '/podDisruptionBudget/minAvailable'"},
	} {
		t.Run(name, func(t *testing.T) {
			_, errs, err := helm(t, nil, "template", "meshd", chartDir, "--values", file(t, c.values))
			if err == nil || !strings.Contains(errs, c.says) {
				t.Errorf("%s: %v, %s; want %q", c.values, err, errs, c.says)
			}
		})
	}
}

// A replica alone has no budget that would keep its node from being drained.
func TestOneReplica(t *testing.T) {
	all := objects(t, render(t, "replicas: 1"))
	if find(all, "PodDisruptionBudget", "meshd") != nil {
		t.Error("one replica has a PodDisruptionBudget")
	}
	if find(all, "Deployment", "meshd") == nil {
		t.Error("no Deployment")
	}
}

// A new trust domain makes new pods, nothing else of MeshConfig does.
func TestRestart(t *testing.T) {
	pod := func(values string) any {
		d := find(objects(t, render(t, values)), "Deployment", "meshd")
		out, _, _ := unstructured.NestedMap(d.Object, "spec", "template")
		return out
	}
	if reflect.DeepEqual(pod("meshConfig: {trustDomain: a.test}"), pod("meshConfig: {trustDomain: b.test}")) {
		t.Error("another trust domain leaves the pods alone")
	}
	if !reflect.DeepEqual(pod("meshConfig: {trustDomain: a.test}"), pod("meshConfig: {trustDomain: a.test, scope: All}")) {
		t.Error("another scope makes new pods")
	}
}

// The values of an older release, which `helm upgrade --reuse-values` takes as they were, are enough.
func TestOlderValues(t *testing.T) {
	if out := render(t, "gateway: null"); strings.Contains(out, "gateway-replicas") {
		t.Error("an argument without a value")
	}
}

// Every image, wherever it is rendered, follows the values.
func TestImages(t *testing.T) {
	digest := "sha256:" + strings.Repeat("0123456789abcdef", 4)
	out := render(t, "image: {repository: mirror.test/m, digest: \""+digest+"\"}\nagentImage: {repository: mirror.test/a, tag: v1}\nproxyImage: {repository: mirror.test/e, tag: v2}\n")
	for want, times := range map[string]int{`"mirror.test/m@` + digest + `"`: 3, "=mirror.test/a:v1": 1, "=mirror.test/e:v2": 1, "ghcr.io": 0, "envoyproxy": 0} {
		if got := strings.Count(out, want); got != times {
			t.Errorf("%s is there %d times, want %d", want, got, times)
		}
	}
}
