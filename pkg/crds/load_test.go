package crds

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/meshd-io/meshd/pkg/report"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(withCluster{m}) }

// write makes files below a folder; the keys are paths.
func write(t *testing.T, folder string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func serviceAccount(namespace, name string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: %s, namespace: %s}\n", name, namespace)
}

// accounts lists the ServiceAccounts of a snapshot.
func accounts(s *Snapshot) string {
	var out []string
	for _, sa := range s.ServiceAccounts {
		out = append(out, sa.Namespace+"/"+sa.Name)
	}
	return strings.Join(out, " ")
}

func load(t *testing.T, path string) (*Snapshot, []report.Finding) {
	t.Helper()
	snapshot, findings, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return snapshot, findings
}

func TestLoadFolder(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{
		"b.yaml":         serviceAccount("b", "x") + "---\n" + serviceAccount("a", "z"),
		"sub/deep/c.yml": serviceAccount("a", "w"),
		"d.json":         "{\n\t\"apiVersion\": \"v1\",\n\t\"kind\": \"ServiceAccount\",\n\t\"metadata\": {\"name\": \"j\", \"namespace\": \"a\"}\n}\n",
		".hidden.yaml":   serviceAccount("h", "h"),
		".git/e.yaml":    serviceAccount("h", "h"),
		"README.md":      "# not read",
		"empty.yaml":     "# nothing\n---\n---\n...\n",
		"crlf.yaml":      strings.ReplaceAll(serviceAccount("c", "crlf"), "\n", "\r\n"),
		"bom.yaml":       "\xef\xbb\xbf" + serviceAccount("c", "bom"),
		"list.yaml":      "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: ServiceAccount, metadata: {name: one, namespace: l}}\n- {apiVersion: v1, kind: ServiceAccount, metadata: {name: two, namespace: l}}\n",
	})
	snapshot, findings := load(t, dir)
	if len(findings) > 0 {
		t.Errorf("findings %+v", findings)
	}
	if got, want := accounts(snapshot), "a/j a/w a/z b/x c/bom c/crlf l/one l/two"; got != want {
		t.Errorf("accounts = %s, want %s", got, want)
	}
	for _, sa := range snapshot.ServiceAccounts {
		if sa.Generation != 1 || sa.CreationTimestamp.IsZero() || sa.Kind != "ServiceAccount" {
			t.Errorf("%s: generation %d, created %s, kind %q", sa.Name, sa.Generation, sa.CreationTimestamp, sa.Kind)
		}
	}
}

func TestLoadFollowsLinks(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"real/a.yaml": serviceAccount("a", "a"), "conf/b.yaml": serviceAccount("b", "b")})
	for link, target := range map[string]string{"conf/file.yaml": "../real/a.yaml", "conf/loop": ".", "conf/gone.yaml": "nowhere", "conf/dir": "../real"} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	snapshot, findings := load(t, filepath.Join(dir, "conf"))
	if got, want := accounts(snapshot), "a/a b/b"; got != want {
		t.Errorf("accounts = %s, want %s", got, want)
	}
	if len(findings) != 1 || findings[0].Reason != report.Duplicate {
		t.Errorf("findings %+v", findings)
	}
}

func TestLoadFile(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"objects.txt": serviceAccount("a", "x"), "other.yaml": serviceAccount("b", "x")})
	snapshot, _ := load(t, filepath.Join(dir, "objects.txt"))
	if got := accounts(snapshot); got != "a/x" {
		t.Errorf("accounts = %s", got)
	}
	if _, _, err := Load(filepath.Join(dir, "none")); err == nil {
		t.Error("a path that is not there is no error")
	}
}

