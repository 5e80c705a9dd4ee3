package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// The programs' folder, as hack/kube prints it; empty: nothing is tested.
var kube = os.Getenv("MESHD_KUBE")

// own: the cluster is this test's, up and down with it.
var own = os.Getenv("CLUSTER") != "existing"

// state is that of hack/cluster; of a cluster that exists, the default one's.
var state = os.Getenv("MESHD_CLUSTER")

const (
	repository = "../.."
	system     = "meshd-system"
	chart      = "charts/meshd"
	patience   = 3 * time.Minute // for what takes seconds on a machine that has nothing else to do
)

func TestMain(m *testing.M) {
	code := m.Run()
	if err := tearDown(); err != nil {
		fmt.Fprintln(os.Stderr, "tear down:", err)
		code = 1
	}
	os.Exit(code)
}

var (
	bringUp   = sync.OnceValue(setUpCluster)
	install   = sync.OnceValue(setUpMesh)
	broughtUp bool
)

// clustered makes sure that there is a cluster with the images in it.
func clustered(t *testing.T) {
	t.Helper()
	if kube == "" {
		t.Skip("NOT TESTED: MESHD_KUBE is not set (make test-cluster)")
	}
	if err := bringUp(); err != nil {
		t.Fatal(err)
	}
}

// installed makes sure that there is a cluster with meshd and the example bank in it.
func installed(t *testing.T) {
	t.Helper()
	clustered(t)
	if err := install(); err != nil {
		t.Fatal(err)
	}
}

// phase runs a part of the set-up and tells how long it took.
func phase(name string, run func() error) error {
	began := time.Now()
	if err := run(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	fmt.Printf("    %-22s %s\n", name, time.Since(began).Round(100*time.Millisecond))
	return nil
}

func setUpCluster() error {
	if own {
		state = filepath.Join(os.TempDir(), "meshd-cluster-test")
		os.Setenv("MESHD_CLUSTER", state)
		broughtUp = true
		err := phase("cluster up", func() error {
			if _, err := run("", "hack/cluster", "down"); err != nil { // a former test's, that was killed
				return err
			}
			out, err := run("", "hack/cluster", "up")
			os.Setenv("KUBECONFIG", strings.TrimSpace(out))
			return err
		})
		if err != nil {
			return err
		}
	}
	if os.Getenv("MESHD_INSTALLED") != "" {
		return nil
	}
	return phase("build and load images", func() error { return loadImages(".", "meshd", "meshd-agent", "eazybank", "envoy") })
}

func setUpMesh() error {
	if os.Getenv("MESHD_INSTALLED") != "" {
		return nil
	}
	err := phase("helm install", func() error {
		_, err := run("", "helm", "upgrade", "--install", "meshd", chart, "-n", system, "--create-namespace", "--wait", "--timeout", patience.String())
		return err
	})
	if err != nil {
		return err
	}
	return phase("apply the bank", applyBank)
}

// loadImages builds images from a tree of sources and gives them to a cluster of
// hack/cluster; any other has to have them.
func loadImages(tree string, names ...string) error {
	if !local() {
		fmt.Println("    the cluster is not of hack/cluster: its nodes must find the images themselves")
		return nil
	}
	folder, err := os.MkdirTemp("", "meshd-images-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	if _, err := run("", filepath.Join(tree, "hack/image"), append([]string{folder}, names...)...); err != nil {
		return err
	}
	archives, err := filepath.Glob(folder + "/*.tar")
	if err != nil {
		return err
	}
	_, err = run("", "hack/cluster", append([]string{"load"}, archives...)...)
	return err
}

// local: the cluster is one of hack/cluster on this machine.
func local() bool {
	config, err := run("", "hack/cluster", "kubeconfig")
	return err == nil && strings.TrimSpace(config) == os.Getenv("KUBECONFIG")
}

// applyBank does what the README says, and waits until the bank is open. The
// CertificateAuthority goes first: what it says decides how pods are made.
func applyBank() error {
	if _, err := run("", "kubectl", "apply", "-f", "examples/eazybank/00-mesh.yaml"); err != nil {
		return err
	}
	if _, err := run("", "kubectl", "wait", "--for=condition=Accepted", "certificateauthority/default", "--timeout="+patience.String()); err != nil {
		return err
	}
	if _, err := run("", "kubectl", "apply", "-f", "examples/eazybank"); err != nil {
		return err
	}
	for _, d := range []string{"bank/accounts", "bank/cards", "bank/loans", "outside/client"} {
		ns, name, _ := strings.Cut(d, "/")
		if err := rolledOut(ns, name); err != nil {
			return err
		}
	}
	if _, err := run("", "kubectl", "wait", "-n", "bank", "--for=jsonpath={.status.loadBalancer.ingress[0].ip}", "ingress/eazybank", "--timeout="+patience.String()); err != nil {
		return err
	}
	// The gateway itself: made when the Ingress was seen.
	return rolledOut(system, "meshd-ingress")
}

func rolledOut(namespace, deployment string) error {
	_, err := run("", "kubectl", "rollout", "status", "-n", namespace, "deployment/"+deployment, "--timeout="+patience.String())
	return err
}

func tearDown() error {
	if !broughtUp {
		if kube == "" {
			return nil
		}
		_, err := run("", "kubectl", "delete", "namespace", "steady", "--ignore-not-found", "--wait=false")
		return err
	}
	if _, err := run("", "hack/cluster", "down"); err != nil {
		return err
	}
	// Nothing is left behind.
	if _, err := os.Stat(state); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s is still there: %w", state, err)
	}
	left, err := filepath.Glob("/sys/fs/cgroup/*/meshd-kube-*")
	if more, _ := filepath.Glob("/sys/fs/cgroup/meshd-kube-*"); len(more) > 0 {
		left = append(left, more...)
	}
	if _, found := net.InterfaceByName("meshd-kube"); found == nil || len(left) > 0 || err != nil {
		return fmt.Errorf("left behind: link: %t, cgroups: %v, %w", found == nil, left, err)
	}
	return nil
}

