package podcert

import (
	"context"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshd-io/meshd/internal/kubetest"
	"github.com/meshd-io/meshd/pkg/ca"
	"github.com/meshd-io/meshd/pkg/ca/catest"
	"github.com/meshd-io/meshd/pkg/identity"
)

// cluster admits requests as a real one does: nodes only for their own pods.
var cluster = kubetest.Shared{Options: kubetest.Options{NoCRDs: true, Args: map[string][]string{
	"authorization-mode": {"Node,RBAC"}, "enable-admission-plugins": {"NodeRestriction"},
}}}

func TestMain(m *testing.M) {
	code := m.Run()
	cluster.Stop()
	os.Exit(code)
}

// scene is a namespace with a node, an account and a pod that mounts a certificate.
type scene struct {
	admin, kubelet client.Client
	node           *corev1.Node
	account        *corev1.ServiceAccount
	pod            *corev1.Pod
}

func newScene(t *testing.T, c *kubetest.Cluster) scene {
	t.Helper()
	s := scene{admin: c.Client(t)}
	namespace := c.Namespace(t, nil)
	s.node = &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-" + namespace}}
	s.account = &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "accounts"}}
	s.pod = &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "accounts-1"},
		Spec: corev1.PodSpec{
			NodeName: s.node.Name, ServiceAccountName: "accounts", Volumes: []corev1.Volume{volume(SignerName)},
			Containers: []corev1.Container{{Name: "app", Image: "example"}},
		},
	}
	for _, o := range []client.Object{s.node, s.account, s.pod} {
		if err := s.admin.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	config := rest.CopyConfig(c.Config)
	config.Impersonate = rest.ImpersonationConfig{UserName: "system:node:" + s.node.Name, Groups: []string{"system:nodes", "system:authenticated"}}
	s.kubelet = c.ClientFor(t, config)
	return s
}

// request is what the kubelet of the pod makes.
func (s scene) request(csr []byte, seconds int32) *certificatesv1.PodCertificateRequest {
	return &certificatesv1.PodCertificateRequest{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.pod.Namespace, GenerateName: "req-"},
		Spec: certificatesv1.PodCertificateRequestSpec{
			SignerName: SignerName, PodName: s.pod.Name, PodUID: s.pod.UID,
			ServiceAccountName: s.account.Name, ServiceAccountUID: s.account.UID,
			NodeName: types.NodeName(s.node.Name), NodeUID: s.node.UID,
			MaxExpirationSeconds: &seconds, StubPKCS10Request: csr,
		},
	}
}

// create asks as the kubelet does, until its API server knows pod and node: the admission reads them from a cache.
func (s scene) create(t *testing.T, r *certificatesv1.PodCertificateRequest) {
	t.Helper()
	kubetest.Until(t, "the request is made", func(ctx context.Context) (bool, error) {
		err := s.kubelet.Create(ctx, r)
		return err == nil, err
	})
}

// answer waits for the request's condition.
func (s scene) answer(t *testing.T, r *certificatesv1.PodCertificateRequest) *certificatesv1.PodCertificateRequest {
	t.Helper()
	out := &certificatesv1.PodCertificateRequest{}
	kubetest.Until(t, "an answer", func(ctx context.Context) (bool, error) {
		err := s.admin.Get(ctx, client.ObjectKeyFromObject(r), out)
		return err == nil && answered(out), err
	})
	return out
}

// rules are all that the signer may do in a cluster.
func rules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"get"}},
		{APIGroups: []string{"certificates.k8s.io"}, Resources: []string{"podcertificaterequests"}, Verbs: []string{"get", "list", "watch"}},
		{APIGroups: []string{"certificates.k8s.io"}, Resources: []string{"podcertificaterequests/status"}, Verbs: []string{"update"}},
		{APIGroups: []string{"certificates.k8s.io"}, Resources: []string{"signers"}, ResourceNames: []string{SignerName}, Verbs: []string{"sign"}},
	}
}

