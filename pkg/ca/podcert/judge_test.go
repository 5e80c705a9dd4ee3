package podcert

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"strings"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// stub is the CSR of a kubelet: empty but for its key.
func stub(t *testing.T, key crypto.Signer, tmpl x509.CertificateRequest) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &tmpl, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func ecKey(t *testing.T, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestJudgeRequest(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := stub(t, ecKey(t, elliptic.P256()), x509.CertificateRequest{})
	for _, tc := range []struct {
		name string
		spec certificatesv1.PodCertificateRequestSpec
		want string // the reason
		cure string // in the message
	}{
		{"good", certificatesv1.PodCertificateRequestSpec{StubPKCS10Request: good}, "", ""},
		{"RSA", certificatesv1.PodCertificateRequestSpec{StubPKCS10Request: stub(t, rsaKey, x509.CertificateRequest{})}, "UnsupportedKeyType", "ECDSAP256"},
		{"P-384", certificatesv1.PodCertificateRequestSpec{StubPKCS10Request: stub(t, ecKey(t, elliptic.P384()), x509.CertificateRequest{})}, "UnsupportedKeyType", "ECDSAP256"},
		{"P-521", certificatesv1.PodCertificateRequestSpec{StubPKCS10Request: stub(t, ecKey(t, elliptic.P521()), x509.CertificateRequest{})}, "UnsupportedKeyType", "ECDSAP256"},
		{"Ed25519", certificatesv1.PodCertificateRequestSpec{StubPKCS10Request: stub(t, edKey, x509.CertificateRequest{})}, "UnsupportedKeyType", "ECDSAP256"},
		{"garbage", certificatesv1.PodCertificateRequestSpec{StubPKCS10Request: []byte("x")}, "CSRMalformed", "PKCS #10"},
		{"empty", certificatesv1.PodCertificateRequestSpec{}, "CSRMalformed", "PKCS #10"},
		{"huge", certificatesv1.PodCertificateRequestSpec{StubPKCS10Request: make([]byte, 1<<20)}, "CSRTooLarge", "4096"},
		{"annotations", certificatesv1.PodCertificateRequestSpec{
			StubPKCS10Request: good, UnverifiedUserAnnotations: map[string]string{"example.com/dns": "bank"},
		}, "InvalidUnverifiedUserAnnotations", "remove example.com/dns"},
	} {
		tc.spec.SignerName = SignerName
		d := judgeRequest(&certificatesv1.PodCertificateRequest{Spec: tc.spec})
		switch {
		case d == nil:
			if tc.want != "" {
				t.Errorf("%s: taken", tc.name)
			}
		case d.reason != tc.want || !strings.Contains(d.message, tc.cure):
			t.Errorf("%s: %+v, want %q with %q", tc.name, *d, tc.want, tc.cure)
		}
	}
}

// volume of a pod's certificate.
func volume(signer string) corev1.Volume {
	return corev1.Volume{Name: "identity", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
		Sources: []corev1.VolumeProjection{{PodCertificate: &corev1.PodCertificateProjection{
			SignerName: signer, KeyType: "ECDSAP256", CredentialBundlePath: "bundle.pem",
		}}},
	}}}
}

func TestJudgePod(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*corev1.Pod)
		want   string
	}{
		{"good", func(*corev1.Pod) {}, ""},
		{"another of its name", func(p *corev1.Pod) { p.UID = "2" }, PodGone},
		{"done", func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }, PodGone},
		{"failed", func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }, PodGone},
		{"another account", func(p *corev1.Pod) { p.Spec.ServiceAccountName = "loans" }, PodMismatch},
		{"the default account", func(p *corev1.Pod) { p.Spec.ServiceAccountName = "" }, PodMismatch},
		{"another node", func(p *corev1.Pod) { p.Spec.NodeName = "node-2" }, PodMismatch},
		{"no node yet", func(p *corev1.Pod) { p.Spec.NodeName = "" }, PodMismatch},
		{"no volume", func(p *corev1.Pod) { p.Spec.Volumes = nil }, PodMismatch},
		{"volume of another signer", func(p *corev1.Pod) { p.Spec.Volumes = []corev1.Volume{volume("example.com/x")} }, PodMismatch},
	} {
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "accounts-1", UID: "1"},
			Spec:       corev1.PodSpec{ServiceAccountName: "accounts", NodeName: "node-1", Volumes: []corev1.Volume{{}, volume(SignerName)}},
		}
		tc.change(pod)
		r := &certificatesv1.PodCertificateRequest{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "r"},
			Spec: certificatesv1.PodCertificateRequestSpec{
				SignerName: SignerName, PodName: "accounts-1", PodUID: "1", ServiceAccountName: "accounts", NodeName: "node-1",
			},
		}
		got := ""
		if d := judgePod(r, pod); d != nil {
			got = d.reason
		}
		if got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}

// named is a CSR that asks for more than kubelets do: the authority refuses it.
func named(t *testing.T) []byte {
	t.Helper()
	return stub(t, ecKey(t, elliptic.P256()), x509.CertificateRequest{Subject: pkix.Name{CommonName: "admin"}, DNSNames: []string{"kubernetes"}})
}
