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
	apierrors "k8s.io/apimachinery/pkg/api/errors"
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
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return counting{next, &in.writes} })
	r := &injector.Registration{
		Client: must(kubernetes.NewForConfig(config)), Name: registered,
		Bundle: func() []byte { return *in.bundle.Load() },
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

// counting counts what is written.
type counting struct {
	next   http.RoundTripper
	writes *atomic.Int32
}

func (c counting) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodGet {
		c.writes.Add(1)
	}
	return c.next.RoundTrip(r)
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

func TestRegistration(t *testing.T) {
	in := install(t)
	first, second := newAuthority(t, "first"), newAuthority(t, "second")
	in.shown.Store(first.serving(t))
	meshed, plain := in.namespace(inMesh), in.namespace(nil)

	// Without a bundle the API server trusts nobody, and only pods of the mesh feel it.
	in.awaitAdmission("refusal without a bundle", in.pod(meshed), refusedByWebhook)
	if out, err := in.create(in.pod(plain)); !untouchedPod(out, err) {
		t.Errorf("a pod outside of the mesh: %v", err)
	}

	in.trust(first)
	in.run()
	in.awaitEntries(injector.NamespaceEntry, injector.PodEntry)
	in.awaitAdmission("a sidecar", in.pod(meshed), injectedPod)

	// Nothing changes, nothing is written; the next change is.
	in.tell()
	in.trust(first, second)
	in.awaitEntries(injector.NamespaceEntry, injector.PodEntry)
	if n := in.writes.Load(); n != 2 {
		t.Errorf("%d writes", n)
	}

	// The certificate changes while both roots are known; then the old one goes.
	in.awaitAdmission("a sidecar by the old root", in.pod(meshed), injectedPod)
	in.shown.Store(second.serving(t))
	in.trust(second)
	in.awaitEntries(injector.NamespaceEntry, injector.PodEntry)
	in.awaitAdmission("a sidecar by the new root", in.pod(meshed), injectedPod)

	// Somebody else writes, or makes the configuration anew.
	live := in.live()
	live.Webhooks[0].ClientConfig.CABundle = first.pem()
	if err := in.api.Update(t.Context(), live); err != nil {
		t.Fatal(err)
	}
	in.awaitEntries(injector.NamespaceEntry, injector.PodEntry)
	if err := in.api.Delete(t.Context(), live); err != nil {
		t.Fatal(err)
	}
	in.make()
	in.awaitEntries(injector.NamespaceEntry, injector.PodEntry)
	in.awaitAdmission("a sidecar after a reinstallation", in.pod(meshed), injectedPod)
}

func TestOptOutEntryComesAndGoes(t *testing.T) {
	in := install(t)
	root := newAuthority(t, "root")
	in.shown.Store(root.serving(t))
	plain := in.namespace(nil)
	out := in.namespace(map[string]string{injector.InjectLabel: "disabled"})
	odd := in.namespace(map[string]string{injector.InjectLabel: "maybe"})
	in.optOut.Store(true)
	in.trust(root)
	// meshd may be there before the configuration.
	if err := in.api.Delete(t.Context(), in.chart()); err != nil {
		t.Fatal(err)
	}
	in.run()
	in.make()
	in.awaitEntries(injector.DefaultEntry, injector.NamespaceEntry, injector.PodEntry)
	in.awaitAdmission("a sidecar by default", in.pod(plain), injectedPod)
	in.awaitAdmission("a sidecar where the label says nothing", in.pod(odd), injectedPod)
	for name, pod := range map[string]*corev1.Pod{
		"a pod that says no":       in.pod(plain, labelled("disabled")),
		"a namespace that says no": in.pod(out),
		"kube-system":              in.pod(metav1.NamespaceSystem),
		"host network":             in.pod(plain, hostNetwork),
	} {
		if out, err := in.create(pod, client.DryRunAll); !untouchedPod(out, err) {
			t.Errorf("%s: sidecar %v, %v", name, has(out), err)
		}
	}
	// A change of what the chart has made is taken over.
	live := in.live()
	for i := range live.Webhooks {
		if live.Webhooks[i].Name == injector.NamespaceEntry {
			three := int32(3)
			live.Webhooks[i].TimeoutSeconds = &three
		}
	}
	if err := in.api.Update(t.Context(), live); err != nil {
		t.Fatal(err)
	}
	envoytest.Eventually(t, "the chart's timeout on meshd's entry", func() bool {
		return slices.ContainsFunc(in.live().Webhooks, func(w admissionregistrationv1.MutatingWebhook) bool {
			return w.Name == injector.DefaultEntry && *w.TimeoutSeconds == 3
		})
	}, func() string { return string(must(yaml.Marshal(in.live().Webhooks))) })

	in.optOut.Store(false)
	in.tell()
	in.awaitEntries(injector.NamespaceEntry, injector.PodEntry)
	in.awaitAdmission("no sidecar by default", in.pod(plain), untouchedPod)
}

func TestAdmission(t *testing.T) {
	in := install(t)
	root := newAuthority(t, "root")
	in.shown.Store(root.serving(t))
	in.trust(root)
	in.run()
	in.awaitEntries(injector.NamespaceEntry, injector.PodEntry)
	meshed, plain := in.namespace(inMesh), in.namespace(nil)
	in.awaitAdmission("a sidecar", in.pod(meshed), injectedPod)
	in.warnings.take()

	out, err := in.create(in.pod(meshed))
	if err != nil || !has(out) || out.Spec.Containers[0].LivenessProbe.HTTPGet == nil || out.Spec.Containers[0].LivenessProbe.TCPSocket != nil {
		t.Errorf("%v, %+v", err, out.Spec)
	}
	for _, c := range out.Spec.InitContainers {
		if slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return strings.HasPrefix(m.Name, "kube-api-access-") }) {
			t.Errorf("%s has the application's token for the API server", c.Name)
		}
	}
	if !slices.ContainsFunc(out.Spec.Containers[0].VolumeMounts, func(m corev1.VolumeMount) bool { return strings.HasPrefix(m.Name, "kube-api-access-") }) {
		t.Error("the application has lost its token for the API server")
	}
	// kubectl apply of what a cluster has given (with its sidecar) changes nothing.
	again := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: meshed, Name: "again", Annotations: out.Annotations}, Spec: out.Spec}
	again.Spec.NodeName = ""
	if out, err := in.create(again); err != nil || len(out.Spec.InitContainers) != 3 {
		t.Errorf("%v, %d init containers", err, len(out.Spec.InitContainers))
	}
	// The other carrier is valid to the API server as well.
	out, err = in.create(in.pod(meshed, func(p *corev1.Pod) {
		p.Annotations = map[string]string{injector.IdentityAnnotation: injector.CarrierPodCertificate}
	}))
	if err != nil || len(out.Spec.InitContainers) != 2 || len(out.Annotations) != 3 {
		t.Errorf("%v, %d init containers, annotations %v", err, len(out.Spec.InitContainers), out.Annotations)
	}
	for name, c := range map[string]struct {
		pod  *corev1.Pod
		says string // "": untouched
	}{
		"another namespace":                  {pod: in.pod(plain)},
		"kube-system":                        {pod: in.pod(metav1.NamespaceSystem, labelled("enabled"))},
		"a pod that says no":                 {pod: in.pod(meshed, labelled("disabled"))},
		"host network":                       {pod: in.pod(meshed, hostNetwork)},
		"host network, asked for":            {in.pod(meshed, hostNetwork, labelled("enabled")), "leave hostNetwork out"},
		"host network, asked for in another": {in.pod(plain, hostNetwork, labelled("enabled")), "leave hostNetwork out"},
		"the proxy's user": {in.pod(meshed, func(p *corev1.Pod) {
			user := injector.ProxyUID
			p.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: &user}
		}), "UID 1337"},
		"the agent's name":                           {in.pod(meshed, func(p *corev1.Pod) { p.Spec.Containers[0].Name = injector.AgentContainer }), "belongs to meshd"},
		"1 MB of annotations, which Kubernetes ends": {in.pod(meshed, func(p *corev1.Pod) { p.Annotations = map[string]string{"x": strings.Repeat("x", 1<<20)} }), "may not be more than 262144 bytes"},
	} {
		out, err := in.create(c.pod)
		if c.says == "" && !untouchedPod(out, err) || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: sidecar %v, %v", name, has(out), err)
		}
	}
	if out, err := in.create(in.pod(plain, labelled("enabled"))); !injectedPod(out, err) {
		t.Errorf("a pod that asks for it elsewhere: %v", err)
	}
	in.warnings.take()
	if _, err := in.create(in.pod(meshed, func(p *corev1.Pod) {
		p.Annotations = map[string]string{injector.ExcludeInboundPortsAnnotation: "x"}
	})); err != nil {
		t.Error(err)
	}
	if all := strings.Join(in.warnings.take(), "\n"); !strings.Contains(all, `meshd: metadata.annotations[meshd.io/exclude-inbound-ports]`) {
		t.Errorf("warnings: %q", all)
	}
	// A dry run says what would be, and leaves nothing.
	dry := in.pod(meshed)
	dry.Name, dry.GenerateName = "dry", ""
	if out, err := in.create(dry, client.DryRunAll); !injectedPod(out, err) {
		t.Error(err)
	}
	if err := in.api.Get(t.Context(), client.ObjectKeyFromObject(dry), &corev1.Pod{}); !apierrors.IsNotFound(err) {
		t.Errorf("a dry run left a pod: %v", err)
	}
}
