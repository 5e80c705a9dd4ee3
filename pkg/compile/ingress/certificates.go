package ingress

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/meshd-io/meshd/pkg/compile/object"
	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/report"
)

// minRSABits is the least that Envoy takes.
const minRSABits = 2048

// served is a certificate under construction.
type served struct {
	model.GatewayCertificate
	hosts   map[string]bool
	anyName bool
}

// certifier decides which Secret answers for which name: the oldest Ingress's.
type certifier struct {
	around   Surroundings
	served   map[model.Name]*served
	owners   map[string]claimed
	findings []report.Finding
}

// claimed is who has a name.
type claimed struct {
	secret  model.Name
	ingress report.Object
}

// certificates are the usable certificates of all Ingresses, sorted by name of the Secret.
func certificates(ingresses []*networkingv1.Ingress, around Surroundings) ([]model.GatewayCertificate, []report.Finding) {
	c := &certifier{
		around: around,
		served: map[model.Name]*served{},
		owners: map[string]claimed{},
	}
	for _, in := range ingresses {
		for i, t := range in.Spec.TLS {
			c.entry(in, fmt.Sprintf("spec.tls[%d]", i), t)
		}
	}
	var out []model.GatewayCertificate
	for _, s := range c.served {
		if !s.anyName {
			s.Hosts = slices.Sorted(maps.Keys(s.hosts))
		}
		if s.anyName || len(s.Hosts) > 0 {
			slices.SortFunc(s.Users, report.Origin.Compare)
			s.Users = slices.Compact(s.Users)
			out = append(out, s.GatewayCertificate)
		}
	}
	slices.SortFunc(out, func(a, b model.GatewayCertificate) int { return a.Name.Compare(b.Name) })
	return out, c.findings
}

func (c *certifier) entry(in *networkingv1.Ingress, field string, t networkingv1.IngressTLS) {
	o := object.Origin("Ingress", in)
	name := model.Name{Namespace: in.Namespace, Name: t.SecretName}
	hosts, anyName, faults := tlsHosts(o, field, t, in.Spec.Rules)
	c.findings = append(c.findings, faults...)
	if s := c.served[name]; s == nil {
		secret := c.around.Certificate(name)
		if !secret.Found {
			c.findings = append(c.findings, object.Unresolved(o, report.NotFound, field+".secretName", "there is no Secret %s: its hosts get no TLS", name))
			return
		}
		if secret.Fault != "" {
			c.findings = append(c.findings, object.Unresolved(o, report.InvalidCertificate, field+".secretName", "Secret %s: %s: its hosts get no TLS", name, secret.Fault))
			return
		}
		c.served[name] = &served{
			GatewayCertificate: model.GatewayCertificate{Name: name, Chain: secret.Chain, Key: secret.Key, Origin: secret.Origin},
			hosts:              map[string]bool{},
		}
	}
	if anyName {
		hosts = append(hosts, anyHost)
	}
	for _, h := range hosts {
		if owner, taken := c.owners[h]; taken && owner.secret != name {
			c.findings = append(c.findings, object.Refused(o, report.Conflict, field, "host %s is served with Secret %s by %s, which came first", h, owner.secret, owner.ingress))
			continue
		}
		c.owners[h] = claimed{name, o.Object}
		c.served[name].Users = append(c.served[name].Users, o)
		if h == anyHost {
			c.served[name].anyName = true
		} else {
			c.served[name].hosts[h] = true
		}
	}
}

// tlsHosts are the names of a TLS entry. Where it lists none they are those of
// the Ingress's rules; a rule for any host means any name.
func tlsHosts(o report.Origin, field string, t networkingv1.IngressTLS, rules []networkingv1.IngressRule) (hosts []string, anyName bool, fs []report.Finding) {
	for i, h := range t.Hosts {
		name, err := object.Host(h)
		if err != nil {
			fs = append(fs, object.Refused(o, report.Invalid, fmt.Sprintf("%s.hosts[%d]", field, i), "%v", err))
			continue
		}
		hosts = append(hosts, name)
	}
	if len(t.Hosts) > 0 {
		return hosts, false, fs
	}
	for _, rule := range rules {
		if rule.Host == "" {
			return nil, true, nil
		}
		if name, err := object.Host(rule.Host); err == nil {
			hosts = append(hosts, name)
		}
	}
	return hosts, len(rules) == 0, nil
}

