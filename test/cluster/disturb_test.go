package cluster

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
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
		apply(t, another("other"))
		answers := func(code string) {
			t.Helper()
			for _, pod := range names(t, "steady", "app=target") {
				eventually(t, "other answers "+code, func() (bool, string) {
					got := kubectl(t, "exec", "-n", "steady", pod, "-c", "target", "--", "eazybank", "get", "http://other:8080/other")
					return strings.HasPrefix(got, code), got
				})
			}
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
		var before, pod string
		eventually(t, "a replica that stays leads", func() (bool, string) { // others may have been replaced a moment ago
			before = leader()
			pod, _, _ = strings.Cut(before, "_")
			ends, err := run("", "kubectl", "get", "pod", "-n", system, pod, "-o", "jsonpath={.metadata.deletionTimestamp}")
			return before != "" && err == nil && ends == "", before + " " + ends
		})
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

// comingUp is when the API server answered and was not ready: it refuses then what it grants.
var comingUp period

type period struct{ from, to time.Time }

func (p period) during(at time.Time) bool { return at.After(p.from) && at.Before(p.to) }

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
	// Tokens cannot be reviewed meanwhile: leaves have to live longer than that, as they do by default.
	targeted(t)
	lifetimes(t, "1h")
	kubectl(t, "rollout", "restart", "-n", "steady", "deployment/target") // with certificates of that life
	underLoad(t, func() {
		if _, err := run("", "hack/cluster", "stop", "kube-apiserver"); err != nil {
			t.Fatal(err)
		}
		<-time.After(outage) // what is tested is that it lasts
		comingUp.from = time.Now()
		if _, err := run("", "hack/cluster", "start", "kube-apiserver"); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the API server is back", func() (bool, string) {
			out, err := run("", "kubectl", "get", "--raw", "/readyz")
			return err == nil, out
		})
		comingUp.to = time.Now()
		programmed(t, "after-outage", nil)
		// What is new is known to every replica, whichever a caller is connected to.
		apply(t, another("newcomer"))
		if err := rolledOut("steady", "newcomer"); err != nil {
			t.Fatal(err)
		}
		endpoints(t, "steady", "newcomer", 1)
		for _, pod := range names(t, "steady", "app=target") {
			var got string
			eventually(t, "the cluster's DNS knows the service", func() (bool, string) { // it has an outage of its own to get over
				got = kubectl(t, "exec", "-n", "steady", pod, "-c", "target", "--", "eazybank", "get", "http://newcomer:8080/newcomer")
				return !strings.Contains(got, "no such host"), got
			})
			if !strings.HasPrefix(got, "200 ") {
				t.Errorf("%s asks a service that is new after the outage: %s", pod, got)
			}
		}
		newNamespace(t)
	})
}

// endpoints waits until the API server has a Service's endpoints: after an outage
// the controllers that write them may be the last to know of their pods.
func endpoints(t *testing.T, namespace, service string, n int) {
	t.Helper()
	eventually(t, "the endpoints of "+service, func() (bool, string) {
		got := kubectl(t, "get", "endpointslices", "-n", namespace, "-l", "kubernetes.io/service-name="+service,
			"-o", "jsonpath={.items[*].endpoints[*].conditions.ready}")
		return strings.Count(got, "true") == n, got
	})
}

// newNamespace makes a namespace with a service and a client, all new to every replica. None of the client's requests fails.
func newNamespace(t *testing.T) {
	t.Helper()
	late := strings.NewReplacer("steady", "late", "15m", "5s")
	apply(t, late.Replace(steady))
	if err := rolledOut("late", "target"); err != nil {
		t.Fatal(err)
	}
	endpoints(t, "late", "target", 2)
	asker := names(t, "steady", "app=target")[0]
	eventually(t, "the cluster's DNS knows the service", func() (bool, string) {
		got := kubectl(t, "exec", "-n", "steady", asker, "-c", "target", "--", "eazybank", "get", "http://target.late:8080/target")
		return !strings.Contains(got, "no such host"), got
	})
	apply(t, late.Replace(loader))
	kubectl(t, "wait", "-n", "late", "--for=jsonpath={.status.phase}=Succeeded", "pod/load", "--timeout="+patience.String())
	if o := (load{t, "late", "load"}).newest(); o.Failed > 0 {
		t.Errorf("a new client in a new namespace: %d of %d requests failed: %v %v", o.Failed, o.Requests, o.Codes, o.Errors)
	}
}

// another service like the target, of one replica.
func another(name string) string {
	return strings.ReplaceAll(strings.ReplaceAll(steady[strings.Index(steady, "---"):], "target", name), "replicas: 2", "replicas: 1")
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

// lifetimes sets that of leaves for as long as the test runs; the bank's is a minute.
func lifetimes(t *testing.T, leaf string) {
	t.Helper()
	set := func(leaf string) {
		kubectl(t, "patch", "certificateauthority", "default", "--type=merge", "-p", `{"spec": {"lifetimes": {"leaf": "`+leaf+`"}}}`)
	}
	before := kubectl(t, "get", "certificateauthority", "default", "-o", "jsonpath={.spec.lifetimes.leaf}")
	set(leaf)
	t.Cleanup(func() { set(before) })
}

// The webhook's certificate is renewed at half of its life, every replica's own: pods can be made all the time.
func TestWebhookCertificateUnderLoad(t *testing.T) {
	underLoad(t, func() {
		// A certificate that lives for an hour would be renewed in half an hour: new replicas, new certificates.
		lifetimes(t, "30s")
		kubectl(t, "rollout", "restart", "-n", system, "deployment/meshd")
		if err := rolledOut(system, "meshd"); err != nil {
			t.Fatal(err)
		}
		replicas := names(t, system, "app.kubernetes.io/component=control-plane")
		before := map[string]string{}
		for _, pod := range replicas {
			before[pod] = webhookSerial(t, pod)
		}
		stop := makePods(t)
		for _, pod := range replicas {
			eventually(t, "the webhook of "+pod+" shows a new certificate", func() (bool, string) {
				now := webhookSerial(t, pod)
				return now != before[pod], now
			})
		}
		stop()
	})
}

// webhookSerial is the serial number of the certificate that a replica's webhook shows.
func webhookSerial(t *testing.T, pod string) string {
	t.Helper()
	address, end := forward(t, system, pod, 15017)
	defer end()
	conn, err := (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.String()
}

// forward gives an address of this machine that leads to a port of a pod, until end is called.
func forward(t *testing.T, namespace, pod string, port int) (address string, end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, filepath.Join(kube, "kubectl"), "port-forward", "-n", namespace, "pod/"+pod, fmt.Sprint(":", port))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end = func() {
		cancel()
		_ = cmd.Wait() // killed
	}
	line, err := bufio.NewReader(out).ReadString('\n') // Forwarding from 127.0.0.1:1234 -> 15017
	if err != nil {
		end()
		t.Fatalf("port-forward to %s: %v", pod, err)
	}
	address, _, _ = strings.Cut(strings.TrimPrefix(line, "Forwarding from "), " -> ")
	return address, end
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
	stop = sync.OnceFunc(func() {
		close(end)
		<-ended
		t.Logf("%d pods made meanwhile", made)
	})
	t.Cleanup(stop)
	return stop
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
