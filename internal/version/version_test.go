package version

import (
	"os"
	"testing"

	"sigs.k8s.io/yaml"
)

// The chart installs the images of this version.
func TestChartIsOfThisVersion(t *testing.T) {
	text, err := os.ReadFile("../../charts/meshd/Chart.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var chart struct{ AppVersion string }
	if err := yaml.Unmarshal(text, &chart); err != nil {
		t.Fatal(err)
	}
	if chart.AppVersion != Version {
		t.Errorf("appVersion %s, but this is %s", chart.AppVersion, Version)
	}
}
