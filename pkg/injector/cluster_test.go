package injector_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/meshd-io/meshd/internal/envoytest"
	"github.com/meshd-io/meshd/internal/kubetest"
	"github.com/meshd-io/meshd/pkg/injector"
)

// cluster admits pods as a whole one does, service accounts and all.
var cluster = kubetest.Shared{Options: kubetest.Options{
	NoCRDs: true, Args: map[string][]string{"disable-admission-plugins": {"StorageObjectInUseProtection"}},
}}

func TestMain(m *testing.M) {
	code := m.Run()
	cluster.Stop()
	os.Exit(code)
}

const registered = "meshd-injector"

// authority is a root, as the mesh's CA would have it.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) authority {
	t.Helper()
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der := must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))
	return authority{must(x509.ParseCertificate(der)), key}
}

func (a authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.certificate.Raw})
}

func (a authority) serving(t *testing.T) *tls.Certificate {
	t.Helper()
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der := must(x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key))
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// installation is meshd's webhook as the chart registers it, on a real API
// server, which reaches it by URL: there is nobody who would carry a Service.
type installation struct {
	t          *testing.T
	cluster    *kubetest.Cluster
	api        client.Client
	url        string
	reviews    *outcomes
	shown      atomic.Pointer[tls.Certificate]
	bundle     atomic.Pointer[[]byte]
	optOut     atomic.Bool
	changed    chan struct{}
	writes     atomic.Int32
	looks      atomic.Int32 // how often Registration has asked for the bundle
	watch      sync.RWMutex // locked, it holds back what the API server tells Registration
	warnings   warnings
	configured func() injector.Config
}

// warnings are what kubectl would show.
type warnings struct {
	mu  sync.Mutex
	all []string
}

func (w *warnings) HandleWarningHeader(_ int, _, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, text)
}

func (w *warnings) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.all
	w.all = nil
	return out
}

func install(t *testing.T) *installation {
	t.Helper()
	c := cluster.Get(t)
	in := &installation{t: t, cluster: c, changed: make(chan struct{}, 1), reviews: &outcomes{}}
	in.configured = func() injector.Config {
		cfg := injector.Config{Bootstrap: bootstrap, PodCertificates: true, TrustBundles: true}
		if in.optOut.Load() {
			cfg.Injection.Default = "OptOut"
		}
		return cfg
	}
	config := rest.CopyConfig(c.Config)
	config.WarningHandler = &in.warnings
	in.api = c.ClientFor(t, config)
	handler := injector.NewWebhook(injector.WebhookConfig{
		Config:     func() (injector.Config, bool) { return in.configured(), true },
		Namespaces: namespaces{},
		Fetch: func(ctx context.Context, name string) (*corev1.Namespace, error) {
			ns := &corev1.Namespace{}
			return ns, in.api.Get(ctx, client.ObjectKey{Name: name}, ns)
		},
		Reviews: in.reviews, Log: slog.New(slog.DiscardHandler),
	})
	server := httptest.NewUnstartedServer(handler)
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	// Not GetCertificate: the test server has one of its own, which comes first where no name is asked for.
	server.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{*in.shown.Load()}}, nil
	}}
	// The API server keeps its connection, and shows a certificate only to a new one.
	server.Config.SetKeepAlivesEnabled(false)
	server.StartTLS()
	t.Cleanup(server.Close)
	in.url = server.URL + injector.WebhookPath
	in.account(metav1.NamespaceSystem)
	in.make()
	t.Cleanup(func() {
		if err := client.IgnoreNotFound(in.api.Delete(context.Background(), in.chart())); err != nil {
			t.Error(err)
		}
	})
	return in
}

// chart is the configuration that the chart makes.
func (in *installation) chart() *admissionregistrationv1.MutatingWebhookConfiguration {
	in.t.Helper()
	helm := filepath.Join(os.Getenv("MESHD_KUBE"), "helm")
	if _, err := os.Stat(helm); err != nil {
		in.t.Skip("NOT TESTED: there is no helm in MESHD_KUBE")
	}
	command := exec.Command(helm, "template", "meshd", "../../charts/meshd", "-n", injector.DefaultSystemNamespace, "--show-only", "templates/webhook.yaml")
	var complaints bytes.Buffer
	command.Stderr = &complaints
	text, err := command.Output()
	if err != nil {
		in.t.Fatalf("%v\n%s", err, complaints.Bytes())
	}
	out := &admissionregistrationv1.MutatingWebhookConfiguration{}
	if err := yaml.UnmarshalStrict(text, out); err != nil {
		in.t.Fatal(err)
	}
	for i := range out.Webhooks {
		if s := out.Webhooks[i].ClientConfig.Service; s == nil || s.Path == nil || *s.Path != injector.WebhookPath {
			in.t.Fatalf("entry %s does not lead to %s", out.Webhooks[i].Name, injector.WebhookPath)
		}
		out.Webhooks[i].ClientConfig = admissionregistrationv1.WebhookClientConfig{URL: &in.url}
	}
	return out
}

func (in *installation) make() {
	in.t.Helper()
	if err := in.api.Create(in.t.Context(), in.chart()); err != nil {
		in.t.Fatal(err)
	}
}

