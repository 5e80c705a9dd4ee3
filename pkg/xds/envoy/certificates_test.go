package envoy_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"

	"github.com/meshd-io/meshd/pkg/xds/envoy"
)

// withRealCertificates puts real PEM where the goldens have short words for it.
func withRealCertificates(t *testing.T, all map[string]envoy.Resources) map[string]envoy.Resources {
	t.Helper()
	chain, key := selfSigned(t)
	for _, rs := range all {
		for i, r := range rs[envoy.SecretType] {
			s, ok := proto.Clone(r.Proto).(*tlsv3.Secret)
			if !ok {
				t.Fatalf("%s is a %T", r.Name, r.Proto)
			}
			if v := s.GetValidationContext(); v != nil {
				v.TrustedCa = inline(chain)
			}
			if c := s.GetTlsCertificate(); c != nil {
				c.CertificateChain, c.PrivateKey = inline(chain), inline(key)
			}
			rs[envoy.SecretType][i].Proto = s
		}
	}
	return all
}

func inline(s string) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: s}}
}

func selfSigned(t *testing.T) (chain, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, DNSNames: []string{"eazybank.com"},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}))
}

func benchService(i int) (name, ip string) {
	return fmt.Sprintf("svc-%d", i), fmt.Sprintf("10.96.1.%d", i)
}
