package integration

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/meshd-io/meshd/internal/envoytest"
	"github.com/meshd-io/meshd/pkg/lab"
	"github.com/meshd-io/meshd/pkg/lab/sandbox"
)

// The lab starts its processes as children of this binary.
func TestMain(m *testing.M) {
	sandbox.RunChild()
	os.Exit(m.Run())
}

// feature is one thing that the mesh carries or does, shown in a lab with real Envoys.
type feature struct {
	name string
	// manifest is applied first, with NS as the feature's own namespace; "" if the common pods are enough.
	manifest string
	test     func(*world)
}

// TestLab runs every feature in one lab, whose start takes seconds. A feature
// of "alone" changes the whole mesh; the others share the machine.
func TestLab(t *testing.T) {
	l := startLab(t)
	l.must(t, commonPods)
	t.Run("together", func(t *testing.T) {
		for _, f := range together() {
			t.Run(f.name, func(t *testing.T) {
				t.Parallel()
				l.run(t, f)
			})
		}
	})
	t.Run("alone", func(t *testing.T) {
		for _, f := range alone() {
			t.Run(f.name, func(t *testing.T) { l.run(t, f) })
		}
	})
}

// labRanges are pods' and services', beside those of labs that someone else may have on this machine.
func labRanges() (pods, services []string) {
	n := os.Getpid() % 40
	return []string{fmt.Sprintf("10.%d.0.0/16", 130+n), fmt.Sprintf("fd00:10:%d::/64", 130+n)},
		[]string{fmt.Sprintf("10.%d.0.0/16", 180+n), fmt.Sprintf("fd00:10:%d::/112", 180+n)}
}

// mesh is a running lab.
type mesh struct {
	*lab.Client
	dir, bin string
	logs     *logs
}

func startLab(t *testing.T) *mesh {
	t.Helper()
	envoy := envoytest.Binary(t)
	if err := sandbox.Check(); err != nil {
		t.Skip(err)
	}
	m := &mesh{bin: programs(t), dir: filepath.Join(t.TempDir(), "lab")}
	m.Client, m.logs = lab.NewClient(m.dir), &logs{dir: filepath.Join(m.dir, "logs"), read: map[string]int{}}
	t.Setenv("MESHD_ENVOY", envoy)
	empty := filepath.Join(t.TempDir(), "empty.yaml")
	if err := os.WriteFile(empty, []byte("apiVersion: v1\nkind: Namespace\nmetadata: {name: features}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if out, err := m.meshd(context.WithoutCancel(t.Context()), "lab", "down"); err != nil {
			t.Errorf("lab down: %v\n%s", err, out)
		}
		if _, err := os.Stat(m.dir); !os.IsNotExist(err) {
			t.Errorf("the lab's folder is left: %v", err)
		}
	})
	pods, services := labRanges()
	if out, err := m.meshd(t.Context(), "lab", "up", "-f", empty,
		"--pod-cidrs", strings.Join(pods, ","), "--service-cidrs", strings.Join(services, ",")); err != nil {
		daemon, _ := os.ReadFile(filepath.Join(m.dir, "daemon.log"))
		t.Fatalf("lab up: %v\n%s\n%s", err, out, daemon)
	}
	return m
}

func (m *mesh) meshd(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(m.bin, "meshd"), append(args, "--state-dir", m.dir)...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// programs is a folder with meshd, its agent and the application: those of
// $MESHD_BIN, which make sets, or built here.
func programs(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	built := []string{"./test/integration/app"}
	if given := os.Getenv("MESHD_BIN"); given != "" {
		for _, p := range []string{"meshd", "meshd-agent"} {
			raw, err := os.ReadFile(filepath.Join(given, p))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, p), raw, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	} else {
		built = append(built, "./cmd/meshd", "./cmd/meshd-agent")
	}
	cmd := exec.Command("go", append([]string{"build", "-ldflags", "-s -w", "-o", dir + "/"}, built...)...)
	cmd.Dir = filepath.Join("..", "..")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return dir
}

// run applies a feature's objects, tests it, and takes them away.
func (m *mesh) run(t *testing.T, f feature) {
	w := &world{T: t, mesh: m, ns: "f-" + strings.ReplaceAll(f.name, " ", "-")}
	t.Cleanup(func() { w.healthy() })
	if f.manifest != "" {
		w.apply(f.manifest)
	}
	f.test(w)
}

const applyTime = 60 * time.Second

// must applies objects of which none may be refused or left over.
func (m *mesh) must(t *testing.T, yaml string) {
	t.Helper()
	out, err := m.Apply(t.Context(), []lab.Document{{File: "test.yaml", Content: []byte(yaml)}}, applyTime)
	if err != nil {
		t.Fatal(err)
	}
	if len(out.Refused)+len(out.Pending) > 0 {
		t.Fatalf("refused: %+v\npending: %v\n%s", out.Refused, out.Pending, m.logs.all("meshd-system_", "features_"))
	}
	for _, n := range out.Notes {
		t.Log("note: ", n)
	}
}
