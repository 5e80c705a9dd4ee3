package request_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"net/url"
	"testing"

	"github.com/meshd-io/meshd/pkg/ca/refusal"
	"github.com/meshd-io/meshd/pkg/ca/request"
	"github.com/meshd-io/meshd/pkg/identity"
)

func accounts(t testing.TB) identity.ID {
	t.Helper()
	id, err := identity.New("cluster.local", "shop", "accounts")
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func csr(t testing.TB, curve elliptic.Curve, tmpl x509.CertificateRequest) (*ecdsa.PrivateKey, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &tmpl, key)
	if err != nil {
		t.Fatal(err)
	}
	return key, der
}

// TestGood: the key comes back, with or without the identity's own URI. What
// must be refused is in the CA's table of hostile requests (pkg/ca/service).
func TestGood(t *testing.T) {
	id := accounts(t)
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384()} {
		for _, tmpl := range []x509.CertificateRequest{{}, {URIs: []*url.URL{id.SPIFFE().URL()}}} {
			key, der := csr(t, curve, tmpl)
			got, err := request.Check(der, id)
			if err != nil || !key.PublicKey.Equal(got) {
				t.Errorf("%s, %d URIs: %v", curve.Params().Name, len(tmpl.URIs), err)
			}
		}
	}
}

// FuzzCSR: whatever the bytes are, an error is a refusal with a reason, and what
// passes is signed by the key that is given back.
func FuzzCSR(f *testing.F) {
	id := accounts(f)
	_, plain := csr(f, elliptic.P256(), x509.CertificateRequest{})
	_, named := csr(f, elliptic.P256(), x509.CertificateRequest{URIs: []*url.URL{id.SPIFFE().URL()}})
	_, dns := csr(f, elliptic.P256(), x509.CertificateRequest{DNSNames: []string{"x"}})
	_, ext := csr(f, elliptic.P256(), x509.CertificateRequest{
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Value: []byte{0x30, 3, 1, 1, 0xff}}},
	})
	for _, seed := range [][]byte{plain, named, dns, ext, nil, {0x30, 0x80}, append(plain, 0)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		key, err := request.Check(der, id)
		if err != nil {
			if key != nil {
				t.Error("refused, but a key is given")
			}
			if refusal.ReasonOf(err) == "" {
				t.Errorf("error without a reason: %v", err)
			}
			return
		}
		parsed, err := x509.ParseCertificateRequest(der)
		if err != nil || parsed.CheckSignature() != nil || !key.Equal(parsed.PublicKey) {
			t.Error("passed without proof of possession")
		}
		if len(parsed.DNSNames)+len(parsed.IPAddresses)+len(parsed.EmailAddresses) > 0 || parsed.Subject.String() != "" {
			t.Error("passed with foreign names")
		}
		for _, u := range parsed.URIs {
			if u.String() != id.String() {
				t.Errorf("passed with %s", u)
			}
		}
	})
}