// signer runs one as the account meshd, with these rights alone, until the end of the test.
func signer(t *testing.T, c *kubetest.Cluster, o Options) {
	t.Helper()
	system := c.Namespace(t, nil)
	name := "signer-" + system
	admin := c.Client(t)
	for _, o := range []client.Object{
		&rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: rules()},
		&rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: name}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
			Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: system, Name: "meshd"}},
		},
	} {
		if err := admin.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	o.Log = slog.New(slog.DiscardHandler)
	var s *Signer
	kubetest.Until(t, "the rights", func(context.Context) (bool, error) { // RBAC is enforced from a cache
		var err error
		s, err = New(c.As(system, "meshd"), o)
		return err == nil, err
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// told counts answers by reason.
type told struct {
	mu      sync.Mutex
	reasons map[string]int
}

func (t *told) answer(reason string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.reasons == nil {
		t.reasons = map[string]int{}
	}
	t.reasons[reason]++
}

func (t *told) times(reason string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.reasons[reason]
}

// TestIssued: a request that a node makes for its pod is answered, within the API server's rules, and the chain verifies.
func TestIssued(t *testing.T) {
	c := cluster.Get(t)
	s := newScene(t, c)
	for name, tc := range map[string]struct {
		leaf    time.Duration
		seconds int32
		want    time.Duration
	}{
		"as it is set":            {time.Hour, 86400, time.Hour + ca.DefaultSkew},
		"as short as can be":      {time.Hour, 3600, time.Hour},
		"shorter than may be":     {time.Minute, 86400, time.Hour},
		"longer than the pod's":   {48 * time.Hour, 7200, 2 * time.Hour},
		"longer than any kubelet": {2000 * time.Hour, 7862400, 2000*time.Hour + ca.DefaultSkew},
	} {
		t.Run(name, func(t *testing.T) {
			authority := catest.New(t, ca.Lifetimes{Root: 87600 * time.Hour, Issuer: 8760 * time.Hour, Leaf: tc.leaf}, nil).Authority
			signer(t, c, Options{Authority: authority})
			key := ecKey(t, elliptic.P256())
			r := s.request(stub(t, key, x509.CertificateRequest{}), tc.seconds)
			s.create(t, r)
			st := s.answer(t, r).Status
			if st.Conditions[0].Type != certificatesv1.PodCertificateRequestConditionTypeIssued {
				t.Fatalf("%+v", st.Conditions[0])
			}
			certs, err := ca.ParseCertificates([]byte(st.CertificateChain))
			if err != nil {
				t.Fatal(err)
			}
			td := spiffeid.RequireTrustDomainFromString(catest.TrustDomain)
			id, _, err := x509svid.Verify(certs, x509bundle.FromX509Authorities(td, authority.Roots()))
			if err != nil {
				t.Fatal(err)
			}
			if id.String() != "spiffe://cluster.local/ns/"+s.pod.Namespace+"/sa/accounts" || !key.PublicKey.Equal(certs[0].PublicKey) {
				t.Errorf("issued to %s", id)
			}
			if got := st.NotAfter.Sub(st.NotBefore.Time); got != tc.want {
				t.Errorf("lives for %s, want %s", got, tc.want)
			}
			if half := st.BeginRefreshAt.Sub(st.NotBefore.Time); half != (tc.want / 2).Truncate(time.Second) {
				t.Errorf("refresh begins after %s", half)
			}
		})
	}
}

// TestDenied: what is wrong for good is denied with a reason and a cure, once.
func TestDenied(t *testing.T) {
	c := cluster.Get(t)
	s := newScene(t, c)
	answers := &told{}
	signer(t, c, Options{Authority: catest.New(t, ca.Lifetimes{}, nil).Authority, Told: answers.answer})
	good := stub(t, ecKey(t, elliptic.P256()), x509.CertificateRequest{})
	for _, tc := range []struct {
		name   string
		change func(*certificatesv1.PodCertificateRequest)
		want   string
	}{
		{"P-384", func(r *certificatesv1.PodCertificateRequest) {
			r.Spec.StubPKCS10Request = stub(t, ecKey(t, elliptic.P384()), x509.CertificateRequest{})
		}, "UnsupportedKeyType"},
		{"annotations", func(r *certificatesv1.PodCertificateRequest) {
			r.Spec.UnverifiedUserAnnotations = map[string]string{"example.com/dns": "bank"}
		}, "InvalidUnverifiedUserAnnotations"},
		{"names", func(r *certificatesv1.PodCertificateRequest) { r.Spec.StubPKCS10Request = named(t) }, "CSRName"},
		// No node could make these: an administrator does, whom NodeRestriction does not bind.
		{"pod that is not there", func(r *certificatesv1.PodCertificateRequest) { r.Spec.PodName = "accounts-2" }, PodGone},
		{"another account", func(r *certificatesv1.PodCertificateRequest) { r.Spec.ServiceAccountName = "loans" }, PodMismatch},
		{"another node", func(r *certificatesv1.PodCertificateRequest) { r.Spec.NodeName = "node-2" }, PodMismatch},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := s.request(good, 3600)
			tc.change(r)
			before := answers.times(tc.want)
			if err := s.admin.Create(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			got := s.answer(t, r).Status
			if len(got.Conditions) != 1 || got.Conditions[0].Type != "Denied" || got.Conditions[0].Reason != tc.want || got.CertificateChain != "" {
				t.Errorf("%+v", got)
			}
			kubetest.Until(t, "the answer is told", func(context.Context) (bool, error) { return answers.times(tc.want) == before+1, nil })
		})
	}
}

// TestNodeRestriction is what the signer relies on: a node asks for its own pods only, nobody else asks at all.
func TestNodeRestriction(t *testing.T) {
	c := cluster.Get(t)
	own, foreign := newScene(t, c), newScene(t, c)
	csr := stub(t, ecKey(t, elliptic.P256()), x509.CertificateRequest{})
	taken := own.request(csr, 3600)
	own.create(t, taken) // the API server knows this node by now
	if err := own.admin.Delete(t.Context(), taken); err != nil {
		t.Fatal(err) // no signer of another test is to find it
	}
	if err := own.kubelet.Create(t.Context(), foreign.request(csr, 3600)); err == nil || !strings.Contains(err.Error(), "not the requesting node") {
		t.Errorf("for another node's pod: %v", err)
	}
	r := own.request(csr, 3600)
	r.Spec.ServiceAccountName = "loans"
	if err := own.kubelet.Create(t.Context(), r); err == nil || !strings.Contains(err.Error(), "differs from running pod") {
		t.Errorf("for another account: %v", err)
	}
	if err := c.ClientFor(t, c.As(own.pod.Namespace, "accounts")).Create(t.Context(), own.request(csr, 3600)); err == nil {
		t.Error("a pod asked for itself")
	}
}

// TestOtherSigner: requests for others are not even seen.
func TestOtherSigner(t *testing.T) {
	c := cluster.Get(t)
	s := newScene(t, c)
	signer(t, c, Options{Authority: catest.New(t, ca.Lifetimes{}, nil).Authority})
	csr := stub(t, ecKey(t, elliptic.P256()), x509.CertificateRequest{})
	other, ours := s.request(csr, 3600), s.request(csr, 3600)
	other.Spec.SignerName = "example.com/other"
	if err := s.admin.Create(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	s.create(t, ours)
	s.answer(t, ours)
	if err := s.admin.Get(t.Context(), client.ObjectKeyFromObject(other), other); err != nil || answered(other) {
		t.Errorf("%v, %+v", err, other.Status)
	}
}

// faulty fails at first, as an authority does whose issuer cannot be renewed.
type faulty struct {
	*ca.Authority
	mu    sync.Mutex
	fails int
}

func (f *faulty) SignWithin(id identity.ID, csr []byte, least, most time.Duration) (ca.Issued, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fails > 0 {
		f.fails--
		return ca.Issued{}, errors.New("no issuer")
	}
	return f.Authority.SignWithin(id, csr, least, most)
}

// TestFailureIsNotAnswered: meshd's own failure leaves the request open, and is tried again.
func TestFailureIsNotAnswered(t *testing.T) {
	c := cluster.Get(t)
	s := newScene(t, c)
	signer(t, c, Options{Authority: &faulty{Authority: catest.New(t, ca.Lifetimes{}, nil).Authority, fails: 3}})
	r := s.request(stub(t, ecKey(t, elliptic.P256()), x509.CertificateRequest{}), 3600)
	s.create(t, r)
	if got := s.answer(t, r).Status.Conditions[0]; got.Type != "Issued" {
		t.Errorf("%+v", got)
	}
}

// TestTwoSigners: if two lead for a moment there is one answer, and it stays.
func TestTwoSigners(t *testing.T) {
	c := cluster.Get(t)
	s := newScene(t, c)
	answers := &told{}
	for range 2 {
		signer(t, c, Options{Authority: catest.New(t, ca.Lifetimes{}, nil).Authority, Told: answers.answer})
	}
	const n = 10
	for range n {
		r := s.request(stub(t, ecKey(t, elliptic.P256()), x509.CertificateRequest{}), 3600)
		s.create(t, r)
		first := s.answer(t, r)
		if block, _ := pem.Decode([]byte(first.Status.CertificateChain)); block == nil {
			t.Fatal("no certificate")
		}
	}
	kubetest.Until(t, "all answers are told", func(context.Context) (bool, error) { return answers.times("") >= n, nil })
	if got := answers.times(""); got != n {
		t.Errorf("%d answers to %d requests", got, n)
	}
}
