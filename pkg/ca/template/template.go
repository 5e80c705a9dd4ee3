// Package template builds the certificates that the CA signs, from proven facts
// alone. It is pure: time, serial and identity are arguments.
package template

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"time"

	"github.com/meshd-io/meshd/pkg/identity"
)

// SerialBits is the size of a serial number: random, so that serials neither
// repeat nor tell how much was signed.
const SerialBits = 128

// Validity is the time in which a certificate is good.
type Validity struct {
	NotBefore, NotAfter time.Time
}

// Between gives a validity that begins skew before now, for peers whose clocks
// are behind, and ends after ttl, but never outside of its signer's.
func Between(now time.Time, ttl, skew time.Duration, signer *x509.Certificate) (Validity, error) {
	if ttl <= 0 {
		return Validity{}, fmt.Errorf("lifetime %s is not positive", ttl)
	}
	v := Validity{NotBefore: now.Add(-skew).Truncate(time.Second), NotAfter: now.Add(ttl).Truncate(time.Second)}
	if signer != nil {
		if v.NotAfter.After(signer.NotAfter) {
			v.NotAfter = signer.NotAfter
		}
		if v.NotBefore.Before(signer.NotBefore) {
			v.NotBefore = signer.NotBefore
		}
	}
	if !v.NotAfter.After(now) {
		return Validity{}, errors.New("the signer has expired")
	}
	return v, nil
}

// Leaf is the template of a workload's X.509 SVID: exactly one URI SAN, empty
// subject (so that the SAN is critical, RFC 5280 4.2.1.6), no CA.
func Leaf(id identity.ID, serial *big.Int, v Validity) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber:          serial,
		NotBefore:             v.NotBefore,
		NotAfter:              v.NotAfter,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
		URIs:                  []*url.URL{id.SPIFFE().URL()},
	}
}

// Server is the template of a certificate of meshd's own for callers that know
// it by DNS name: the API server, which calls the webhook.
func Server(names []string, serial *big.Int, v Validity) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber:          serial,
		NotBefore:             v.NotBefore,
		NotAfter:              v.NotAfter,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		DNSNames:              names,
	}
}

// Issuer is the template of a replica's own intermediate: it signs leaves of one
// trust domain and nothing else.
func Issuer(trustDomain string, serial *big.Int, v Validity) *x509.Certificate {
	t := authority(trustDomain, "meshd issuer", serial, v)
	t.MaxPathLenZero = true
	return t
}

// Root is the template of a self-signed root: one issuer may stand below it.
func Root(trustDomain string, serial *big.Int, v Validity) *x509.Certificate {
	t := authority(trustDomain, "meshd root", serial, v)
	t.MaxPathLen = 1
	return t
}

func authority(trustDomain, name string, serial *big.Int, v Validity) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: serial,
		// The serial makes subjects of two authorities of one kind differ: path building by name stays unambiguous.
		Subject: pkix.Name{
			Organization: []string{trustDomain}, CommonName: name, SerialNumber: serial.Text(16),
		},
		NotBefore:                   v.NotBefore,
		NotAfter:                    v.NotAfter,
		KeyUsage:                    x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		IsCA:                        true,
		BasicConstraintsValid:       true,
		URIs:                        []*url.URL{{Scheme: "spiffe", Host: trustDomain}},
		PermittedDNSDomainsCritical: true,
		PermittedURIDomains:         []string{trustDomain},
	}
}
