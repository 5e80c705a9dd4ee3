package cluster

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// These run last, by the name of this file: what all others have left behind.

// No proxy has ever refused anything, but for the test that was about it.
func TestZNothingRefused(t *testing.T) {
	installed(t)
	nothingRefused(t)
}

func nothingRefused(t *testing.T) {
	t.Helper()
	for _, pod := range proxied(t) {
		if strings.HasPrefix(pod.name, "meshd-ingress-") {
			continue // its log and events are TestRefusedByEnvoy's
		}
		stats := kubectl(t, "exec", "-n", pod.namespace, pod.name, "-c", pod.container, "--", "eazybank", "get", "http://127.0.0.1:15021/metrics")
		if !strings.Contains(stats, "update_rejected") {
			t.Errorf("%s/%s counts no refusals at all", pod.namespace, pod.name)
		}
		for line := range strings.Lines(stats) {
			if strings.Contains(line, "update_rejected") && !strings.HasPrefix(line, "#") && !strings.HasSuffix(strings.TrimSpace(line), " 0") {
				t.Errorf("%s/%s: %s", pod.namespace, pod.name, line)
			}
		}
	}
	for _, meshd := range names(t, system, "app.kubernetes.io/component=control-plane") {
		var state struct {
			Proxies []struct {
				Name  string
				Types []struct {
					Type     string
					Rejected []json.RawMessage
				}
			}
		}
		address, end := forward(t, system, meshd, 15016)
		resp, err := http.Get("http://" + address + "/state")
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		end()
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(body, &state); err != nil {
			t.Fatal(err)
		}
		for _, p := range state.Proxies {
			for _, kind := range p.Types {
				if len(kind.Rejected) > 0 {
					t.Errorf("%s refuses %s: %s", p.Name, kind.Type, kind.Rejected)
				}
			}
		}
	}
}

type proxiedPod struct{ namespace, name, container string }

// proxied are the bank's pods with a sidecar; all have the example's program.
func proxied(t *testing.T) []proxiedPod {
	t.Helper()
	var out []proxiedPod
	for _, app := range []string{"accounts", "cards", "loans"} {
		for _, name := range names(t, "bank", "app="+app) {
			out = append(out, proxiedPod{"bank", name, app})
		}
	}
	return out
}

// explained are the errors that a disturbance brings by its nature.
var explained = []string{
	"connection refused",        // the API server was stopped
	"context deadline exceeded", // likewise: nobody answered in time
	"i/o timeout",               // likewise
	"leader election lost",      // likewise
	"failed to renew lease",     // likewise
	"http2: client connection lost",
	`"resource":"cert|bank/usage"`, // TestRefusedByEnvoy
}

// Every error line in meshd's logs is explained by what the tests have done.
func TestZLogs(t *testing.T) {
	installed(t)
	for _, pod := range names(t, system, "app.kubernetes.io/component=control-plane") {
		restarts := kubectl(t, "get", "pod", "-n", system, pod, "-o", "jsonpath={.status.containerStatuses[0].restartCount}")
		if restarts != "0" {
			t.Errorf("%s has restarted %s times", pod, restarts)
		}
	lines:
		for line := range strings.Lines(kubectl(t, "logs", "-n", system, pod)) {
			var entry struct {
				Level string
				Time  time.Time
			}
			if err := json.Unmarshal([]byte(line), &entry); err != nil {
				t.Errorf("%s: a line that is no JSON: %s", pod, line)
				continue
			}
			if entry.Level != "ERROR" || comingUp.during(entry.Time) {
				continue
			}
			for _, word := range explained {
				if strings.Contains(line, word) {
					continue lines
				}
			}
			t.Errorf("%s: %s", pod, line)
		}
	}
}

// What is refused by RBAC would be in the audit log: meshd has asked for nothing that it may not.
func TestZNothingForbidden(t *testing.T) {
	installed(t)
	if !local() {
		t.Skip("NOT TESTED: only hack/cluster has the audit log at hand")
	}
	dir := state
	if dir == "" {
		dir = "/tmp/meshd-cluster"
	}
	out, err := run("", "grep", "-h", `"code":403`, dir+"/log/audit.log")
	if err == nil && out != "" {
		for line := range strings.Lines(out) {
			var e struct {
				Verb, RequestURI         string
				RequestReceivedTimestamp time.Time
				ResponseStatus           struct{ Message string }
			}
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				t.Fatal(err)
			}
			if comingUp.during(e.RequestReceivedTimestamp) {
				continue
			}
			if strings.Contains(e.ResponseStatus.Message, "because it is being terminated") {
				continue // a namespace that went at that moment
			}
			t.Errorf("%s %s: %s", e.Verb, e.RequestURI, e.ResponseStatus.Message)
		}
	}
}

// After helm uninstall pods can be made, in namespaces of the mesh too, and nothing asks for meshd any more.
func TestZUninstall(t *testing.T) {
	installed(t)
	if !own {
		t.Skip("NOT TESTED: the cluster is not this test's to uninstall from")
	}
	if _, err := run("", "helm", "uninstall", "meshd", "-n", system, "--wait", "--timeout", patience.String()); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"mutatingwebhookconfigurations", "validatingwebhookconfigurations", "clusterroles", "clusterrolebindings"} {
		if out := kubectl(t, "get", kind, "-o", "name"); strings.Contains(out, "meshd") {
			t.Errorf("left behind: %s", out)
		}
	}
	apply(t, fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: after, namespace: bank}
spec:
  containers: [{name: app, image: "%s", command: [eazybank, serve, after, --port, "8080"]}]
`, "ghcr.io/meshd-io/eazybank:0.5.0"))
	kubectl(t, "wait", "-n", "bank", "--for=condition=Ready", "pod/after", "--timeout="+patience.String())
	if out := kubectl(t, "get", "pod", "-n", "bank", "after", "-o", "jsonpath={.spec.initContainers[*].name}"); out != "" {
		t.Errorf("a pod is injected though nobody is there to do it: %s", out)
	}
}
