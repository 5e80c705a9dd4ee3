package kubetest_test

import (
	"context"
	"os"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
	"github.com/meshd-io/meshd/internal/kubetest"
)

var cluster kubetest.Shared

func TestMain(m *testing.M) {
	code := m.Run()
	cluster.Stop()
	os.Exit(code)
}

// TestServes says which APIs there are without asking for them.
func TestServes(t *testing.T) {
	c := cluster.Get(t)
	api := c.Client(t)
	for _, list := range []client.ObjectList{
		&meshv1a1.TrafficPolicyList{}, &certificatesv1.PodCertificateRequestList{}, &certificatesv1.ClusterTrustBundleList{},
		&networkingv1.ServiceCIDRList{},
	} {
		if err := api.List(context.Background(), list); err != nil {
			t.Errorf("%T: %v", list, err)
		}
	}
}

func TestTokensAreOfTheIssuer(t *testing.T) {
	c := cluster.Get(t)
	api, ctx := c.Client(t), context.Background()
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace(t, nil), Name: "app"}}
	if err := api.Create(ctx, account); err != nil {
		t.Fatal(err)
	}
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: []string{c.Issuer()}}}
	if err := api.SubResource("token").Create(ctx, account, request); err != nil {
		t.Fatal(err)
	}
	review := &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: request.Status.Token}}
	if err := api.Create(ctx, review); err != nil {
		t.Fatal(err)
	}
	if want := "system:serviceaccount:" + account.Namespace + ":app"; review.Status.User.Username != want {
		t.Errorf("the token is %q's, want %q (%s)", review.Status.User.Username, want, review.Status.Error)
	}
}

func TestImpersonationIsHeldToRBAC(t *testing.T) {
	c := cluster.Get(t)
	nobody := c.ClientFor(t, c.As("default", "nobody"))
	if err := nobody.List(context.Background(), &corev1.SecretList{}); !apierrors.IsForbidden(err) {
		t.Errorf("a service account without a role may list Secrets: %v", err)
	}
}

// TestRestart has a cluster of its own, since others would feel it.
func TestRestart(t *testing.T) {
	c := kubetest.Start(t, kubetest.Options{NoCRDs: true})
	api, ctx := c.Client(t), context.Background()
	name := c.Namespace(t, nil)
	c.StopAPI(t)
	if err := api.Get(ctx, client.ObjectKey{Name: name}, &corev1.Namespace{}); err == nil {
		t.Error("the API server answers although it is stopped")
	}
	c.StartAPI(t)
	if err := api.Get(ctx, client.ObjectKey{Name: name}, &corev1.Namespace{}); err != nil {
		t.Errorf("after the restart: %v", err)
	}
	if err := api.List(ctx, &meshv1a1.TrafficPolicyList{}); err == nil {
		t.Error("meshd's kinds are served although they were to be left out")
	}
	c.InstallCRDs(t)
	if err := c.Client(t).List(ctx, &meshv1a1.TrafficPolicyList{}); err != nil {
		t.Error(err)
	}
}
