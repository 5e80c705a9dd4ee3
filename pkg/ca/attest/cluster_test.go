package attest_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/meshd-io/meshd/internal/clock/clocktest"
	"github.com/meshd-io/meshd/internal/kubetest"
	"github.com/meshd-io/meshd/pkg/ca/attest"
	"github.com/meshd-io/meshd/pkg/ca/catest"
	"github.com/meshd-io/meshd/pkg/ca/refusal"
)

var cluster kubetest.Shared

func TestMain(m *testing.M) {
	code := m.Run()
	cluster.Stop()
	os.Exit(code)
}

// pod makes an account and a pod of it on a node, and gives a token as the kubelet asks for it.
type pod struct {
	client    kubernetes.Interface
	namespace string
	uid       string
}

func newPod(t *testing.T, c *kubetest.Cluster) pod {
	t.Helper()
	client, err := kubernetes.NewForConfig(c.Config)
	if err != nil {
		t.Fatal(err)
	}
	p := pod{client: client, namespace: c.Namespace(t, nil)}
	_, err = client.CoreV1().ServiceAccounts(p.namespace).Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "accounts"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	node := "node-" + p.namespace
	if _, err := client.CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	made, err := client.CoreV1().Pods(p.namespace).Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "accounts-1"},
		Spec: corev1.PodSpec{
			NodeName: node, ServiceAccountName: "accounts",
			Containers: []corev1.Container{{Name: "app", Image: "example"}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p.uid = string(made.UID)
	return p
}

func (p pod) token(t *testing.T, audience string) string {
	t.Helper()
	seconds := int64(3600)
	tr, err := p.client.CoreV1().ServiceAccounts(p.namespace).CreateToken(t.Context(), "accounts", &authenticationv1.TokenRequest{
		Spec: authenticationv1.TokenRequestSpec{
			Audiences: []string{audience}, ExpirationSeconds: &seconds,
			BoundObjectRef: &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: "accounts-1", UID: types.UID(p.uid)},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return tr.Status.Token
}

func (p pod) delete(t *testing.T) {
	t.Helper()
	now := int64(0)
	if err := p.client.CoreV1().Pods(p.namespace).Delete(t.Context(), "accounts-1", metav1.DeleteOptions{GracePeriodSeconds: &now}); err != nil {
		t.Fatal(err)
	}
}

// clusterReviewer is what `meshd serve` builds in a cluster.
func clusterReviewer(t *testing.T, config *rest.Config, nodes attest.Nodes) *attest.Reviewer {
	t.Helper()
	keys, err := attest.NewCluster(t.Context(), config, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	v, err := attest.New(attest.Config{TrustDomain: catest.TrustDomain, Keys: keys, Nodes: nodes})
	if err != nil {
		t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return attest.NewReviewer(v, client.AuthenticationV1().TokenReviews())
}

// TestRealToken: the token of a real pod is taken while the pod exists, and refused when it is for somebody else.
func TestRealToken(t *testing.T) {
	c := cluster.Get(t)
	p := newPod(t, c)
	r := clusterReviewer(t, c.Config, nil)
	token, spare := p.token(t, attest.Audience), p.token(t, attest.Audience)
	peer, err := r.Attest(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	if peer.Identity.String() != "spiffe://cluster.local/ns/"+p.namespace+"/sa/accounts" || peer.Pod != "accounts-1" || peer.PodUID != p.uid {
		t.Errorf("peer is %+v", peer)
	}
	if _, err := r.Attest(t.Context(), p.token(t, c.Issuer())); refusal.ReasonOf(err) != refusal.TokenAudience {
		t.Errorf("a token for the API server: %v", err)
	}
	if _, err := clusterReviewer(t, c.Config, nodes("elsewhere")).Attest(t.Context(), token); refusal.ReasonOf(err) != refusal.NodeMismatch {
		t.Errorf("a token that says another node: %v", err)
	}
	if _, err := clusterReviewer(t, c.Config, nodes("node-"+p.namespace)).Attest(t.Context(), token); err != nil {
		t.Errorf("a token of the pod's node: %v", err)
	}
	p.delete(t)
	// The spare has been reviewed by nobody: no cache, here or in the API server, knows it as good.
	if _, err := r.Attest(t.Context(), spare); refusal.ReasonOf(err) != refusal.TokenRejected {
		t.Errorf("the token of a deleted pod: %v", err)
	}
}

type nodes string

func (n nodes) PodNode(string, string, string) (string, bool) { return string(n), true }

// TestLeastPrivilege: the account needs nothing but to create reviews and to read the keys.
func TestLeastPrivilege(t *testing.T) {
	c := cluster.Get(t)
	p := newPod(t, c)
	config := c.As("meshd-system", "attestor")
	if _, err := attest.NewCluster(t.Context(), config, nil, nil); err != nil {
		t.Errorf("keys as any account: %v", err) // by system:service-account-issuer-discovery
	}
	r := clusterReviewer(t, config, nil)
	if _, err := r.Attest(t.Context(), p.token(t, attest.Audience)); err == nil || refusal.ReasonOf(err) != "" {
		t.Errorf("without the right to review: %v, want a failure that is no refusal", err)
	}
}

// api is an API server of two pages, which can be turned off.
type api struct {
	mu    sync.Mutex
	keys  any
	down  bool
	reads int
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.down {
		http.Error(w, "down", http.StatusServiceUnavailable)
		return
	}
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		_, _ = w.Write([]byte(`{"issuer": "` + catest.Issuer + `", "jwks_uri": "https://elsewhere.example.com"}`))
	case "/openid/v1/jwks":
		a.reads++
		_ = json.NewEncoder(w).Encode(a.keys)
	default:
		http.NotFound(w, r)
	}
}

func (a *api) set(keys any, down bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.keys, a.down = keys, down
}

func (a *api) read() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.reads
}

// TestKeyRotation: an unknown key has the keys read again, once in a while; the last good ones outlive the API server.
func TestKeyRotation(t *testing.T) {
	clk := clocktest.New(time.Now())
	old, fresh := catest.NewTokens(t), catest.NewTokens(t)
	fresh.KID = "k2"
	pages := &api{keys: old.JWKS()}
	srv := httptest.NewServer(pages)
	t.Cleanup(srv.Close)
	keys, err := attest.NewCluster(t.Context(), &rest.Config{Host: srv.URL}, clk, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	v, err := attest.New(attest.Config{TrustDomain: catest.TrustDomain, Keys: keys, Clock: clk})
	if err != nil {
		t.Fatal(err)
	}
	attestWith := func(tokens *catest.Tokens) error {
		_, err := v.Attest(t.Context(), tokens.Token(t, "shop", "accounts", clk.Now()))
		return err
	}
	if err := attestWith(old); err != nil {
		t.Fatal(err)
	}
	pages.set(fresh.JWKS(), false)
	for range 100 {
		if err := attestWith(fresh); refusal.ReasonOf(err) != refusal.TokenKeyUnknown {
			t.Fatalf("just after a read: %v", err)
		}
	}
	if n := pages.read(); n != 1 {
		t.Errorf("unknown keys had the keys read %d times in a moment", n)
	}
	clk.Advance(11 * time.Second)
	if err := attestWith(fresh); err != nil {
		t.Errorf("after the keys were read again: %v", err)
	}
	if err := attestWith(old); refusal.ReasonOf(err) != refusal.TokenKeyUnknown {
		t.Errorf("a key that was taken back: %v", err)
	}
	for name, broken := range map[string]func(){
		"away":      func() { pages.set(nil, true) },
		"no keys":   func() { pages.set(map[string]any{"keys": []any{}}, false) },
		"symmetric": func() { pages.set(map[string]any{"keys": []any{map[string]string{"kty": "oct", "k": "AAAA"}}}, false) },
	} {
		broken()
		clk.Advance(11 * time.Second)
		if err := keys.Refresh(t.Context()); err == nil {
			t.Errorf("%s: no error", name)
		}
		if err := attestWith(fresh); err != nil {
			t.Errorf("%s: the last good keys are lost: %v", name, err)
		}
	}
}

// TestKeysArePolled: without any token too.
func TestKeysArePolled(t *testing.T) {
	clk := clocktest.New(time.Now())
	pages := &api{keys: catest.NewTokens(t).JWKS()}
	srv := httptest.NewServer(pages)
	t.Cleanup(srv.Close)
	keys, err := attest.NewCluster(t.Context(), &rest.Config{Host: srv.URL}, clk, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), kubetest.Patience)
	done := make(chan error, 1)
	go func() { done <- keys.Run(ctx) }()
	for range 3 {
		wait, err := clk.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		clk.Advance(wait)
	}
	if _, err := clk.Next(ctx); err != nil {
		t.Fatal(err)
	}
	if n := pages.read(); n != 4 {
		t.Errorf("read %d times, want 4", n)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestNoIssuerNoCluster(t *testing.T) {
	pages := &api{down: true}
	srv := httptest.NewServer(pages)
	t.Cleanup(srv.Close)
	if _, err := attest.NewCluster(t.Context(), &rest.Config{Host: srv.URL}, nil, nil); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("%v", err)
	}
}
