package crds

import (
	"os"
	"testing"
)

// Every example of the API's description is accepted as it is printed there.
func TestExamplesAreAccepted(t *testing.T) {
	const file = "testdata/api/examples.yaml"
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	objects, findings := Decode(data, file)
	for _, f := range findings {
		t.Errorf("%s:%d: %s: %s: %s", f.File, f.Line, f.Object, f.Field, f.Message)
	}
	if len(objects) != 7 {
		t.Errorf("%d objects, want 7", len(objects))
	}
}