// run runs a program of the repository, of MESHD_KUBE or of the PATH, in the repository's root. Its error has what it said.
func run(stdin, program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	defer cancel()
	return runContext(ctx, stdin, program, args...)
}

func runContext(ctx context.Context, stdin, program string, args ...string) (string, error) {
	path := program
	if _, err := os.Stat(filepath.Join(kube, program)); err == nil {
		path = filepath.Join(kube, program)
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir, cmd.Stdin = repository, strings.NewReader(stdin)
	out, err := cmd.Output()
	if err != nil {
		said := ""
		if e := (*exec.ExitError)(nil); errors.As(err, &e) {
			said = strings.TrimSpace(string(e.Stderr))
		}
		return string(out), fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, said)
	}
	return string(out), nil
}

// kubectl must succeed.
func kubectl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := run("", "kubectl", args...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// apply gives the cluster documents, and takes them back when the test is over.
func apply(t *testing.T, documents string) {
	t.Helper()
	if _, err := run(documents, "kubectl", "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, told := toldOf.LoadOrStore(t.Name(), true); t.Failed() && !told {
			tellState(t)
		}
		remove(t, documents)
	})
}

// toldOf are the tests whose end has begun.
var toldOf sync.Map

func remove(t *testing.T, documents string) {
	t.Helper()
	if _, err := run(documents, "kubectl", "delete", "--ignore-not-found", "--timeout="+patience.String(), "-f", "-"); err != nil {
		t.Error(err)
	}
}

// eventually waits until a condition holds; what it saw is told where it does not.
func eventually(t *testing.T, what string, holds func() (bool, string)) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, saw := holds()
		if ok {
			return
		}
		select {
		case <-deadline.C:
			t.Fatalf("%s: not within %s: %s", what, patience, saw)
		case <-tick.C:
		}
	}
}

// tellState prints what one wants to know of a cluster in which a test has
// failed, and keeps the logs of a cluster of hack/cluster, which go with it.
func tellState(t *testing.T) {
	kubeconfig := "--kubeconfig=" + os.Getenv("KUBECONFIG")
	for _, line := range [][]string{
		{"kubectl", "get", "pods", "-A", "-o", "wide"},
		{"kubectl", "get", "events", "-A", "--field-selector=type!=Normal", "--sort-by=.lastTimestamp"},
		{"kubectl", "get", "ingresses", "-A", "-o", "yaml"},
		{"kubectl", "logs", "-n", "steady", "-l", "app in (load, target)", "--all-containers", "--prefix", "--tail=5", "--max-log-requests=30"},
		{"kubectl", "logs", "-n", system, "-l", "meshd.io/gateway=ingress", "--all-containers", "--prefix", "--tail=20"},
		{"kubectl", "logs", "-n", system, "-l", "app.kubernetes.io/component=control-plane", "--prefix", "--tail=60"},
		{"go", "run", "./cmd/meshd", "proxies", kubeconfig},
		{"go", "run", "./cmd/meshd", "check", kubeconfig},
		{"go", "run", "./cmd/meshd", "translate", kubeconfig, "--workload=" + system + "/meshd-ingress"},
	} {
		out, err := run("", line[0], line[1:]...)
		if err != nil {
			out += err.Error()
		}
		t.Logf("%s\n%s", strings.Join(line, " "), out)
	}
	if !local() {
		return
	}
	kept, err := os.MkdirTemp("", "meshd-cluster-log-*")
	if err == nil {
		err = os.CopyFS(kept, os.DirFS(filepath.Join(state, "log")))
	}
	t.Logf("the cluster's own logs are kept in %s (%v)", kept, err)
}
