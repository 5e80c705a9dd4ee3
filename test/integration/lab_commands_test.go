package integration

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// commandPods are a pod in the mesh with two containers, and a Deployment for namespace default.
const commandPods = policyPods + `---
apiVersion: apps/v1
kind: Deployment
metadata: {name: talk, namespace: NS}
spec:
  selector: {matchLabels: {app: talk}}
  template:
    metadata: {labels: {app: talk}}
    spec:
      containers:
      - {name: first, image: x, command: [sh, -c, "echo out; echo err >&2; exec sleep infinity"]}
      - {name: second, image: x, command: [sh, -c, "echo second; exec sleep infinity"]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: commands, namespace: default}
spec:
  selector: {matchLabels: {app: commands}}
  template:
    metadata: {labels: {app: commands}}
    spec: {containers: [{name: only, image: x, command: [sleep, infinity]}]}
`

// TestCommands is the command line, and what it says to bad input.
func TestCommands(t *testing.T) {
	l := startLab(t)
	l.must(t, commonPods)
	for _, f := range []feature{
		{name: "commands", manifest: commandPods, test: testCommands},
		{name: "bad input", manifest: policyPods, test: testBadInput},
		{name: "refused by envoy", manifest: policyPods, test: testRefusedByEnvoy},
	} {
		t.Run(f.name, func(t *testing.T) { l.run(t, f) })
	}
}

// command is a run of meshd, and what should come of it.
type command struct {
	args, stdin    string // NS, POD and LAB stand for what is there
	code           int
	stdout, stderr string // contained; "" is nothing at all
}

// meshdRun runs meshd; what is after " -- " is one argument each, too.
func (w *world) meshdRun(stdin string, args ...string) (stdout, stderr string, code int) {
	w.Helper()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(w.Context(), filepath.Join(w.bin, "meshd"), args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		w.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

func (w *world) commands(all ...command) {
	w.Helper()
	dir := w.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "empty"), 0o700); err != nil {
		w.Fatal(err)
	}
	single := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: single, namespace: " + w.ns + "}\n"
	if err := os.WriteFile(filepath.Join(dir, "single.yaml"), []byte(single), 0o600); err != nil {
		w.Fatal(err)
	}
	names := strings.NewReplacer("NS", w.ns, "POD", w.pod(w.ns, "talk-").Name, "NOLAB", "--state-dir "+filepath.Join(dir, "none"),
		"LAB", "--state-dir "+w.dir, "SOCKET", "--admin-socket "+filepath.Join(w.dir, "meshd", "admin.sock"), "DIR", dir)
	for _, c := range all {
		out, errs, code := w.meshdRun(c.stdin, strings.Fields(names.Replace(c.args))...)
		wrong := func(got, want string) bool {
			return want == "" && got != "" || !strings.Contains(got, names.Replace(want))
		}
		if code != c.code || wrong(out, c.stdout) || wrong(errs, c.stderr) || c.code == 1 && strings.Count(errs, "\n") != 1 {
			w.Errorf("meshd %s: exit %d, want %d\nstdout %q, want %q\nstderr %q, want %q", c.args, code, c.code, out, c.stdout, errs, c.stderr)
		}
	}
}

