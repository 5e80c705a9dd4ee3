package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"math/big"
	"path/filepath"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/meshd-io/meshd/internal/kubetest"
	"github.com/meshd-io/meshd/pkg/console"
)

// rootPEM is a fresh self-signed certificate.
func rootPEM(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func x509Certificate(bundle []byte) (console.Certificate, error) {
	block, _ := pem.Decode(bundle)
	if block == nil {
		return console.Certificate{}, errors.New("no PEM")
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return console.Certificate{}, err
	}
	sum := sha256.Sum256(c.Raw)
	return console.Certificate{Fingerprint: hex.EncodeToString(sum[:]), NotBefore: c.NotBefore, NotAfter: c.NotAfter}, nil
}

// userKubeconfig lets a service account in, by a token, as a user's kubeconfig would.
func userKubeconfig(t *testing.T, c *kubetest.Cluster, namespace, account string) string {
	t.Helper()
	sa := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: account}}
	create(t, c.Client(t), sa)
	request := &authenticationv1.TokenRequest{}
	if err := c.Client(t).SubResource("token").Create(t.Context(), sa, request); err != nil {
		t.Fatal(err)
	}
	config := clientcmdapi.NewConfig()
	config.Clusters["c"] = &clientcmdapi.Cluster{Server: c.Config.Host, CertificateAuthorityData: c.Config.CAData}
	config.AuthInfos["u"] = &clientcmdapi.AuthInfo{Token: request.Status.Token}
	config.Contexts["x"] = &clientcmdapi.Context{Cluster: "c", AuthInfo: "u"}
	config.CurrentContext = "x"
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// grant gives an account viewerRules.
func grant(t *testing.T, c *kubetest.Cluster, namespace, account string) {
	t.Helper()
	everywhere, own := viewerRules()
	subject := []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: namespace, Name: account}}
	meta := metav1.ObjectMeta{Namespace: namespace, Name: "viewer-" + namespace}
	create(t, c.Client(t),
		&rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: meta.Name}, Rules: everywhere},
		&rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: meta.Name}, Subjects: subject,
			RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: meta.Name}},
		&rbacv1.Role{ObjectMeta: meta, Rules: own},
		&rbacv1.RoleBinding{ObjectMeta: meta, Subjects: subject, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: meta.Name}})
}

// awaitRole returns when the API server's own watch has seen both bindings.
func awaitRole(t *testing.T, c *kubetest.Cluster, namespace, account string) {
	t.Helper()
	api := c.ClientFor(t, c.As(namespace, account))
	for _, want := range []authorizationv1.ResourceAttributes{
		{Verb: "list", Resource: "nodes"}, {Verb: "create", Resource: "pods", Subresource: "portforward", Namespace: namespace},
	} {
		for deadline := time.Now().Add(kubetest.Patience); ; {
			review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &want}}
			if err := api.Create(t.Context(), review); err != nil {
				t.Fatal(err)
			}
			if review.Status.Allowed {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("the role has no effect")
			}
		}
	}
}
