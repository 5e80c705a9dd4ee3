package cluster

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// This runs first, by the name of this file: a cluster that has this version can only be upgraded to it.

const (
	// oldest is where an upgrade begins while no version has a tag: the first commit that was tested in
	// a real cluster. It has other definitions and rights, and its replicas tell each other less.
	oldest = "ecf750f93bb76412cb669311c559c37d7a67bc94"
	// olderVersion stands in the older chart and on its images, so that both versions are in the cluster.
	olderVersion = "0.0.0-older"
)

// edge leads to the target from outside of the mesh, by the gateway; the address is the gateway's.
const edge = `
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: target, namespace: steady}
spec:
  ingressClassName: meshd
  rules: [{http: {paths: [{path: /target, pathType: Prefix, backend: {service: {name: target, port: {number: 8080}}}}]}}]
`

const edgeLoader = `
apiVersion: v1
kind: Pod
metadata: {name: edge, namespace: outside}
spec:
  restartPolicy: Never
  containers:
  - name: load
    image: ghcr.io/meshd-io/eazybank:0.5.0
    command: [eazybank, load, "http://ADDRESS/target", --every, 20ms, --report, 1s, --for, 15m]
`

// helm upgrade takes an older meshd to this one: its definitions, its replicas, its
// gateway. Meanwhile both versions serve; sidecars of the older one stay, and know
// no difference. Pods can be made all the time.
func TestUpgradeUnderLoad(t *testing.T) {
	clustered(t)
	tree := older(t)
	if out, err := run("", "helm", "install", "meshd", filepath.Join(tree, chart), "-n", system, "--create-namespace",
		"--wait", "--timeout", patience.String()); err != nil {
		t.Fatal(err, out)
	}
	if err := applyBank(); err != nil {
		t.Fatal(err)
	}
	target(t)
	apply(t, edge)
	gateway := kubectl(t, "get", "service", "-n", system, "meshd-ingress", "-o", "jsonpath={.status.loadBalancer.ingress[0].ip}")
	eventually(t, "the gateway leads to the target", func() (bool, string) {
		got := kubectl(t, "exec", "-n", "outside", "deployment/client", "--", "eazybank", "get", "http://"+gateway+"/target")
		return strings.HasPrefix(got, "200 "), got
	})
	apply(t, loader)
	apply(t, strings.ReplaceAll(edgeLoader, "ADDRESS", gateway))
	root := kubectl(t, "get", "secret", "-n", system, "meshd-root", "-o", "jsonpath={.data}")

	loaded(t, func() {
		stop := makePods(t)
		if _, err := run("", "helm", "upgrade", "meshd", chart, "-n", system, "--reset-then-reuse-values",
			"--wait", "--timeout", patience.String()); err != nil {
			t.Fatal(err)
		}
		stop()
		eventually(t, "the gateway is of this version, in two replicas", func() (bool, string) {
			got := kubectl(t, "get", "deployment", "-n", system, "meshd-ingress", "-o", "jsonpath={.spec.replicas} {.spec.template.spec.initContainers[*].image}")
			return strings.HasPrefix(got, "2 ") && !strings.Contains(got, olderVersion), got
		})
		if err := rolledOut(system, "meshd-ingress"); err != nil {
			t.Fatal(err)
		}
		// Told by this version, of sidecars that the older one made.
		programmed(t, "after-upgrade", nil)
		apply(t, another("newcomer"))
		if err := rolledOut("steady", "newcomer"); err != nil {
			t.Fatal(err)
		}
		for _, pod := range names(t, "steady", "app=target") {
			if got := kubectl(t, "exec", "-n", "steady", pod, "-c", "target", "--", "eazybank", "get", "http://newcomer:8080/newcomer"); !strings.HasPrefix(got, "200 ") {
				t.Errorf("%s asks a service that is new after the upgrade: %s", pod, got)
			}
		}
	}, load{t, "steady", "load"}, load{t, "outside", "edge"})

	if kubectl(t, "get", "secret", "-n", system, "meshd-root", "-o", "jsonpath={.data}") != root {
		t.Error("the root is another one")
	}
	if out, err := run("", "kubectl", "diff", "--server-side", "--force-conflicts", "-f", filepath.Join(chart, "crds")); err != nil {
		t.Errorf("the definitions are not this version's: %v\n%s", err, out)
	}
	images := kubectl(t, "get", "pods", "-A", "-o", "jsonpath={.items[*].spec.initContainers[*].image} {.items[*].spec.containers[*].image}")
	count := func(image string) int {
		return len(slices.DeleteFunc(strings.Fields(images), func(i string) bool { return i != image }))
	}
	// Two versions have met: the sidecars' agents are the older one's still.
	if count("ghcr.io/meshd-io/meshd:"+olderVersion) != 0 || count("ghcr.io/meshd-io/meshd-agent:"+olderVersion) == 0 {
		t.Errorf("the images in use: %s", images)
	}
	nothingRefused(t)

	// From here on the sidecars are this version's too.
	for _, ns := range []string{"bank", "steady"} {
		kubectl(t, "rollout", "restart", "-n", ns, "deployment")
	}
	for _, d := range []string{"bank/accounts", "bank/cards", "bank/loans", "steady/target"} {
		ns, name, _ := strings.Cut(d, "/")
		if err := rolledOut(ns, name); err != nil {
			t.Fatal(err)
		}
	}
}

// older is the tree of an older version, whose images the cluster has.
func older(t *testing.T) string {
	t.Helper()
	if !own {
		t.Skip("NOT TESTED: the cluster is not this test's to install an older meshd in")
	}
	commit := os.Getenv("MESHD_UPGRADE_FROM")
	if commit == "" {
		tag, err := run("", "git", "describe", "--tags", "--abbrev=0", "HEAD~1")
		if commit = strings.TrimSpace(tag); err != nil {
			commit = oldest
		}
	}
	if _, err := run("", "git", "cat-file", "-e", commit+"^{commit}"); err != nil {
		t.Skipf("NOT TESTED: commit %s is not in this clone: %v", commit, err)
	}
	tree, archive := t.TempDir(), filepath.Join(t.TempDir(), "older.tar")
	for _, command := range [][]string{{"git", "archive", "-o", archive, commit}, {"tar", "-xf", archive, "-C", tree}} {
		if _, err := run("", command[0], command[1:]...); err != nil {
			t.Fatal(err)
		}
	}
	// Its tags are those of its chart; this version's may be the same.
	path := filepath.Join(tree, chart, "Chart.yaml")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	renamed := regexp.MustCompile(`(?m)^appVersion: .*$`).ReplaceAll(text, fmt.Appendf(nil, "appVersion: %s", olderVersion))
	if bytes.Equal(renamed, text) {
		t.Fatalf("%s has no appVersion", path)
	}
	if err := os.WriteFile(path, renamed, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := phase("images of "+commit[:min(len(commit), 12)], func() error { return loadImages(tree, "meshd", "meshd-agent") }); err != nil {
		t.Fatal(err)
	}
	return tree
}
