// Package check judges certificates that the CA has just signed, before they
// leave it: what the template meant is read again from the result. It does no
// I/O, and time is an argument.
package check

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/meshd-io/meshd/pkg/identity"
)

// Want is what a leaf was asked to be.
type Want struct {
	ID  identity.ID
	Key *ecdsa.PublicKey
	// Now is the time at which it must be good, and by which skew its beginning may lie before.
	Now time.Time
	// TTL and Skew bound the validity.
	TTL, Skew time.Duration
}

// MaxChain is the most certificates that are shown in a handshake.
const MaxChain = 6

// shape checks all that is not about time.
func shape(leaf *x509.Certificate, want Want) error {
	key, ok := leaf.PublicKey.(*ecdsa.PublicKey)
	switch {
	case want.ID.IsZero():
		return errors.New("no identity is wanted")
	case !ok || !key.Equal(want.Key):
		return errors.New("certified key is not the one that was asked for")
	case leaf.Version != 3:
		return fmt.Errorf("version %d, 3 is wanted", leaf.Version)
	case leaf.SerialNumber.Sign() <= 0:
		return errors.New("serial is not positive")
	case len(leaf.URIs) != 1 || leaf.URIs[0].String() != want.ID.String():
		return fmt.Errorf("URIs are %v, exactly %q is wanted", leaf.URIs, want.ID)
	case len(leaf.DNSNames)+len(leaf.IPAddresses)+len(leaf.EmailAddresses) > 0:
		return errors.New("has names beside its URI")
	case len(leaf.Subject.ToRDNSequence()) > 0:
		return fmt.Errorf("subject is %q, none is wanted", leaf.Subject)
	case leaf.IsCA || !leaf.BasicConstraintsValid:
		return errors.New("is not marked as a non-CA")
	case leaf.KeyUsage != x509.KeyUsageDigitalSignature:
		return fmt.Errorf("key usage is %b, digitalSignature alone is wanted", leaf.KeyUsage)
	case !slices.Equal(leaf.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}) ||
		len(leaf.UnknownExtKeyUsage) > 0:
		return errors.New("extended key usage is not serverAuth and clientAuth")
	}
	return extensions(leaf)
}

// extensions refuses all that the template does not give, and wants the SAN critical.
func extensions(leaf *x509.Certificate) error {
	san := asn1.ObjectIdentifier{2, 5, 29, 17}
	known := []asn1.ObjectIdentifier{
		san,
		{2, 5, 29, 15}, // key usage
		{2, 5, 29, 37}, // extended key usage
		{2, 5, 29, 19}, // basic constraints
		{2, 5, 29, 35}, // authority key id
		{2, 5, 29, 14}, // subject key id
	}
	for _, ext := range leaf.Extensions {
		if !slices.ContainsFunc(known, ext.Id.Equal) {
			return fmt.Errorf("extension %s is not in the template", ext.Id)
		}
		if ext.Id.Equal(san) && !ext.Critical {
			return errors.New("alternative name is not critical though the subject is empty")
		}
	}
	return nil
}

func validity(leaf *x509.Certificate, want Want) error {
	switch {
	case leaf.NotAfter.After(want.Now.Add(want.TTL)):
		return fmt.Errorf("leaf lives until %s, longer than %s", leaf.NotAfter.UTC(), want.TTL)
	case leaf.NotBefore.Before(want.Now.Add(-want.Skew - time.Second)):
		return fmt.Errorf("leaf begins at %s, more than %s ago", leaf.NotBefore.UTC(), want.Skew)
	case !leaf.NotAfter.After(want.Now):
		return errors.New("leaf has expired already")
	}
	return nil
}

// Authority judges a root or issuer certificate before it is used: a CA of
// this trust domain, on a curve that peers take, good at now.
func Authority(cert *x509.Certificate, trustDomain string, now time.Time) error {
	key, ok := cert.PublicKey.(*ecdsa.PublicKey)
	switch {
	case !ok || (key.Curve != elliptic.P256() && key.Curve != elliptic.P384()):
		return fmt.Errorf("key is %s, ECDSA on P-256 or P-384 is wanted", cert.PublicKeyAlgorithm)
	case !cert.BasicConstraintsValid || !cert.IsCA:
		return errors.New("it is not a CA certificate")
	case cert.KeyUsage&x509.KeyUsageCertSign == 0:
		return errors.New("its key usage does not allow signing certificates")
	case now.After(cert.NotAfter):
		return fmt.Errorf("it expired at %s", cert.NotAfter.UTC().Format(time.RFC3339))
	case now.Before(cert.NotBefore):
		return fmt.Errorf("it is not valid before %s", cert.NotBefore.UTC().Format(time.RFC3339))
	case len(cert.PermittedURIDomains) > 0 && !slices.Contains(cert.PermittedURIDomains, trustDomain):
		return fmt.Errorf("it is for trust domain %v, not %s", cert.PermittedURIDomains, trustDomain)
	}
	return nil
}