func TestLoadTellsDuplicates(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{
		"a.yaml": "\n\n" + strings.Replace(serviceAccount("a", "x"), "namespace: a", "namespace: a, labels: {from: first}", 1),
		"b.yaml": serviceAccount("b", "w") + "---\n" + serviceAccount("a", "x"),
	})
	snapshot, findings := load(t, dir)
	if len(snapshot.ServiceAccounts) != 2 || snapshot.ServiceAccounts[0].Labels["from"] != "first" {
		t.Errorf("accounts = %s", accounts(snapshot))
	}
	want := report.Finding{
		Object:    report.Object{Kind: "ServiceAccount", Namespace: "a", Name: "x"},
		Condition: report.Accepted, Reason: report.Duplicate, File: filepath.Join(dir, "b.yaml"), Line: 5,
		Message: "declared before in " + filepath.Join(dir, "a.yaml") + ", line 3, which counts: remove one of them",
	}
	if len(findings) != 1 || findings[0] != want {
		t.Errorf("findings %+v, want %+v", findings, want)
	}
}

func TestLoadIgnoresWhatItHasNoUseFor(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"a.yaml": `
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: x}
spec: {anything: true}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: x}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: x}
---
` + serviceAccount("a", "x")})
	snapshot, findings := load(t, dir)
	if len(findings) > 0 || accounts(snapshot) != "a/x" {
		t.Errorf("accounts = %s, findings %+v", accounts(snapshot), findings)
	}
}

func TestLoadBounds(t *testing.T) {
	bomb := "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
	for i := range 12 {
		bomb += fmt.Sprintf("a%d: &a%d [%s]\n", i+1, i+1, strings.Repeat(fmt.Sprintf("*a%d, ", i), 9))
	}
	for name, content := range map[string]string{
		"large file":     "# " + strings.Repeat("x", maxFileBytes),
		"many documents": strings.Repeat("---\na: b\n", maxDocuments+1),
		"many aliases":   bomb,
		"long alias":     "a: &a " + strings.Repeat("x", 1<<20) + "\nb: [" + strings.Repeat("*a, ", 100) + "]\n",
		"alias of self":  "a: &a [*a]\n",
		"deep":           strings.Repeat("[", 20000),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, map[string]string{"bad.yaml": content, "good.yaml": serviceAccount("a", "x")})
			snapshot, findings := load(t, dir)
			if accounts(snapshot) != "a/x" {
				t.Errorf("accounts = %s", accounts(snapshot))
			}
			if len(findings) != 1 || (findings[0].Reason != report.Parse && findings[0].Reason != report.Unreadable) {
				t.Errorf("findings %+v", findings)
			}
		})
	}
}

// An object that says when it was made, or which generation it is, is believed;
// the others of a single reading are as young as the youngest of those.
func TestLoadKeepsWrittenMetadata(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"a.yaml": `
apiVersion: v1
kind: ServiceAccount
metadata: {name: a, generation: 7, creationTimestamp: "2026-01-02T03:04:05Z", uid: some-uid, resourceVersion: "3"}
---
apiVersion: meshd.io/v1alpha1
kind: PeerAuthentication
metadata: {name: b, generation: 8, creationTimestamp: "2026-01-03T03:04:05Z"}
spec: {mode: Strict}
---
` + serviceAccount("default", "c")})
	snapshot, findings := load(t, dir)
	if len(findings) > 0 {
		t.Fatalf("findings %+v", findings)
	}
	a, b, c := snapshot.ServiceAccounts[0], snapshot.PeerAuthentications[0], snapshot.ServiceAccounts[1]
	if a.Generation != 7 || !a.CreationTimestamp.Time.Equal(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)) {
		t.Errorf("a = %+v", a.ObjectMeta)
	}
	if b.Generation != 8 || !b.CreationTimestamp.Time.Equal(time.Date(2026, 1, 3, 3, 4, 5, 0, time.UTC)) {
		t.Errorf("b = %+v", b.ObjectMeta)
	}
	if c.Generation != 1 || !c.CreationTimestamp.Equal(&b.CreationTimestamp) {
		t.Errorf("c = %+v", c.ObjectMeta)
	}
}
