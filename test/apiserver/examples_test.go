package apiserver

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
	"github.com/meshd-io/meshd/internal/kubetest"
	"github.com/meshd-io/meshd/pkg/crds"
)

const root = "../.."

// Every manifest that users are shown applies by kubectl as it stands.
func TestManifestsApply(t *testing.T) {
	c := cluster.Get(t)
	upstream, err := crds.UpstreamDefinitions()
	if err != nil {
		t.Fatal(err)
	}
	c.InstallCRDs(t, upstream...)
	for _, m := range manifests(t) {
		t.Run(m.name, func(t *testing.T) {
			namespaces(t, c, m.text)
			apply(t, c, m.text)
		})
	}
}

// The API's own example writes `on` without quotes, which kubectl reads as true.
// It is stored under that name, and means the same.
func TestUnquotedOn(t *testing.T) {
	c := cluster.Get(t)
	namespace := c.Namespace(t, nil)
	const policy = "apiVersion: meshd.io/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: retry, namespace: NS}\n" +
		"spec:\n  targetRefs: [{kind: Service, name: s}]\n  retry:\n    on: [Reset]\n"
	text := strings.Replace(policy, "NS", namespace, 1)
	apply(t, c, text)
	var got meshv1a1.TrafficPolicy
	if err := c.Client(t).Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: "retry"}, &got); err != nil {
		t.Fatal(err)
	}
	if r := got.Spec.Retry; len(r.True) != 1 || r.True[0] != "Reset" || len(r.On) != 0 {
		t.Errorf("retry: %+v", r)
	}
	apply(t, c, strings.Replace(text, "    on:", `    "on":`, 1))
	if err := c.Client(t).Get(t.Context(), client.ObjectKeyFromObject(&got), &got); err != nil {
		t.Fatal(err)
	}
	if r := got.Spec.Retry; len(r.On) != 1 || len(r.True) != 0 {
		t.Errorf("in quotes: %+v", r)
	}
}

type manifest struct{ name, text string }

// manifests are the examples, the API's own examples, and the YAML in documents.
func manifests(t *testing.T) []manifest {
	t.Helper()
	var out []manifest
	add := func(name, text string) { out = append(out, manifest{strings.TrimPrefix(name, root+"/"), text}) }
	examples, err := filepath.Glob(root + "/examples/*/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if len(examples) == 0 {
		t.Error("no example was found")
	}
	for _, path := range append(examples, root+"/pkg/crds/testdata/api/examples.yaml") {
		add(path, contents(t, path))
	}
	documents := []string{root + "/README.md"}
	err = filepath.WalkDir(root+"/docs", func(path string, _ os.DirEntry, err error) error {
		if strings.HasSuffix(path, ".md") {
			documents = append(documents, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?ms)^ *```ya?ml\n(.*?)^ *```$")
	for _, path := range documents {
		for _, found := range block.FindAllStringSubmatch(contents(t, path), -1) {
			if strings.Contains(found[1], "apiVersion:") { // others are parts of objects
				add(path, found[1])
			}
		}
	}
	return out
}

func contents(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// namespaces makes those that a manifest takes for granted.
func namespaces(t *testing.T, c *kubetest.Cluster, text string) {
	t.Helper()
	for _, doc := range regexp.MustCompile(`(?m)^---\s*$`).Split(text, -1) {
		var o struct{ Metadata struct{ Namespace string } }
		if err := yaml.Unmarshal([]byte(doc), &o); err != nil || o.Metadata.Namespace == "" {
			continue
		}
		err := c.Client(t).Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: o.Metadata.Namespace}})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			t.Fatal(err)
		}
	}
}
