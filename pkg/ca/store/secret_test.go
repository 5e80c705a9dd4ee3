package store_test

import (
	"context"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/meshd-io/meshd/internal/kubetest"
	"github.com/meshd-io/meshd/pkg/ca"
	"github.com/meshd-io/meshd/pkg/ca/store"
)

var cluster kubetest.Shared

func TestMain(m *testing.M) {
	code := m.Run()
	cluster.Stop()
	os.Exit(code)
}

func authority(s store.Secrets) (*ca.Authority, error) {
	return ca.New(ca.Config{TrustDomain: td, Store: store.Secret{Secrets: s}, Log: slog.New(slog.DiscardHandler)})
}

// TestReplicas: those that start at once have one root, and so has a later one.
func TestReplicas(t *testing.T) {
	c := cluster.Get(t)
	client, err := kubernetes.NewForConfig(c.Config)
	if err != nil {
		t.Fatal(err)
	}
	secrets := client.CoreV1().Secrets(c.Namespace(t, nil))
	const replicas = 8
	bundles := make([]string, replicas)
	var wg sync.WaitGroup
	for i := range replicas {
		wg.Go(func() {
			a, err := authority(secrets)
			if err != nil {
				t.Error(err)
				return
			}
			bundles[i] = a.Bundle()
		})
	}
	wg.Wait()
	later, err := authority(secrets)
	if err != nil {
		t.Fatal(err)
	}
	for i, b := range bundles {
		if b != later.Bundle() {
			t.Errorf("replica %d has another root", i)
		}
	}
	secret, err := secrets.Get(t.Context(), store.RootSecret, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if secret.Type != corev1.SecretTypeTLS || string(secret.Data["tls.crt"]) != later.Bundle() {
		t.Errorf("the Secret is %s with %d bytes of tls.crt", secret.Type, len(secret.Data["tls.crt"]))
	}
}

// TestBrokenSecret: what is broken or somebody else's is told with a cure, and left as it is.
func TestBrokenSecret(t *testing.T) {
	client := fake.NewClientset().CoreV1().Secrets("meshd-system")
	if _, err := authority(client); err != nil {
		t.Fatal(err)
	}
	good, err := client.Get(t.Context(), store.RootSecret, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name   string
		change func(*corev1.Secret)
		want   string
	}{
		{"another type", func(s *corev1.Secret) { s.Type = corev1.SecretTypeOpaque }, "its type is"},
		{"no key", func(s *corev1.Secret) { delete(s.Data, "tls.key") }, "tls.key: holds no private key"},
		{"no certificate", func(s *corev1.Secret) { s.Data["tls.crt"] = nil }, "tls.crt: holds no certificate"},
		{"two certificates", func(s *corev1.Secret) { s.Data["tls.crt"] = append(s.Data["tls.crt"], s.Data["tls.crt"]...) }, "2 certificates"},
		{"garbage", func(s *corev1.Secret) { s.Data["tls.crt"] = []byte("x") }, "not PEM"},
		{"another's key", func(s *corev1.Secret) { s.Data["tls.key"] = otherKey(t) }, "do not belong together"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			broken := good.DeepCopy()
			tc.change(broken)
			clients := fake.NewClientset(broken.DeepCopy()).CoreV1().Secrets("meshd-system")
			_, err := authority(clients)
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "restore it from a backup") {
				t.Errorf("%v, want %q and a cure", err, tc.want)
			}
			after, err := clients.Get(context.Background(), store.RootSecret, metav1.GetOptions{})
			if err != nil || after.Type != broken.Type || string(after.Data["tls.crt"]) != string(broken.Data["tls.crt"]) {
				t.Errorf("the Secret was changed (%v)", err)
			}
		})
	}
}

func otherKey(t *testing.T) []byte {
	t.Helper()
	client := fake.NewClientset().CoreV1().Secrets("x")
	if _, err := authority(client); err != nil {
		t.Fatal(err)
	}
	s, err := client.Get(t.Context(), store.RootSecret, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return s.Data["tls.key"]
}
