package request

import (
	"crypto/x509"
	"encoding/asn1"

	"github.com/meshd-io/meshd/pkg/ca/refusal"
)

// generalNameURI is the context tag of uniformResourceIdentifier in a GeneralName (RFC 5280, 4.2.1.6).
const generalNameURI = 6

// checkExtensions allows one extension, the subject alternative name, once, and
// in it URIs only. crypto/x509 skips kinds of names that it does not know
// (otherName, directoryName): they must not pass unseen.
func checkExtensions(csr *x509.CertificateRequest) error {
	const wire = "the CSR asks for an extension that workloads' certificates do not have"
	san := asn1.ObjectIdentifier{2, 5, 29, 17}
	seen := false
	for _, ext := range csr.Extensions {
		if !ext.Id.Equal(san) {
			return refusal.New(refusal.CSRExtension, wire, "extension %s", ext.Id)
		}
		if seen {
			return refusal.New(refusal.CSRExtension, "the CSR has an extension twice", "extension %s", ext.Id)
		}
		seen = true
		if err := onlyURIs(ext.Value); err != nil {
			return err
		}
	}
	return nil
}

func onlyURIs(value []byte) error {
	const wire = "the CSR asks for a name that is not the caller's identity"
	var names []asn1.RawValue
	rest, err := asn1.Unmarshal(value, &names)
	if err != nil || len(rest) > 0 {
		return refusal.New(refusal.CSRMalformed, "the CSR's alternative names cannot be read", "%v, %d bytes left", err, len(rest))
	}
	for _, n := range names {
		if n.Class != asn1.ClassContextSpecific || n.Tag != generalNameURI {
			return refusal.New(refusal.CSRName, wire, "alternative name of kind %d", n.Tag)
		}
	}
	return nil
}