// run keeps the registration, with no more rights than it needs.
func (in *installation) run() {
	in.t.Helper()
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{GenerateName: "meshd-"}, Rules: []rbacv1.PolicyRule{{
		APIGroups: []string{"admissionregistration.k8s.io"}, Resources: []string{"mutatingwebhookconfigurations"},
		ResourceNames: []string{registered}, Verbs: []string{"get", "list", "watch", "patch"},
	}}}
	if err := in.api.Create(in.t.Context(), role); err != nil {
		in.t.Fatal(err)
	}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "meshd-"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role.Name},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: injector.DefaultSystemNamespace, Name: "meshd"}},
	}
	if err := in.api.Create(in.t.Context(), binding); err != nil {
		in.t.Fatal(err)
	}
	config := in.cluster.As(injector.DefaultSystemNamespace, "meshd")
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return recording{next, in} })
	r := &injector.Registration{
		Client: must(kubernetes.NewForConfig(config)), Name: registered,
		Bundle: func() []byte { in.looks.Add(1); return *in.bundle.Load() },
		OptOut: in.optOut.Load, Changed: in.changed, Log: slog.New(slog.DiscardHandler),
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	in.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			in.t.Error(err)
		}
	})
}

// recording counts what is written, and holds back what is read.
type recording struct {
	next http.RoundTripper
	in   *installation
}

func (r recording) RoundTrip(request *http.Request) (*http.Response, error) {
	out, err := r.next.RoundTrip(request)
	if request.Method != http.MethodGet {
		r.in.writes.Add(1)
	} else if err == nil {
		out.Body = held{out.Body, &r.in.watch}
	}
	return out, err
}

type held struct {
	io.ReadCloser
	gate *sync.RWMutex
}

func (h held) Read(p []byte) (int, error) {
	n, err := h.ReadCloser.Read(p)
	h.gate.RLock()
	defer h.gate.RUnlock()
	return n, err
}

func (in *installation) trust(roots ...authority) {
	var all []byte
	for _, r := range roots {
		all = append(all, r.pem()...)
	}
	in.bundle.Store(&all)
	in.tell()
}

func (in *installation) tell() {
	select {
	case in.changed <- struct{}{}:
	default: // it has yet to look
	}
}

// lagging does things while Registration sees nothing of what they change.
func (in *installation) lagging(do func()) {
	in.watch.Lock()
	defer in.watch.Unlock()
	do()
}

// look has Registration look once more, at nothing new, until it has.
func (in *installation) look() {
	in.t.Helper()
	before := in.looks.Load()
	in.tell()
	envoytest.Eventually(in.t, "another look", func() bool { return in.looks.Load() > before }, func() string { return "none" })
}

func (in *installation) live() *admissionregistrationv1.MutatingWebhookConfiguration {
	in.t.Helper()
	out := &admissionregistrationv1.MutatingWebhookConfiguration{}
	if err := in.api.Get(in.t.Context(), client.ObjectKey{Name: registered}, out); err != nil {
		in.t.Fatal(err)
	}
	return out
}

// awaitEntries waits until there are these entries, each with the whole bundle.
func (in *installation) awaitEntries(names ...string) {
	in.t.Helper()
	var last string
	envoytest.Eventually(in.t, fmt.Sprintf("entries %v with the bundle", names), func() bool {
		live := in.live()
		last = string(must(yaml.Marshal(live.Webhooks)))
		var got []string
		for _, w := range live.Webhooks {
			if bytes.Equal(w.ClientConfig.CABundle, *in.bundle.Load()) {
				got = append(got, w.Name)
			}
		}
		slices.Sort(got)
		return slices.Equal(got, names) && len(live.Webhooks) == len(names)
	}, func() string { return last })
}

// namespace has its default service account, which a controller would make.
func (in *installation) namespace(labels map[string]string) string {
	in.t.Helper()
	name := in.cluster.Namespace(in.t, labels)
	in.account(name)
	return name
}

func (in *installation) account(namespace string) {
	in.t.Helper()
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "default"}}
	if err := client.IgnoreAlreadyExists(in.api.Create(in.t.Context(), account)); err != nil {
		in.t.Fatal(err)
	}
}

func (in *installation) pod(namespace string, change ...func(*corev1.Pod)) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, GenerateName: "app-"},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app:1", LivenessProbe: &corev1.Probe{
			ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{}}}}}},
	}
	pod.Spec.Containers[0].LivenessProbe.TCPSocket.Port.IntVal = 8080
	for _, c := range change {
		c(pod)
	}
	return pod
}

func labelled(value string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Labels = map[string]string{injector.InjectLabel: value} }
}

func hostNetwork(p *corev1.Pod) { p.Spec.HostNetwork = true }

// create gives the pod as it was admitted.
func (in *installation) create(pod *corev1.Pod, opts ...client.CreateOption) (*corev1.Pod, error) {
	out := pod.DeepCopy()
	return out, in.api.Create(in.t.Context(), out, opts...)
}

func has(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Spec.InitContainers, func(c corev1.Container) bool { return c.Name == injector.ProxyContainer })
}

// awaitAdmission tries, without creating anything, until the API server has
// taken notice of the configuration: it watches it like everybody else.
func (in *installation) awaitAdmission(what string, pod *corev1.Pod, holds func(*corev1.Pod, error) bool) {
	in.t.Helper()
	last := ""
	envoytest.Eventually(in.t, what, func() bool {
		out, err := in.create(pod, client.DryRunAll)
		last = fmt.Sprintf("sidecar %v, error %v", has(out), err)
		return holds(out, err)
	}, func() string { return last })
}

func injectedPod(pod *corev1.Pod, err error) bool  { return err == nil && has(pod) }
func untouchedPod(pod *corev1.Pod, err error) bool { return err == nil && !has(pod) }

// refusedByWebhook: the call failed, and the failurePolicy has the say.
func refusedByWebhook(_ *corev1.Pod, err error) bool {
	return err != nil && strings.Contains(err.Error(), "failed calling webhook")
}