func testCommands(w *world) {
	w.commands(
		command{args: "lab exec deploy/talk -n NS LAB -- cat", stdin: "hello", stdout: "hello"},
		command{args: "lab exec POD -n NS -c second LAB -- hostname", stdout: "POD"},
		command{args: "lab exec deploy/talk -n NS LAB -- ls /nowhere", code: 2, stderr: "/nowhere"},
		command{args: "lab exec deploy/commands LAB -- true"},
		command{args: "lab exec deploy/commands LAB -- nosuchprogram", code: 127, stderr: "not found on PATH"},
		command{args: "lab exec deploy/talk LAB -- true", code: 1, stderr: "namespace default has no pod deploy/talk"},
		command{args: "lab exec POD -n NS -c nope LAB -- true", code: 1, stderr: "no container"},
		command{args: "lab exec POD -n NS LAB true", code: 1, stderr: "then -- and a command"},
		command{args: "lab logs deploy/talk -n NS LAB", stdout: "out\n"},
		command{args: "lab logs POD -n NS -c second LAB", stdout: "second\n"},
		command{args: "lab logs nope LAB", code: 1, stderr: "no pod nope"},
		command{args: "lab up -f DIR/missing LAB", code: 1, stderr: "DIR/missing"},
		command{args: "lab up -f DIR/empty LAB", code: 1, stderr: "DIR/empty has no"},
		command{args: "lab up -f DIR/single.yaml LAB"},
		command{args: "lab up -f DIR/single.yaml LAB"},
		command{args: "lab apply -f DIR/single.yaml LAB"},
		command{args: "lab delete -f DIR/single.yaml LAB"},
		command{args: "lab delete -f DIR/single.yaml LAB", code: 1, stderr: "ConfigMap NS/single: there is no such object (NotFound)"},
		command{args: "lab status NOLAB", code: 1, stderr: "no lab is running"},
		command{args: "lab exec x NOLAB -- true", code: 1, stderr: "no lab is running"},
		command{args: "lab logs x NOLAB", code: 1, stderr: "no lab is running"},
		command{args: "lab apply -f DIR/single.yaml NOLAB", code: 1, stderr: "no lab is running"},
		command{args: "lab down NOLAB"},
		command{args: "lab nonsense LAB", code: 1, stderr: "unknown command"},
		command{args: "lab status -o yaml LAB", code: 1, stderr: "only json is known"},
		command{args: "lab status LAB", stdout: "POD"},
		command{args: "proxies SOCKET", stdout: "NS/POD"},
		command{args: "proxies -o yaml SOCKET", code: 1, stderr: "-o yaml"},
	)
	var s map[string][]map[string]any
	out, _, code := w.meshdRun("", "lab", "status", "-o", "json", "--state-dir", w.dir)
	if err := json.Unmarshal([]byte(out), &s); err != nil || code != 0 {
		w.Fatalf("exit %d, %v: %s", code, err, out)
	}
	if len(s) != 4 || s["gateways"] == nil || len(s["gateways"]) != 0 || s["objects"] == nil || len(s["proxies"]) == 0 {
		w.Errorf("status: %s", out)
	}
	for _, p := range s["pods"] {
		for _, field := range []string{"namespace", "name", "owner", "address", "phase", "ready", "containers"} {
			if _, ok := p[field]; !ok {
				w.Errorf("a pod without %s: %v", field, p)
			}
		}
	}
}

// badInput is a document among good ones, and what is said of it.
type badInput struct{ name, doc, says string }

func badInputs() []badInput {
	deployment := func(name, pod string) string {
		return "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: " + name + ", namespace: NS}\nspec: {selector: {matchLabels: {app: " + name +
			"}}, template: {metadata: {labels: {app: " + name + ", meshd.io/inject: enabled}}, spec: {" + pod + "}}}\n"
	}
	return []badInput{
		{"broken", "kind: [\n", "bad.yaml:6: not YAML"},
		{"tab", "apiVersion: v1\nkind: Service\nmetadata:\n\tname: x\n", "bad.yaml:9: Service default/x: not YAML: a tab stands where spaces belong (Parse)"},
		{"kind", "apiVersion: meshd.io/v1alpha1\nkind: Sidecar\nmetadata: {name: x, namespace: NS}\n", "Sidecar NS/x: kind: no kind Sidecar of meshd.io/v1alpha1"},
		{"field", "apiVersion: v1\nkind: Service\nmetadata: {name: x, namespace: NS}\nspec: {selektor: {a: b}, ports: [{port: 80}]}\n", "bad.yaml:9: Service NS/x: spec.selektor: unknown field"},
		{"type", "apiVersion: v1\nkind: Service\nmetadata: {name: x, namespace: NS}\nspec: {ports: [{port: http}]}\n", "Service NS/x: spec.ports[0].port: must be a whole number"},
		{"duplicate", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: good, namespace: NS}\n", "ConfigMap NS/good: the same object was given before; the first one counts (Duplicate)"},
		{"other MeshConfig", "apiVersion: meshd.io/v1alpha1\nkind: MeshConfig\nmetadata: {name: other}\nspec: {}\n", "MeshConfig other: "},
		{"no command", deployment("x", "containers: [{name: app, image: x}]"), "spec.template.spec.containers[0].command: container \"app\""},
		{"host network", deployment("x", "hostNetwork: true, containers: [{name: app, image: x, command: [sleep, infinity]}]"), "spec.template.spec.hostNetwork: "},
	}
}

