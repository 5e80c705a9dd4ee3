package cluster

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

func TestRolloutUnderLoad(t *testing.T) {
	underLoad(t, func() {
		kubectl(t, "rollout", "restart", "-n", "steady", "deployment/target")
		if err := rolledOut("steady", "target"); err != nil {
			t.Fatal(err)
		}
	})
}

func TestPodDeletionUnderLoad(t *testing.T) {
	underLoad(t, func() {
		pods := names(t, "steady", "app=target")
		kubectl(t, "delete", "pod", "-n", "steady", pods[0])
		if err := rolledOut("steady", "target"); err != nil {
			t.Fatal(err)
		}
	})
}

// A second service goes to zero replicas and comes back: it answers again, and the first has noticed nothing.
func TestScaleToZeroUnderLoad(t *testing.T) {
	underLoad(t, func() {
		other := strings.ReplaceAll(strings.ReplaceAll(steady[strings.Index(steady, "---"):], "target", "other"), "replicas: 2", "replicas: 1")
		apply(t, other)
		ask := func() string {
			return kubectl(t, "exec", "-n", "steady", "deployment/target", "-c", "target", "--", "eazybank", "get", "http://other:8080/other")
		}
		answers := func(code string) {
			t.Helper()
			eventually(t, "other answers "+code, func() (bool, string) {
				got := ask()
				return strings.HasPrefix(got, code), got
			})
		}
		scale := func(n int) {
			kubectl(t, "scale", "-n", "steady", "deployment/other", fmt.Sprint("--replicas=", n))
			if err := rolledOut("steady", "other"); err != nil {
				t.Fatal(err)
			}
		}
		answers("200")
		scale(0)
		answers("503")
		scale(1)
		answers("200")
	})
}

// meshd's replicas are replaced one after another; proxies move, pods can be made all the time.
func TestRestartUnderLoad(t *testing.T) {
	underLoad(t, func() {
		stop := makePods(t)
		kubectl(t, "rollout", "restart", "-n", system, "deployment/meshd")
		if err := rolledOut(system, "meshd"); err != nil {
			t.Fatal(err)
		}
		stop()
	})
}

// The leader is killed: the other replica leads and serves on.
func TestReplicaKilledUnderLoad(t *testing.T) {
	underLoad(t, func() {
		leader := func() string {
			return kubectl(t, "get", "lease", "-n", system, "meshd", "-o", "jsonpath={.spec.holderIdentity}")
		}
		before := leader()
		if before == "" {
			t.Fatal("nobody leads")
		}
		pod, _, _ := strings.Cut(before, "_")
		kubectl(t, "delete", "pod", "-n", system, pod, "--force", "--grace-period=0")
		eventually(t, "another replica leads", func() (bool, string) {
			now := leader()
			return now != "" && now != before, now
		})
		if err := rolledOut(system, "meshd"); err != nil {
			t.Fatal(err)
		}
		programmed(t, "after", nil)
	})
}

// The API server goes away for minutes. Nothing is withdrawn because of not
// knowing; afterwards changes arrive as ever.
func TestAPIServerAwayUnderLoad(t *testing.T) {
	installed(t)
	if !local() {
		t.Skip("NOT TESTED: only the API server of hack/cluster can be stopped")
	}
	outage := 2 * time.Minute
	if s := os.Getenv("MESHD_OUTAGE"); s != "" {
		var err error
		if outage, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
	}
	underLoad(t, func() {
		if _, err := run("", "hack/cluster", "stop", "kube-apiserver"); err != nil {
			t.Fatal(err)
		}
		<-time.After(outage) // what is tested is that it lasts
		if _, err := run("", "hack/cluster", "start", "kube-apiserver"); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the API server is back", func() (bool, string) {
			out, err := run("", "kubectl", "get", "--raw", "/readyz")
			return err == nil, out
		})
		programmed(t, "after-outage", nil)
	})
}

// helm upgrade replaces meshd; proxies move, pods can be made all the time.
func TestHelmUpgradeUnderLoad(t *testing.T) {
	underLoad(t, func() {
		stop := makePods(t)
		_, err := run("", "helm", "upgrade", "meshd", chart, "-n", system, "--reuse-values",
			"--set", fmt.Sprint("podAnnotations.upgraded=at", time.Now().Unix()), "--wait", "--timeout", patience.String())
		if err != nil {
			t.Fatal(err)
		}
		stop()
	})
}

// makePods makes pods, as a dry run, until it is told to stop: each must get its sidecar.
func makePods(t *testing.T) (stop func()) {
	t.Helper()
	const pod = `{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "dry", "namespace": "steady"}, "spec": {"containers": [{"name": "x", "image": "x"}]}}`
	end, ended := make(chan struct{}), make(chan struct{})
	made := 0
	tick := time.NewTicker(500 * time.Millisecond)
	go func() {
		defer close(ended)
		defer tick.Stop()
		for {
			select {
			case <-end:
				return
			case <-tick.C:
			}
			out, err := run(pod, "kubectl", "create", "--dry-run=server", "-o", "jsonpath={.spec.initContainers[*].name}", "-f", "-")
			switch {
			case err != nil:
				t.Errorf("a pod cannot be made: %v", err)
			case !strings.Contains(out, "meshd-proxy"):
				t.Errorf("a pod without a sidecar: %s", out)
			}
			made++
		}
	}()
	return func() {
		close(end)
		<-ended
		t.Logf("%d pods made meanwhile", made)
	}
}

// names of pods that are ready and not on their way out.
func names(t *testing.T, namespace, selector string) []string {
	t.Helper()
	out := kubectl(t, "get", "pods", "-n", namespace, "-l", selector, "--field-selector=status.phase=Running",
		"-o", `jsonpath={range .items[*]}{.metadata.name} {.metadata.deletionTimestamp}{"\n"}{end}`)
	var all []string
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) == 1 {
			all = append(all, f[0])
		}
	}
	if len(all) == 0 {
		t.Fatalf("no pods %s in %s", selector, namespace)
	}
	return all
}

// programmed applies a policy for the target and waits until every proxy concerned has
// acknowledged it; with meanwhile, that is done first, while nobody has to have.
func programmed(t *testing.T, name string, meanwhile func(policy string)) {
	t.Helper()
	apply(t, fmt.Sprintf(`
apiVersion: meshd.io/v1alpha1
kind: TrafficPolicy
metadata: {name: %s, namespace: steady}
spec:
  targetRefs: [{kind: Service, name: target}]
  timeout: {request: 14s}
`, name))
	if meanwhile != nil {
		meanwhile("trafficpolicy/" + name)
	}
	kubectl(t, "wait", "-n", "steady", "--for=condition=Programmed", "trafficpolicy/"+name, "--timeout="+patience.String())
}
