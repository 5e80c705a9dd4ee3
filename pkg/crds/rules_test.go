package crds

import (
	"strings"
	"testing"

	"github.com/meshd-io/meshd/internal/apirules"
)

// Files are judged as an API server judges (test/apiserver holds it to the same tables).
func TestRules(t *testing.T) {
	for _, table := range apirules.Tables() {
		for _, r := range table.Rules {
			t.Run(table.Kind+" "+r.Spec, func(t *testing.T) {
				objects, findings := Decode([]byte(table.Document(r)), "f.yaml")
				if r.Field == "" {
					if len(objects) != 1 || len(findings) > 0 {
						t.Errorf("refused: %+v", findings)
					}
					return
				}
				if len(objects) > 0 {
					t.Error("accepted")
				}
				for _, f := range findings {
					if f.Field == r.Field && strings.Contains(f.Message, r.Text) && f.Line == 4 {
						return
					}
				}
				t.Errorf("no finding at %s with %q in %+v", r.Field, r.Text, findings)
			})
		}
	}
}

func TestOnlyTheDefaultCountsOfClusterScopedKinds(t *testing.T) {
	for _, kind := range []string{"MeshConfig", "CertificateAuthority"} {
		_, findings := Decode([]byte("apiVersion: meshd.io/v1alpha1\nkind: "+kind+"\nmetadata: {name: other}\n"), "f.yaml")
		if len(findings) != 1 || !strings.Contains(findings[0].Message, "must be default") {
			t.Errorf("%s: %+v", kind, findings)
		}
		_, findings = Decode([]byte("apiVersion: meshd.io/v1alpha1\nkind: "+kind+"\nmetadata: {name: default, namespace: x}\n"), "f.yaml")
		if len(findings) != 1 || findings[0].Field != "metadata.namespace" {
			t.Errorf("%s: %+v", kind, findings)
		}
	}
}

// A number's format is spoken of once, at its field.
func TestNumberFormat(t *testing.T) {
	for _, attempts := range []string{"3.5", "99999999999", "'3'"} {
		doc := "apiVersion: meshd.io/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: x}\nspec: {targetRefs: [{kind: Namespace}], retry: {attempts: " + attempts + "}}\n"
		if _, findings := Decode([]byte(doc), "f.yaml"); len(findings) != 1 || findings[0].Field != "spec.retry.attempts" {
			t.Errorf("%s: %+v", attempts, findings)
		} else {
			t.Log(findings[0].Message)
		}
	}
}