// Certificate is a Secret's chain and key, or what is wrong with them.
type Certificate struct {
	Found      bool
	Fault      string
	Chain, Key string // PEM
	Origin     report.Origin
}

// CertificateOf reads a Secret.
func CertificateOf(s *corev1.Secret) Certificate {
	c := Certificate{Found: true, Origin: object.Origin("Secret", s)}
	var err error
	if c.Chain, c.Key, err = keyPair(s); err != nil {
		c.Fault = err.Error()
	}
	return c
}

// keyPair checks what Envoy would refuse later, and gives clean PEM.
func keyPair(s *corev1.Secret) (chain, key string, err error) {
	crt, private := s.Data[corev1.TLSCertKey], s.Data[corev1.TLSPrivateKeyKey]
	if len(crt) == 0 || len(private) == 0 {
		return "", "", errors.New("tls.crt or tls.key is missing or empty")
	}
	pair, err := tls.X509KeyPair(crt, private)
	if err != nil {
		return "", "", errors.New(strings.TrimPrefix(err.Error(), "tls: "))
	}
	switch pub := pair.Leaf.PublicKey.(type) {
	case *rsa.PublicKey:
		if pub.N.BitLen() < minRSABits {
			return "", "", fmt.Errorf("its RSA key has %d bits, at least %d are needed", pub.N.BitLen(), minRSABits)
		}
	case *ecdsa.PublicKey:
		if pub.Curve == elliptic.P224() {
			return "", "", errors.New("its key is of the curve P-224; P-256, P-384 and P-521 are served")
		}
	default:
		return "", "", errors.New("its key is neither RSA nor ECDSA")
	}
	if err := checkChain(pair); err != nil {
		return "", "", err
	}
	var b strings.Builder
	for _, der := range pair.Certificate {
		b.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	return b.String(), privateKeyPEM(private), nil
}

// mustStaple is the extension by which a client demands an OCSP response
// (RFC 7633). Envoy refuses the whole listener for it.
const mustStaple = "1.3.6.1.5.5.7.1.24"

// checkChain looks at what X509KeyPair does not: it reads the first certificate only.
func checkChain(pair tls.Certificate) error {
	for i, der := range pair.Certificate {
		if _, err := x509.ParseCertificate(der); err != nil {
			return fmt.Errorf("certificate %d of its chain cannot be read: %w", i+1, err)
		}
	}
	if slices.ContainsFunc(pair.Leaf.Extensions, func(e pkix.Extension) bool { return e.Id.String() == mustStaple }) {
		return errors.New("it demands OCSP stapling, which is not served; have it issued without must-staple")
	}
	return nil
}

// privateKeyPEM is the block that X509KeyPair took, without what else is in the file.
func privateKeyPEM(data []byte) string {
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			return ""
		}
		if block.Type == "PRIVATE KEY" || strings.HasSuffix(block.Type, " PRIVATE KEY") {
			return string(pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes}))
		}
		data = rest
	}
}

// covered are the hosts that some certificate can be shown for: a host whose
// Secret is broken must not be reached through another's handshake.
func covered(hosts []model.VirtualHost, certificates []model.GatewayCertificate) []model.VirtualHost {
	var out []model.VirtualHost
	for _, h := range hosts {
		if slices.ContainsFunc(certificates, func(c model.GatewayCertificate) bool {
			return len(c.Hosts) == 0 || slices.ContainsFunc(c.Hosts, func(name string) bool { return overlap(h.Host, name) })
		}) {
			out = append(out, h)
		}
	}
	return out
}

func overlap(a, b string) bool {
	covers := func(wild, name string) bool {
		return wild == anyHost || strings.HasPrefix(wild, "*.") && strings.HasSuffix(name, wild[1:])
	}
	return a == b || covers(a, b) || covers(b, a)
}
