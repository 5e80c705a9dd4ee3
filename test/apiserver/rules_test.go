package apiserver

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	yamlv3 "go.yaml.in/yaml/v3"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
	"github.com/meshd-io/meshd/internal/apirules"
)

// What files are held to, an API server is too, at the same fields.
func TestRules(t *testing.T) {
	c := cluster.Get(t)
	api := client.WithFieldValidation(c.Client(t), metav1.FieldValidationStrict)
	namespace := c.Namespace(t, nil)
	for _, only := range []client.Object{&meshv1a1.MeshConfig{}, &meshv1a1.CertificateAuthority{}} { // other tests may have made it
		only.SetName("default")
		if err := client.IgnoreNotFound(api.Delete(t.Context(), only)); err != nil {
			t.Fatal(err)
		}
	}
	for _, table := range apirules.Tables() {
		for _, r := range table.Rules {
			t.Run(table.Kind+" "+r.Spec, func(t *testing.T) {
				o := read(t, table.Document(r))
				if !table.ClusterScoped() {
					o.SetNamespace(namespace)
				}
				check(t, api.Create(t.Context(), o, client.DryRunAll), r)
			})
		}
	}
}

// read takes YAML 1.2, in which `on` is a word.
func read(t *testing.T, doc string) *unstructured.Unstructured {
	t.Helper()
	var tree map[string]any
	if err := yamlv3.Unmarshal([]byte(doc), &tree); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(tree)
	if err != nil {
		t.Fatal(err)
	}
	o := &unstructured.Unstructured{}
	if err := o.UnmarshalJSON(text); err != nil {
		t.Fatal(err)
	}
	return o
}

func check(t *testing.T, err error, r apirules.Rule) {
	t.Helper()
	var status apierrors.APIStatus
	switch {
	case err == nil && r.Field == "":
		return
	case err == nil:
		t.Errorf("accepted, although %s is wrong", r.Field)
		return
	case r.Field == "":
		t.Errorf("refused: %v", err)
		return
	case !errors.As(err, &status):
		t.Fatal(err)
	}
	// Two kinds of fault have no field of their own in a Status.
	for _, words := range []string{`unknown field "` + r.Field + `"`, "with format int32 in " + r.Field} {
		if strings.Contains(err.Error(), words) {
			return
		}
	}
	if details := status.Status().Details; details != nil {
		for _, cause := range details.Causes {
			if strings.TrimPrefix(cause.Field, "<nil>.") == r.Field {
				return
			}
		}
	}
	t.Errorf("refused, but not at %s: %v", r.Field, err)
}
