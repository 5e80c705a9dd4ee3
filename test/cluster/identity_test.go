package cluster

import (
	"fmt"
	"strings"
	"testing"
)

// caller is a pod of the mesh in namespace steady, by one carrier of identities.
func caller(carrier string) string {
	name := strings.ToLower(carrier)
	return fmt.Sprintf(`
apiVersion: v1
kind: ServiceAccount
metadata: {name: %[1]s, namespace: steady}
---
apiVersion: v1
kind: Pod
metadata: {name: %[1]s, namespace: steady, labels: {app: %[1]s}, annotations: {meshd.io/identity: %[2]s}}
spec:
  serviceAccountName: %[1]s
  containers:
  - name: app
    image: ghcr.io/meshd-io/eazybank:0.5.0
    command: [eazybank, serve, %[1]s, --port, "8080"]
    ports: [{name: http, containerPort: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: %[1]s, namespace: steady}
spec:
  selector: {app: %[1]s}
  ports: [{name: http, port: 8080}]
`, name, carrier)
}

const strict = `
apiVersion: meshd.io/v1alpha1
kind: PeerAuthentication
metadata: {name: default, namespace: steady}
spec: {mode: Strict}
---
apiVersion: meshd.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: carriers, namespace: steady}
spec:
  action: Allow
  rules:
  - sources: [{serviceAccount: {name: agent}}]
    to: [{paths: [/podcertificate]}]
  - sources: [{serviceAccount: {name: podcertificate}}]
    to: [{paths: [/agent]}]
`

// A pod with the agent and one that kubelet gives its certificate to know each
// other by identity; the latter holds a stock Envoy and no agent at work.
func TestCarriers(t *testing.T) {
	installed(t)
	if out, err := run("", "kubectl", "get", "--raw", "/apis/certificates.k8s.io/v1"); err != nil || !strings.Contains(out, `"podcertificaterequests"`) {
		t.Skip("NOT TESTED: the cluster does not serve PodCertificateRequests")
	}
	targeted(t)
	apply(t, caller("Agent")+"---"+caller("PodCertificate")+"---"+strict)
	kubectl(t, "wait", "-n", "steady", "--for=condition=Ready", "pod/agent", "pod/podcertificate", "--timeout="+patience.String())
	kubectl(t, "wait", "-n", "steady", "--for=condition=Programmed", "peerauthentication/default", "authorizationpolicy/carriers", "--timeout="+patience.String())

	containers := func(pod string) string {
		return kubectl(t, "get", "pod", "-n", "steady", pod, "-o", "jsonpath={.spec.initContainers[?(@.restartPolicy==\"Always\")].command[0]}")
	}
	if got := containers("podcertificate"); got != "envoy" {
		t.Errorf("the pod that kubelet certifies runs %s", got)
	}
	if got := containers("agent"); !strings.Contains(got, "meshd-agent") {
		t.Errorf("the pod of carrier Agent runs %s", got)
	}
	ask := func(from, to string) string {
		return kubectl(t, "exec", "-n", "steady", from, "-c", "app", "--", "eazybank", "get", "http://"+to+":8080/"+to)
	}
	for from, to := range map[string]string{"agent": "podcertificate", "podcertificate": "agent"} {
		if got := ask(from, to); !strings.HasPrefix(got, "200 ") {
			t.Errorf("%s asks %s: %s", from, to, got)
		}
	}
	if got := kubectl(t, "exec", "-n", "outside", "deployment/client", "--", "eazybank", "get", "http://agent.steady:8080/agent"); !strings.HasPrefix(got, "000 ") {
		t.Errorf("a stranger asks: %s", got)
	}
}