func testBadInput(w *world) {
	const good = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: good, namespace: NS}\n"
	for _, c := range badInputs() {
		dir := w.TempDir()
		name := func(s string) string { return strings.ReplaceAll(s, "NS", w.ns) }
		if err := os.WriteFile(filepath.Join(dir, "bad.yaml"), []byte(name(good+"data: {}\n---\n"+c.doc)), 0o600); err != nil {
			w.Fatal(err)
		}
		_, errs, code := w.meshdRun("", "lab", "apply", "-f", dir, "--state-dir", w.dir)
		if code != 1 || !strings.HasPrefix(errs, "refused: ") || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, name(c.says)) {
			w.Errorf("%s: exit %d: %s, want %s", c.name, code, errs, name(c.says))
		}
		w.answered(w.ask(alice, get("http://target/x"))[0].httpAnswer)
		out, err := w.Delete(w.Context(), documents(name(good)), applyTime)
		if err != nil || len(out.Refused) > 0 {
			w.Errorf("%s: the good one was not applied: %+v %v", c.name, out, err)
		}
	}
	w.with(peers("a", "{mode: Strict}")+peers("b", "{mode: Strict}"), func() {
		if c := w.condition("PeerAuthentication", "b", "Accepted"); c.Reason != "Overridden" || !strings.Contains(c.Message, w.ns+"/a") {
			w.Errorf("%+v", c)
		}
		w.answered(w.ask(alice, get("http://target/x"))[0].httpAnswer)
	})
	ingressUnresolved(w)
}

// testRefusedByEnvoy: meshd does not look at a certificate's key usage, Envoy
// does. The Ingress is told, and other hosts go on.
func testRefusedByEnvoy(w *world) {
	rules := func(host string) string {
		return "rules: [" + rule(host, path("/", "Prefix", toService("target", 80))) + "]"
	}
	crt, key := w.certificate("good.example")
	w.with(secret("good", crt, key)+ingress("good", "tls: [{hosts: [good.example], secretName: good}], "+rules("good.example")), func() {
		crt, key := w.certificateFor(x509.KeyUsageCertSign, "usage.example")
		bad := secret("usage", crt, key) + ingress("usage", "tls: [{hosts: [usage.example], secretName: usage}], "+rules("usage.example"))
		if out, err := w.Apply(w.Context(), documents(w.named(bad)), applyTime); err != nil || len(out.Pending) > 0 {
			w.Fatalf("%+v %v", out, err)
		}
		// The proxy asks for the certificate only after it has the listener: apply may be over by then.
		programmed := func() metav1.Condition { return w.condition("Ingress", "usage", "Programmed") }
		w.eventually("the refusal is told", func() bool { return programmed().Reason == "Rejected" }, func() string { return programmed().Message })
		if c := programmed(); c.Status != "False" || !strings.Contains(c.Message, "Failed to load certificate chain") {
			w.Errorf("%+v", c)
		}
		for host, code := range map[string]int{"good.example": 200, "usage.example": 0} {
			if r := w.ask(outsider, question{URL: "https://" + w.gateway() + "/x", Host: host})[0]; r.Code != code {
				w.Errorf("%s: %d %s, want %d", host, r.Code, r.Error, code)
			}
		}
		w.delete(w.named(bad))
	})
	w.logs.complaints() // the refusal's own
}
