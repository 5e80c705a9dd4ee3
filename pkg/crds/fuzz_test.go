package crds

import (
	"os"
	"testing"
)

// Whatever a file holds, it is decoded or told of: each document is an object,
// a finding, or of a kind that is ignored; and nothing panics or runs away.
func FuzzDecode(f *testing.F) {
	examples, err := os.ReadFile("testdata/api/examples.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(examples)
	for _, seed := range []string{
		good, "---\n...\n--- {a: b}\n", "a: &a [*a]\n", "{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": [{}, null, 1]}",
		"apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {ports: [{port: http}]}\n", "on: {off: y}\n\ton:\n",
		"%YAML 1.2\n---\nkind: X\n", "apiVersion: meshd.io/v1alpha1\nkind: MeshConfig\nmetadata: null\nspec: [1]\n", "\xef\xbb\xbf# x\n", "? [a]\n: b\n",
		"apiVersion: v1\nkind: Secret\nmetadata: {name: x, labels: {<<: {a: b}}}\ndata: {a: !!binary Zg==}\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		objects, findings := Decode(data, "f.yaml")
		for _, o := range objects {
			if o.Resource == nil || o.Line < 1 {
				t.Errorf("object %+v", o)
			}
		}
		for _, finding := range findings {
			if finding.File != "f.yaml" || finding.Line < 1 || finding.Message == "" || finding.Reason == "" {
				t.Errorf("finding %+v", finding)
			}
		}
	})
}
