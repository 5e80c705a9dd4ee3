package cluster

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"time"
)

// lifetime of all certificates: a test cluster does not live longer.
const lifetime = 30 * 24 * time.Hour

// pair is a certificate and its key, in PEM.
type pair struct{ cert, key []byte }

// authority signs the cluster's certificates.
type authority struct {
	pair
	parsed *x509.Certificate
	signer crypto.Signer
}

func newAuthority(name string) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	t := template(pkix.Name{CommonName: name})
	t.IsCA, t.BasicConstraintsValid = true, true
	t.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	p, err := sign(t, t, key, key)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(p.cert)
	parsed, err := x509.ParseCertificate(block.Bytes)
	return &authority{p, parsed, key}, err
}

// issue makes a certificate for a user and its groups, or for a server and its names, or for both.
func (a *authority) issue(subject pkix.Name, addresses []netip.Addr, names []string) (pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return pair{}, err
	}
	t := template(subject)
	t.KeyUsage = x509.KeyUsageDigitalSignature
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	t.DNSNames = names
	for _, addr := range addresses {
		t.IPAddresses = append(t.IPAddresses, net.IP(addr.AsSlice()))
	}
	return sign(t, a.parsed, key, a.signer)
}

func template(subject pkix.Name) *x509.Certificate {
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()),
		Subject:      subject, NotBefore: now.Add(-time.Minute), NotAfter: now.Add(lifetime),
	}
}

func sign(t, parent *x509.Certificate, key, signer crypto.Signer) (pair, error) {
	der, err := x509.CreateCertificate(rand.Reader, t, parent, key.Public(), signer)
	if err != nil {
		return pair{}, err
	}
	k, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return pair{}, err
	}
	return pair{block("CERTIFICATE", der), block("PRIVATE KEY", k)}, nil
}

func block(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// user is a client of the API server, by its file name in the state.
type user struct{ file, name, group string }

var users = []user{
	{"admin", "kubernetes-admin", "system:masters"},
	{"kube-controller-manager", "system:kube-controller-manager", ""},
	{"kube-scheduler", "system:kube-scheduler", ""},
	{"kube-proxy", "system:kube-proxy", ""},
	{"kubelet", "system:node:" + nodeName, "system:nodes"},
}

// writePKI writes pki/NAME.crt and .key, and pki/NAME.kubeconfig for every user.
func (o Options) writePKI() error {
	if err := os.MkdirAll(o.path("pki"), 0o700); err != nil {
		return err
	}
	ca, err := newAuthority("meshd-test-cluster")
	if err != nil {
		return err
	}
	if err := o.writePair("ca", ca.pair); err != nil {
		return err
	}
	loopback := netip.MustParseAddr("127.0.0.1")
	servers := map[string][]string{
		"kube-apiserver": {"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc." + domain, "localhost"},
		"kubelet-server": {nodeName},
	}
	for file, names := range servers {
		p, err := ca.issue(pkix.Name{CommonName: file}, []netip.Addr{nodeAddress.Addr(), apiService, loopback}, names)
		if err != nil {
			return err
		}
		if err := o.writePair(file, p); err != nil {
			return err
		}
	}
	for _, u := range users {
		subject := pkix.Name{CommonName: u.name}
		if u.group != "" {
			subject.Organization = []string{u.group}
		}
		p, err := ca.issue(subject, nil, nil)
		if err != nil {
			return err
		}
		if err := o.writePair(u.file, p); err != nil {
			return err
		}
		if err := o.writeKubeconfig(u.file, ca.cert, p); err != nil {
			return err
		}
	}
	if err := os.Rename(o.path("pki", "admin.kubeconfig"), o.Kubeconfig()); err != nil {
		return err
	}
	return o.writeTokenKey()
}

// writeTokenKey makes the key of service account tokens: RSA, as most clusters have.
func (o Options) writeTokenKey() error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	return o.writePair("service-accounts", pair{block("PUBLIC KEY", public), block("PRIVATE KEY", private)})
}

func (o Options) writePair(name string, p pair) error {
	if err := os.WriteFile(o.path("pki", name+".crt"), p.cert, 0o600); err != nil {
		return err
	}
	return os.WriteFile(o.path("pki", name+".key"), p.key, 0o600)
}

func (o Options) writeKubeconfig(name string, ca []byte, p pair) error {
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: meshd-test
clusters:
- name: meshd-test
  cluster: {server: %q, certificate-authority-data: %s}
users:
- name: %[3]s
  user: {client-certificate-data: %[4]s, client-key-data: %[5]s}
contexts:
- name: meshd-test
  context: {cluster: meshd-test, user: %[3]s}
`, o.server(), base64Of(ca), name, base64Of(p.cert), base64Of(p.key))
	return os.WriteFile(o.path("pki", name+".kubeconfig"), []byte(text), 0o600)
}
