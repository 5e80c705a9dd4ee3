package chart

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/meshd-io/meshd/internal/kubetest"
)

const (
	chartDir  = "../../charts/meshd"
	namespace = "meshd-system"
)

// cluster has no definitions of meshd's kinds: helm is to bring them.
var cluster = kubetest.Shared{Options: kubetest.Options{NoCRDs: true}}

func TestMain(m *testing.M) {
	code := m.Run()
	cluster.Stop()
	os.Exit(code)
}

var install sync.Once

// installed is a cluster into which helm has installed the chart. Nothing runs there.
func installed(t *testing.T) *kubetest.Cluster {
	t.Helper()
	c := cluster.Get(t)
	install.Do(func() {
		mustHelm(t, c, "install", "meshd", chartDir, "--namespace", namespace, "--create-namespace", "--set", "meshConfig.trustDomain=example.test")
	})
	return c
}

// helm runs the real helm, with a home of its own.
func helm(t *testing.T, c *kubetest.Cluster, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	folder := os.Getenv("MESHD_KUBE")
	if folder == "" {
		t.Skip("NOT TESTED: MESHD_KUBE is not set")
	}
	path := filepath.Join(folder, "helm")
	if _, err := os.Stat(path); err != nil {
		t.Skip("NOT TESTED: no helm in MESHD_KUBE (hack/kube helm builds it)")
	}
	home := t.TempDir()
	cmd := exec.CommandContext(context.Background(), path, args...)
	cmd.Env = []string{"HOME=" + home, "HELM_CACHE_HOME=" + home, "HELM_CONFIG_HOME=" + home, "HELM_DATA_HOME=" + home}
	if c != nil {
		cmd.Env = append(cmd.Env, "KUBECONFIG="+c.Kubeconfig(t))
	}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

func mustHelm(t *testing.T, c *kubetest.Cluster, args ...string) string {
	t.Helper()
	out, errs, err := helm(t, c, args...)
	if err != nil {
		t.Fatalf("helm %s: %v\n%s", strings.Join(args, " "), err, errs)
	}
	if strings.Contains(strings.ToLower(errs), "warn") {
		t.Errorf("helm %s warns: %s", strings.Join(args, " "), errs)
	}
	return out
}

// render is what the chart gives for values, written as YAML.
func render(t *testing.T, values string, args ...string) string {
	t.Helper()
	return mustHelm(t, nil, append([]string{"template", "meshd", chartDir, "--namespace", namespace, "--values", file(t, values)}, args...)...)
}

func file(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "values.yaml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// objects are those of rendered YAML, in its order.
func objects(t *testing.T, rendered string) []*unstructured.Unstructured {
	t.Helper()
	var out []*unstructured.Unstructured
	for d := yaml.NewYAMLOrJSONDecoder(strings.NewReader(rendered), 4096); ; {
		var o unstructured.Unstructured
		if err := d.Decode(&o.Object); err != nil {
			return out // the end
		}
		if len(o.Object) > 0 {
			out = append(out, &o)
		}
	}
}

// find gives the one object of a kind and name, or nil.
func find(all []*unstructured.Unstructured, kind, name string) *unstructured.Unstructured {
	for _, o := range all {
		if o.GetKind() == kind && o.GetName() == name {
			return o
		}
	}
	return nil
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// read gives a rendered object its type.
func read(t *testing.T, o *unstructured.Unstructured, into any) {
	t.Helper()
	if o == nil {
		t.Fatalf("there is no %T", into)
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, into); err != nil {
		t.Fatal(err)
	}
}
