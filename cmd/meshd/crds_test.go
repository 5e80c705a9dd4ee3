package main

import (
	"bytes"
	"context"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"

	"github.com/meshd-io/meshd/internal/kubetest"
	"github.com/meshd-io/meshd/pkg/crds"
)

// Definitions of another version become this one's, whoever has written them:
// fields that are gone go, a kind that is new comes, and once more changes nothing.
func TestApplyCRDs(t *testing.T) {
	c := kubetest.Start(t, kubetest.Options{NoCRDs: true})
	old, err := crds.Definitions()
	if err != nil {
		t.Fatal(err)
	}
	added := old[0]
	for _, crd := range old[1:] {
		spec := crd.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"]
		spec.Properties["gone"] = apiextensionsv1.JSONSchemaProps{Type: "string"}
		crd.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"] = spec
	}
	c.InstallCRDs(t, old[1:]...)
	kubeconfig := c.Kubeconfig(t)
	apply := func() string {
		t.Helper()
		root, out := newRootCommand(), &bytes.Buffer{}
		root.SetOut(out)
		root.SetArgs([]string{"crds", "--apply", "--kubeconfig", kubeconfig})
		if err := root.ExecuteContext(context.Background()); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	if got := strings.Count(apply(), "is up to date"); got != len(old) {
		t.Errorf("%d kinds are up to date, want %d", got, len(old))
	}
	list := func() map[string]apiextensionsv1.CustomResourceDefinition {
		var list apiextensionsv1.CustomResourceDefinitionList
		if err := c.Client(t).List(context.Background(), &list); err != nil {
			t.Fatal(err)
		}
		out := map[string]apiextensionsv1.CustomResourceDefinition{}
		for _, crd := range list.Items {
			out[crd.Name] = crd
		}
		return out
	}
	first := list()
	if _, ok := first[added.Name]; !ok || len(first) != len(old) {
		t.Errorf("%d kinds, with %s: %v", len(first), added.Name, ok)
	}
	for name, crd := range first {
		if _, ok := crd.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"].Properties["gone"]; ok {
			t.Errorf("%s still has the field that is gone", name)
		}
	}
	apply()
	for name, crd := range list() {
		if crd.Generation != first[name].Generation {
			t.Errorf("%s: applied again, it is another generation", name)
		}
	}
}

// What is printed is what is applied.
func TestPrintCRDs(t *testing.T) {
	var out bytes.Buffer
	if err := printCRDs(&out); err != nil {
		t.Fatal(err)
	}
	wanted, err := crds.Definitions()
	if err != nil {
		t.Fatal(err)
	}
	for _, crd := range wanted {
		if strings.Count(out.String(), "\n  name: "+crd.Name+"\n") != 1 {
			t.Errorf("%s is not printed once", crd.Name)
		}
	}
	if got := strings.Count(out.String(), "---\n"); got != len(wanted) {
		t.Errorf("%d documents, want %d", got, len(wanted))
	}
}
