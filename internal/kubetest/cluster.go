package kubetest

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/yaml"

	crdfiles "github.com/meshd-io/meshd/charts/meshd/crds"
)

// CRDs are meshd's CustomResourceDefinitions.
func CRDs() []*apiextensionsv1.CustomResourceDefinition {
	names, err := fs.Glob(crdfiles.FS(), "*.yaml")
	if err != nil {
		panic(err) // the program's own files
	}
	out := make([]*apiextensionsv1.CustomResourceDefinition, 0, len(names))
	for _, name := range names {
		data, err := fs.ReadFile(crdfiles.FS(), name)
		if err != nil {
			panic(err) // as above
		}
		var crd apiextensionsv1.CustomResourceDefinition
		if err := yaml.UnmarshalStrict(data, &crd); err != nil {
			panic(err) // as above
		}
		out = append(out, &crd)
	}
	return out
}

// InstallCRDs creates or updates definitions (meshd's when none is named), and
// returns when their kinds are served.
func (c *Cluster) InstallCRDs(t testing.TB, crds ...*apiextensionsv1.CustomResourceDefinition) {
	t.Helper()
	if err := c.installCRDs(crds...); err != nil {
		t.Fatal(err)
	}
}

func (c *Cluster) installCRDs(crds ...*apiextensionsv1.CustomResourceDefinition) error {
	if len(crds) == 0 {
		crds = CRDs()
	}
	_, err := envtest.InstallCRDs(c.Config, envtest.CRDInstallOptions{CRDs: crds, Scheme: Scheme(), MaxTime: Patience})
	if err != nil {
		return fmt.Errorf("kubetest: definitions: %w", err)
	}
	return nil
}

// Namespace creates a namespace of a new name, which stays for good: nobody
// empties namespaces here.
func (c *Cluster) Namespace(t testing.TB, labels map[string]string) string {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-", Labels: labels}}
	if err := c.Client(t).Create(context.Background(), ns); err != nil {
		t.Fatal(err)
	}
	return ns.Name
}

// As is the configuration of a service account, by impersonation: RBAC sees
// the account and its groups. The account need not exist.
func (c *Cluster) As(namespace, serviceAccount string) *rest.Config {
	out := rest.CopyConfig(c.Config)
	out.Impersonate = rest.ImpersonationConfig{
		UserName: "system:serviceaccount:" + namespace + ":" + serviceAccount,
		Groups:   []string{"system:serviceaccounts", "system:serviceaccounts:" + namespace, "system:authenticated"},
	}
	return out
}

// Issuer is that of the service accounts' tokens, and their audience for the
// API server itself. Its keys are at /openid/v1/jwks.
func (c *Cluster) Issuer() string {
	return c.env.ControlPlane.APIServer.SecureServing.URL("https", "/").String()
}

// Kubeconfig is the path of a file that lets kubectl and meshd in as the administrator.
func (c *Cluster) Kubeconfig(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(path, c.env.KubeConfig, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// StopAPI ends the API server as a crash does; etcd keeps what is in it.
func (c *Cluster) StopAPI(t testing.TB) {
	t.Helper()
	if err := c.killAPI(); err != nil {
		t.Fatal(err)
	}
}

// StartAPI starts the API server again: same address, same certificates, same
// objects. A cluster that is shared must have been started when the test ends.
func (c *Cluster) StartAPI(t testing.TB) {
	t.Helper()
	if err := c.env.ControlPlane.APIServer.Start(); err != nil {
		t.Fatalf("%v\n%s", err, c.log())
	}
}
