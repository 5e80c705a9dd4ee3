// Package kubetest gives tests a real API server: etcd and kube-apiserver, no
// kubelet and no controllers. The folder that holds the two binaries is in
// MESHD_KUBE (hack/kube prints it); without it a test is skipped, and says so.
//
// A start takes some seconds, so that a package's tests share one:
//
//	var cluster kubetest.Shared
//
//	func TestMain(m *testing.M) {
//		code := m.Run()
//		cluster.Stop()
//		os.Exit(code)
//	}
//
//	func TestX(t *testing.T) { c := cluster.Get(t) ... }
//
// What is alive on it and what is not: objects are validated, defaulted and
// admitted (but for the ServiceAccount plugin, so that pods need no account),
// RBAC is enforced, tokens are issued and reviewed, PodCertificateRequest and
// ClusterTrustBundle are served. Nobody fills in EndpointSlices, runs pods or
// empties a namespace that is deleted: tests write those objects themselves.
package kubetest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
)

// Patience bounds what a test waits for: far beyond what anything takes.
const Patience = 30 * time.Second

// startTimeout of etcd and of kube-apiserver, each, on a busy machine.
const startTimeout = 2 * time.Minute

// ServiceCIDR is the network of the cluster's Services.
const ServiceCIDR = "10.96.0.0/12"

// Options of a Cluster; the zero value is what most tests want.
type Options struct {
	// NoCRDs leaves meshd's CustomResourceDefinitions out; InstallCRDs brings them.
	NoCRDs bool
	// Args are more flags of kube-apiserver, without dashes; a flag named here loses its default.
	Args map[string][]string
}

// Cluster is a running API server.
type Cluster struct {
	// Config is that of an administrator (group system:masters), without a
	// limit on the rate of requests that tests would feel.
	Config *rest.Config

	env *envtest.Environment
	dir string
}

// Start runs a cluster until the end of the test, or skips the test.
func Start(t testing.TB, o Options) *Cluster {
	t.Helper()
	folder := binaries(t)
	c, err := start(folder, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.stop(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// Open runs a cluster for a program that is no test, with the binaries of a
// folder, until Close.
func Open(folder string, o Options) (*Cluster, error) { return start(folder, o) }

// Close ends what Open has started.
func (c *Cluster) Close() error { return c.stop() }

// Shared is a cluster that the tests of a package have in common; the zero
// value is ready to use.
type Shared struct {
	// Options are those of the start; they may be set before the first Get.
	Options Options

	once    sync.Once
	cluster *Cluster
	err     error
}

// Get gives the cluster, which the first call starts, or skips the test.
func (s *Shared) Get(t testing.TB) *Cluster {
	t.Helper()
	folder := binaries(t)
	s.once.Do(func() { s.cluster, s.err = start(folder, s.Options) })
	if s.err != nil {
		t.Fatal(s.err)
	}
	return s.cluster
}

// Stop ends the cluster, if there is one. It is the last thing that TestMain does.
func (s *Shared) Stop() {
	s.once.Do(func() { s.err = errors.New("kubetest: the shared cluster has been stopped") })
	if s.cluster == nil {
		return
	}
	if err := s.cluster.stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

func binaries(t testing.TB) string {
	t.Helper()
	folder := os.Getenv("MESHD_KUBE")
	if folder == "" {
		t.Skip("NOT TESTED: MESHD_KUBE is not set")
	}
	return folder
}

func start(folder string, o Options) (*Cluster, error) {
	dir, err := os.MkdirTemp("", "kubetest")
	if err != nil {
		return nil, fmt.Errorf("kubetest: %w", err)
	}
	c := &Cluster{dir: dir, env: &envtest.Environment{ControlPlaneStartTimeout: startTimeout, ControlPlaneStopTimeout: startTimeout}}
	api := c.env.ControlPlane.GetAPIServer()
	if api.Path, err = c.wrap(filepath.Join(folder, "kube-apiserver")); err != nil {
		return nil, err
	}
	etcd, err := c.wrap(filepath.Join(folder, "etcd"))
	if err != nil {
		return nil, err
	}
	c.env.ControlPlane.Etcd = &envtest.Etcd{Path: etcd}
	// A folder of its own, which outlives the process: the server comes back with its certificates.
	api.CertDir = filepath.Join(dir, "apiserver")
	if err := os.Mkdir(api.CertDir, 0o700); err != nil {
		return nil, fmt.Errorf("kubetest: %w", err)
	}
	api.Configure().Set("service-cluster-ip-range", ServiceCIDR)
	for name, values := range o.Args {
		api.Configure().Set(name, values...)
	}
	log, err := os.Create(filepath.Join(dir, "apiserver.log"))
	if err != nil {
		return nil, fmt.Errorf("kubetest: %w", err)
	}
	api.Out, api.Err = log, log
	if c.Config, err = c.env.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("kubetest: %w\n%s", err, c.log()), c.stop())
	}
	if !o.NoCRDs {
		if err := c.installCRDs(); err != nil {
			return nil, errors.Join(err, c.stop())
		}
	}
	return c, nil
}

// wrap makes a command that is the binary, notes its process, and ends with
// the test even where that has no time to clean up.
func (c *Cluster) wrap(binary string) (string, error) {
	path := filepath.Join(c.dir, filepath.Base(binary))
	script := fmt.Sprintf(`#!/bin/sh
[ "$1" = --help ] && exec '%[2]s' --help
echo $$ > '%[1]s.pid'
parent=$PPID self=$$
(while kill -0 $self; do kill -0 $parent || { kill -9 $self; rm -rf '%[3]s'; }; sleep 1; done) 2>/dev/null >&2 &
exec '%[2]s' "$@"
`, path, binary, c.dir)
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
		return "", fmt.Errorf("kubetest: %w", err)
	}
	return path, nil
}

func (c *Cluster) stop() error {
	err := c.killAPI()
	return errors.Join(err, c.env.ControlPlane.Etcd.Stop(), os.RemoveAll(c.dir))
}

// killAPI ends the API server at once. It would take a minute to let go of
// watches by itself.
func (c *Cluster) killAPI() error {
	api := c.env.ControlPlane.GetAPIServer()
	if text, err := os.ReadFile(api.Path + ".pid"); err == nil {
		if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may be gone already
		}
		_ = os.Remove(api.Path + ".pid")
	}
	if err := api.Stop(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kubetest: %w", err)
	}
	return nil
}

// log is the end of what the API server has said.
func (c *Cluster) log() string {
	data, err := os.ReadFile(filepath.Join(c.dir, "apiserver.log"))
	if err != nil {
		return err.Error()
	}
	return string(data[max(0, len(data)-4096):])
}

// Scheme has Kubernetes' kinds, meshd's and CustomResourceDefinition.
func Scheme() *runtime.Scheme {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{scheme.AddToScheme, meshv1a1.AddToScheme, apiextensionsv1.AddToScheme, gwv1.Install} {
		if err := add(s); err != nil {
			panic(err) // the program's own types
		}
	}
	return s
}

// Client is the administrator's, for the kinds of Scheme. It caches nothing.
func (c *Cluster) Client(t testing.TB) client.Client {
	t.Helper()
	return c.ClientFor(t, c.Config)
}

// ClientFor is a client for the kinds of Scheme with another identity, such as As gives.
func (c *Cluster) ClientFor(t testing.TB, config *rest.Config) client.Client {
	t.Helper()
	out, err := client.New(config, client.Options{Scheme: Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
