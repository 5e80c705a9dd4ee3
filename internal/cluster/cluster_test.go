package cluster

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A process is known by its PID and its start; killed, it is gone when kill returns, and a second time is no error.
func TestProcess(t *testing.T) {
	self, err := identify(os.Getpid())
	if err != nil || !self.alive() {
		t.Fatalf("%+v, %v", self, err)
	}
	if (process{self.PID, self.Started + 1}).alive() {
		t.Error("a process that has its PID from another is taken for it")
	}
	if (process{}).alive() {
		t.Error("no process is alive")
	}
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p, err := identify(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := p.kill(); err != nil {
			t.Fatal(err)
		}
	}
	if p.alive() {
		t.Error("alive after it has been killed")
	}
	_ = cmd.Wait() // killed
	if _, err := identify(p.PID); !errors.Is(err, errGone) {
		t.Errorf("%v", err)
	}
}

// Servers are known by the addresses that clients use; users by name and group.
func TestPKI(t *testing.T) {
	o := Options{Dir: t.TempDir()}
	if err := o.writePKI(); err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(o.pki("ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	load := func(name string) *x509.Certificate {
		t.Helper()
		c, err := tls.LoadX509KeyPair(o.pki(name+".crt"), o.pki(name+".key"))
		if err != nil {
			t.Fatal(err)
		}
		return c.Leaf
	}
	for _, name := range []string{"kubernetes.default.svc", nodeAddress.Addr().String(), apiService.String()} {
		if _, err := load("kube-apiserver").Verify(x509.VerifyOptions{Roots: roots, DNSName: name}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, u := range users {
		leaf := load(u.file)
		if leaf.Subject.CommonName != u.name || strings.Join(leaf.Subject.Organization, " ") != u.group {
			t.Errorf("%s is %s", u.file, leaf.Subject)
		}
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
			t.Errorf("%s: %v", u.file, err)
		}
	}
	for _, path := range []string{o.Kubeconfig(), o.pki("ca.key")} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	if _, err := o.client(); err != nil {
		t.Error(err)
	}
}

// All that is missing is told at once, with what would bring it.
func TestCheck(t *testing.T) {
	err := Options{Dir: "/run/x", Binaries: t.TempDir()}.check()
	if err == nil {
		t.Fatal("nothing is missed")
	}
	for _, want := range append([]string{"hack/kube", "/run/"}, binaries...) {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not told: %v", want, err)
		}
	}
}

// What a former cluster has left is taken away, whatever there is of it.
func TestDownOfNothing(t *testing.T) {
	if err := Down(filepath.Join(t.TempDir(), "never")); err != nil {
		t.Error(err)
	}
	if _, err := Status(t.Context(), t.TempDir()); err == nil {
		t.Error("a cluster that there is not has a status")
	}
}
