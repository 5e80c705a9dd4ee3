package cluster

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Programmed is not said while a proxy has not acknowledged, and the proxy is named; it is said once it has.
func TestProgrammedWaitsForPausedProxy(t *testing.T) {
	installed(t)
	if !local() {
		t.Skip("NOT TESTED: only proxies on this machine can be paused")
	}
	targeted(t)
	pod := names(t, "steady", "app=target")[0]
	envoys := processesOf(t, "steady", pod, "envoy")
	signal := func(s syscall.Signal) {
		for _, pid := range envoys {
			if err := syscall.Kill(pid, s); err != nil {
				t.Fatal(err)
			}
		}
	}
	apply(t, `
apiVersion: meshd.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: paused, namespace: steady}
spec:
  targetRefs: [{kind: Pod, selector: {matchLabels: {app: target}}}]
  action: Allow
  rules: [{to: [{methods: [GET]}]}]
`)
	kubectl(t, "wait", "-n", "steady", "--for=condition=Programmed", "authorizationpolicy/paused", "--timeout="+patience.String())
	signal(syscall.SIGSTOP)
	resumed := false
	defer func() {
		if !resumed {
			signal(syscall.SIGCONT)
		}
	}()
	kubectl(t, "patch", "-n", "steady", "authorizationpolicy/paused", "--type=merge", "-p", `{"spec": {"rules": [{"to": [{"methods": ["GET", "HEAD"]}]}]}}`)
	type status struct {
		Metadata struct{ Generation int64 }
		Status   struct {
			Conditions []struct {
				Type, Status       string
				ObservedGeneration int64
			}
			Proxies  struct{ Total, Acknowledged int }
			Laggards []string
		}
	}
	look := func() (s status, programmed string) {
		if err := json.Unmarshal([]byte(kubectl(t, "get", "-n", "steady", "authorizationpolicy/paused", "-o", "json")), &s); err != nil {
			t.Fatal(err)
		}
		for _, c := range s.Status.Conditions {
			if c.Type == "Programmed" && c.ObservedGeneration == s.Metadata.Generation {
				programmed = c.Status
			}
		}
		return s, programmed
	}
	eventually(t, "the laggard is named", func() (bool, string) {
		s, programmed := look()
		if programmed == "True" {
			t.Fatalf("Programmed while a proxy is paused: %+v", s)
		}
		// The other replica has it, so it is only this one that is waited for.
		return s.Status.Proxies.Acknowledged == 1 && slices.Contains(s.Status.Laggards, "steady/"+pod), fmt.Sprintf("%+v", s.Status)
	})
	if _, programmed := look(); programmed != "False" {
		t.Errorf("Programmed is %q for this generation", programmed)
	}
	signal(syscall.SIGCONT)
	resumed = true
	kubectl(t, "wait", "-n", "steady", "--for=condition=Programmed", "authorizationpolicy/paused", "--timeout="+patience.String())
	if s, _ := look(); s.Status.Proxies.Acknowledged != s.Status.Proxies.Total || len(s.Status.Laggards) > 0 {
		t.Errorf("%+v", s.Status)
	}
}

// processesOf are the PIDs, as this machine sees them, of a pod's processes of a name.
func processesOf(t *testing.T, namespace, pod, name string) []int {
	t.Helper()
	uid := kubectl(t, "get", "pod", "-n", namespace, pod, "-o", "jsonpath={.metadata.uid}")
	all, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, path := range all {
		comm, err := os.ReadFile(path)
		if err != nil || strings.TrimSpace(string(comm)) != name {
			continue
		}
		groups, err := os.ReadFile(filepath.Join(filepath.Dir(path), "cgroup"))
		if err != nil || !strings.Contains(string(groups), "pod"+uid) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	if len(pids) == 0 {
		t.Fatalf("%s/%s has no process %s", namespace, pod, name)
	}
	return pids
}

// An object that Envoy refuses: it is told in Envoy's words, others go on, and a gateway that is made anew serves them too.
func TestRefusedByEnvoy(t *testing.T) {
	installed(t)
	apply(t, ingressFor(t, "good", 0)+"---"+ingressFor(t, "usage", x509.KeyUsageCertSign))
	gateway := kubectl(t, "get", "service", "-n", system, "meshd-ingress", "-o", "jsonpath={.status.loadBalancer.ingress[0].ip}")
	get := func(host string) string {
		return kubectl(t, "exec", "-n", "outside", "deployment/client", "--", "eazybank", "get", "https://"+gateway+"/accounts", "--insecure", "--host", host)
	}
	told := func() {
		t.Helper()
		eventually(t, "the refusal is told", func() (bool, string) {
			out := kubectl(t, "get", "events", "-n", "bank", "--field-selector=involvedObject.kind=Ingress,involvedObject.name=usage", "-o", "jsonpath={.items[*].message}")
			return strings.Contains(out, "Failed to load certificate chain"), out
		})
	}
	served := func() {
		t.Helper()
		eventually(t, "good.example is served", func() (bool, string) {
			got := get("good.example")
			return strings.HasPrefix(got, "200 "), got
		})
		if got := get("usage.example"); !strings.HasPrefix(got, "000 ") {
			t.Errorf("usage.example, whose certificate Envoy refuses: %s", got)
		}
	}
	told()
	served()
	for _, pod := range names(t, system, "meshd.io/gateway=ingress") {
		kubectl(t, "delete", "pod", "-n", system, pod)
	}
	if err := rolledOut(system, "meshd-ingress"); err != nil {
		t.Fatal(err)
	}
	served()
}

// ingressFor a host NAME.example with a self-signed certificate of a key usage (0: none said).
func ingressFor(t *testing.T, name string, usage x509.KeyUsage) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{name + ".example"}, KeyUsage: usage,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(kind string, der []byte) string {
		return base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	return fmt.Sprintf(`
apiVersion: v1
kind: Secret
metadata: {name: %[1]s, namespace: bank}
type: kubernetes.io/tls
data: {tls.crt: %[2]s, tls.key: %[3]s}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: %[1]s, namespace: bank}
spec:
  ingressClassName: meshd
  tls: [{hosts: [%[1]s.example], secretName: %[1]s}]
  rules:
  - host: %[1]s.example
    http: {paths: [{path: /accounts, pathType: Prefix, backend: {service: {name: accounts, port: {number: 8080}}}}]}
`, name, encode("CERTIFICATE", der), encode("PRIVATE KEY", private))
}
