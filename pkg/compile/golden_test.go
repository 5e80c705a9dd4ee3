package compile

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/meshd-io/meshd/internal/golden"
	"github.com/meshd-io/meshd/pkg/crds"
	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/report"
)

// testCase is an input file. Its first comments are options:
//
//	# show: Workloads, Services    fields of the Mesh in the golden file; Findings for these alone
//	# cidrs: 10.0.0.0/8            Config.CIDRs; "none" for none
//	# trustDomain: cluster.local   Config.TrustDomain
//	# lax                          objects as they come, as from an API server with older schemas
//
// A line "# then" begins another state: the objects below it replace those of
// their names, and what was accepted before is remembered.
type testCase struct {
	show   []string
	config Config
	lax    bool
	steps  [][]byte
}

func readCase(t *testing.T, path string) testCase {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	c := testCase{config: Config{
		Trust: model.Trust{Bundle: "roots"},
		CIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")},
	}}
	for line := range strings.Lines(string(data)) {
		comment, ok := strings.CutPrefix(strings.TrimSpace(line), "# ")
		if !ok {
			break
		}
		key, value, _ := strings.Cut(comment, ": ")
		switch key {
		case "show":
			c.show = strings.Split(value, ", ")
		case "lax":
			c.lax = true
		case "trustDomain":
			c.config.TrustDomain = value
		case "cidrs":
			c.config.CIDRs = nil
			for s := range strings.SplitSeq(value, ", ") {
				if s != "none" {
					c.config.CIDRs = append(c.config.CIDRs, netip.MustParsePrefix(s))
				}
			}
		}
	}
	c.steps = bytes.Split(data, []byte("\n# then\n"))
	return c
}

// snapshots are the states of a case, and what loading the last one found.
func (c testCase) snapshots(t *testing.T) ([]*crds.Snapshot, []report.Finding) {
	t.Helper()
	var out []*crds.Snapshot
	var findings []report.Finding
	var file []byte
	for _, step := range c.steps {
		file = slices.Concat(step, []byte("\n---\n"), file) // of two objects of one name the first counts
		if c.lax {
			out = append(out, decodeLax(t, file))
			continue
		}
		path := filepath.Join(t.TempDir(), "case.yaml")
		if err := os.WriteFile(path, file, 0o600); err != nil {
			t.Fatal(err)
		}
		snap, fs, err := crds.Load(path)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, snap)
		findings = slices.DeleteFunc(fs, func(f report.Finding) bool { return f.Reason == report.Duplicate })
	}
	return out, findings
}

// compileAll compiles the states one after the other and gives the last result.
func compileAll(snaps []*crds.Snapshot, config Config) (mesh *model.Mesh, findings []report.Finding) {
	c := NewCompiler()
	for _, snap := range snaps {
		mesh, findings = c.Compile(snap, config)
	}
	return mesh, findings
}

// TestGolden compiles every case, compares with its golden file, and holds the
// whole corpus to the properties of package compile: its input is left alone,
// and the order of objects does not matter.
func TestGolden(t *testing.T) {
	standard := standardTraffic(t)
	var corpus []*crds.Snapshot
	for _, in := range golden.Inputs(t, "testdata/*.in.yaml") {
		t.Run(strings.TrimSuffix(filepath.Base(in), ".in.yaml"), func(t *testing.T) {
			c := readCase(t, in)
			snaps, loaded := c.snapshots(t)
			for _, f := range loaded {
				t.Errorf("the input does not load: %s: %s: %s", f.Object, f.Field, f.Message)
			}
			before := dump(t, snaps)
			mesh, findings := compileAll(snaps, c.config)
			golden.Check(t, strings.TrimSuffix(in, ".in.yaml")+".out.yaml", render(t, mesh, c.show, findings, standard))
			if after := dump(t, snaps); before != after {
				t.Errorf("compilation changed its input:\n%s", golden.Diff(before, after))
			}
			checkOrder(t, snaps, c.config)
			corpus = append(corpus, snaps[len(snaps)-1])
		})
	}
	t.Run("all at once", func(t *testing.T) {
		checkOrder(t, []*crds.Snapshot{united(corpus)}, Config{})
	})
}

func dump(t *testing.T, snaps []*crds.Snapshot) string {
	t.Helper()
	data, err := yaml.Marshal(snaps)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestGoldenOutputsHaveInputs: a renamed case leaves nothing behind.
func TestGoldenOutputsHaveInputs(t *testing.T) {
	for _, out := range golden.Inputs(t, "testdata/*.out.yaml") {
		if _, err := os.Stat(strings.TrimSuffix(out, ".out.yaml") + ".in.yaml"); err != nil {
			t.Error(err)
		}
	}
}

// caseName is FEATURE-CONDITION.
var caseName = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)+\.(in|out)\.yaml$`)

func TestGoldenNames(t *testing.T) {
	for _, path := range golden.Inputs(t, "testdata/*.yaml") {
		if !caseName.MatchString(filepath.Base(path)) {
			t.Errorf("%s is not FEATURE-CONDITION.in.yaml or .out.yaml", path)
		}
	}
}

// standardTraffic is the built-in Traffic: a Service's about which nobody says anything.
func standardTraffic(t *testing.T) model.Traffic {
	t.Helper()
	snap := decodeLax(t, []byte("{apiVersion: v1, kind: Service, metadata: {name: s, namespace: ns}, spec: {ports: [{port: 1}]}}"))
	mesh, fs := Compile(snap, Config{})
	if len(fs) > 0 {
		t.Fatal(fmt.Sprint(fs))
	}
	service, _ := mesh.Services.Get(model.Name{Namespace: "ns", Name: "s"})
	return service.Ports[0].Backend.Traffic
}
