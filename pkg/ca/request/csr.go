// Package request judges certificate signing requests. It is pure: of a CSR
// only the public key is ever used, and only if the CSR asks for nothing that
// the proven identity does not have.
package request

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/asn1"

	"github.com/meshd-io/meshd/pkg/ca/refusal"
	"github.com/meshd-io/meshd/pkg/identity"
)

// MaxSize of a CSR in bytes. One with a P-256 key and a SPIFFE ID has about 350;
// the longest SPIFFE ID that meshd signs adds 600.
const MaxSize = 4096

// Check gives the public key of a CSR that id may have signed. RSA is refused:
// a P-256 key is made in microseconds where the workload runs, and one kind of
// key keeps handshakes cheap. Every error is a *refusal.Error.
func Check(der []byte, id identity.ID) (*ecdsa.PublicKey, error) {
	if id.IsZero() {
		return nil, refusal.New(refusal.NoIdentity, "no identity was proven", "")
	}
	if len(der) > MaxSize {
		return nil, refusal.New(refusal.CSRTooLarge, "the CSR is too large", "%d bytes, at most %d", len(der), MaxSize)
	}
	var outer asn1.RawValue
	rest, err := asn1.Unmarshal(der, &outer)
	if err != nil || outer.Class != asn1.ClassUniversal || outer.Tag != asn1.TagSequence {
		return nil, refusal.New(refusal.CSRMalformed, "the CSR is not PKCS #10 in DER", "tag %d, error %v", outer.Tag, err)
	}
	if len(rest) > 0 {
		return nil, refusal.New(refusal.CSRTrailingData, "the CSR is followed by other bytes", "%d bytes", len(rest))
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, refusal.New(refusal.CSRMalformed, "the CSR is not PKCS #10 in DER", "%v", err)
	}
	key, err := checkKey(csr)
	if err != nil {
		return nil, err
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, refusal.New(refusal.CSRSignature, "the CSR is not signed by its own key", "%v", err)
	}
	if err := checkNames(csr, id); err != nil {
		return nil, err
	}
	if err := checkExtensions(csr); err != nil {
		return nil, err
	}
	return key, nil
}

func checkKey(csr *x509.CertificateRequest) (*ecdsa.PublicKey, error) {
	const wire = "the key must be ECDSA on P-256 or P-384"
	key, ok := csr.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return nil, refusal.New(refusal.CSRKey, wire, "it is %s", csr.PublicKeyAlgorithm)
	}
	if key.Curve != elliptic.P256() && key.Curve != elliptic.P384() {
		return nil, refusal.New(refusal.CSRKey, wire, "it is on %s", key.Curve.Params().Name)
	}
	return key, nil
}

// checkNames refuses a CSR whose names are not the proven identity's. A subject
// is refused too, save an empty one: a signer that drops it silently would let
// the workload believe that it has it.
func checkNames(csr *x509.CertificateRequest, id identity.ID) error {
	const wire = "the CSR asks for a name that is not the caller's identity"
	for _, u := range csr.URIs {
		if u.String() != id.String() {
			return refusal.New(refusal.CSRName, wire, "URI %q", u)
		}
	}
	switch {
	case len(csr.URIs) > 1:
		return refusal.New(refusal.CSRName, wire, "%d URIs", len(csr.URIs))
	case len(csr.DNSNames) > 0:
		return refusal.New(refusal.CSRName, wire, "DNS %q", csr.DNSNames)
	case len(csr.IPAddresses) > 0:
		return refusal.New(refusal.CSRName, wire, "IP %v", csr.IPAddresses)
	case len(csr.EmailAddresses) > 0:
		return refusal.New(refusal.CSRName, wire, "email %q", csr.EmailAddresses)
	case !bytes.Equal(csr.RawSubject, emptySequence):
		return refusal.New(refusal.CSRName, wire, "subject %q", csr.Subject)
	}
	return nil
}

// emptySequence is the DER of a subject without any attribute.
var emptySequence = []byte{0x30, 0x00} //nolint:gochecknoglobals // a constant that Go cannot say
