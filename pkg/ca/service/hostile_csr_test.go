package service_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"net"
	"net/url"
	"strings"

	"github.com/meshd-io/meshd/pkg/ca/refusal"
	"github.com/meshd-io/meshd/pkg/ca/request"
)

const own = "spiffe://cluster.local/ns/shop/sa/accounts"

func uris(raw ...string) []*url.URL {
	var out []*url.URL
	for _, r := range raw {
		u, err := url.Parse(r)
		if err != nil {
			panic(err)
		}
		out = append(out, u)
	}
	return out
}

// asks spoils the CSR by what it asks for, with a good key.
func asks(t x509.CertificateRequest) func(*forge, *attempt) {
	return func(f *forge, a *attempt) { a.csr = f.csr(f.ec(elliptic.P256()), t) }
}

// bytesOf spoils the bytes of a good CSR.
func bytesOf(change func(der []byte) []byte) func(*forge, *attempt) {
	return func(_ *forge, a *attempt) { a.csr = change(bytes.Clone(a.csr)) }
}

func extension(oid asn1.ObjectIdentifier, value any) x509.CertificateRequest {
	raw, err := asn1.Marshal(value)
	if err != nil {
		panic(err)
	}
	return x509.CertificateRequest{ExtraExtensions: []pkix.Extension{{Id: oid, Value: raw}}}
}

func csrCases() []hostile {
	return append(append(csrForms(), csrKeys()...), append(csrNames(), csrExtensions()...)...)
}

func csrForms() []hostile {
	return []hostile{
		{"CSR: empty", refusal.CSRMalformed, bytesOf(func([]byte) []byte { return nil })},
		{"CSR: text", refusal.CSRMalformed, bytesOf(func([]byte) []byte { return []byte("please") })},
		{"CSR: PEM", refusal.CSRMalformed, bytesOf(func(der []byte) []byte {
			return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
		})},
		{"CSR: cut off", refusal.CSRMalformed, bytesOf(func(der []byte) []byte { return der[:len(der)-1] })},
		{"CSR: trailing byte", refusal.CSRTrailingData, bytesOf(func(der []byte) []byte { return append(der, 0) })},
		{"CSR: twice", refusal.CSRTrailingData, bytesOf(func(der []byte) []byte { return append(der, der...) })},
		{"CSR: oversized", refusal.CSRTooLarge, bytesOf(func(der []byte) []byte { return append(der, make([]byte, request.MaxSize)...) })},
		{"CSR: oversized by its subject", refusal.CSRTooLarge, asks(x509.CertificateRequest{
			Subject: pkix.Name{CommonName: strings.Repeat("x", 2*request.MaxSize)},
		})},
		{"CSR: length beyond its end", refusal.CSRMalformed, bytesOf(func([]byte) []byte {
			return []byte{0x30, 0x84, 0x7f, 0xff, 0xff, 0xff, 0x00}
		})},
		{"CSR: indefinite length", refusal.CSRMalformed, bytesOf(func(der []byte) []byte { der[1] = 0x80; return der })},
		{"CSR: a certificate", refusal.CSRMalformed, func(f *forge, a *attempt) { a.csr = f.ca.Authority.Roots()[0].Raw }},
		{"CSR: deep nesting", refusal.CSRMalformed, bytesOf(func([]byte) []byte {
			out := []byte{0x30, 0x00}
			for len(out) < 120 {
				out = append([]byte{0x30, byte(len(out))}, out...)
			}
			return out
		})},
		{"CSR: signature spoiled", refusal.CSRSignature, bytesOf(func(der []byte) []byte { der[len(der)-1] ^= 1; return der })},
	}
}

func csrKeys() []hostile {
	return []hostile{
		{"CSR: another's key", refusal.CSRSignature, func(f *forge, a *attempt) {
			// The key of the victim in a request that somebody else has signed.
			victim, mine := f.ec(elliptic.P256()), f.ec(elliptic.P256())
			theirs, err := x509.MarshalPKIXPublicKey(victim.Public())
			if err != nil {
				f.t.Fatal(err)
			}
			ours, err := x509.MarshalPKIXPublicKey(mine.Public())
			if err != nil {
				f.t.Fatal(err)
			}
			a.csr = bytes.Replace(f.csr(mine, x509.CertificateRequest{}), ours, theirs, 1)
		}},
		{"CSR: P-224", refusal.CSRKey, func(f *forge, a *attempt) { a.csr = f.csr(f.ec(elliptic.P224()), x509.CertificateRequest{}) }},
		{"CSR: P-521", refusal.CSRKey, func(f *forge, a *attempt) { a.csr = f.csr(f.ec(elliptic.P521()), x509.CertificateRequest{}) }},
		{"CSR: RSA 2048", refusal.CSRKey, func(f *forge, a *attempt) { a.csr = f.csr(f.rsa, x509.CertificateRequest{}) }},
		{"CSR: RSA 1024", refusal.CSRKey, func(f *forge, a *attempt) { a.csr = weakRSA(f) }},
		{"CSR: Ed25519", refusal.CSRKey, func(f *forge, a *attempt) {
			_, key, err := ed25519.GenerateKey(rand.Reader)
			if err != nil {
				f.t.Fatal(err)
			}
			a.csr = f.csr(key, x509.CertificateRequest{})
		}},
	}
}

func csrNames() []hostile {
	return []hostile{
		{"CSR: URI of another account", refusal.CSRName, asks(x509.CertificateRequest{URIs: uris("spiffe://cluster.local/ns/shop/sa/admin")})},
		{"CSR: URI of meshd", refusal.CSRName, asks(x509.CertificateRequest{URIs: uris("spiffe://cluster.local/ns/meshd-system/sa/meshd")})},
		{"CSR: URI of another trust domain", refusal.CSRName, asks(x509.CertificateRequest{URIs: uris("spiffe://evil/ns/shop/sa/accounts")})},
		{"CSR: URI of the trust domain", refusal.CSRName, asks(x509.CertificateRequest{URIs: uris("spiffe://cluster.local")})},
		{"CSR: URI with a query", refusal.CSRName, asks(x509.CertificateRequest{URIs: uris(own + "?x")})},
		{"CSR: URI with a slash more", refusal.CSRName, asks(x509.CertificateRequest{URIs: uris(own + "/")})},
		{"CSR: URI in capitals", refusal.CSRName, asks(x509.CertificateRequest{URIs: uris("spiffe://cluster.local/ns/shop/sa/Accounts")})},
		{"CSR: own URI and another", refusal.CSRName, asks(x509.CertificateRequest{URIs: uris(own, "spiffe://cluster.local/ns/shop/sa/admin")})},
		{"CSR: own URI twice", refusal.CSRName, asks(x509.CertificateRequest{URIs: uris(own, own)})},
		{"CSR: https URI", refusal.CSRName, asks(x509.CertificateRequest{URIs: uris("https://cluster.local/")})},
		{"CSR: DNS", refusal.CSRName, asks(x509.CertificateRequest{DNSNames: []string{"accounts.shop.svc"}})},
		{"CSR: DNS wildcard", refusal.CSRName, asks(x509.CertificateRequest{DNSNames: []string{"*"}})},
		{"CSR: own URI and DNS", refusal.CSRName, asks(x509.CertificateRequest{URIs: uris(own), DNSNames: []string{"kubernetes.default.svc"}})},
		{"CSR: IP", refusal.CSRName, asks(x509.CertificateRequest{IPAddresses: []net.IP{{10, 96, 0, 1}}})},
		{"CSR: email", refusal.CSRName, asks(x509.CertificateRequest{EmailAddresses: []string{"root@cluster.local"}})},
		{"CSR: subject", refusal.CSRName, asks(x509.CertificateRequest{Subject: pkix.Name{CommonName: "admin"}})},
		{"CSR: subject of an administrator", refusal.CSRName, asks(x509.CertificateRequest{
			Subject: pkix.Name{CommonName: "kubernetes-admin", Organization: []string{"system:masters"}},
		})},
		// crypto/x509 does not show these two kinds of names at all.
		{"CSR: otherName", refusal.CSRName, asks(extension(asn1.ObjectIdentifier{2, 5, 29, 17},
			[]asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: []byte{0x06, 0x01, 0x2a, 0xa0, 0x02, 0x05, 0x00}}}))},
		{"CSR: registered ID", refusal.CSRName, asks(extension(asn1.ObjectIdentifier{2, 5, 29, 17},
			[]asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: 8, Bytes: []byte{0x2a}}}))},
	}
}

func csrExtensions() []hostile {
	type constraints struct {
		CA bool `asn1:"optional"`
	}
	oid := func(last int) asn1.ObjectIdentifier { return asn1.ObjectIdentifier{2, 5, 29, last} }
	twice := extension(oid(19), constraints{CA: true})
	twice.ExtraExtensions = append(twice.ExtraExtensions, twice.ExtraExtensions[0])
	return []hostile{
		{"CSR: CA bit", refusal.CSRExtension, asks(extension(oid(19), constraints{CA: true}))},
		{"CSR: basic constraints without CA", refusal.CSRExtension, asks(extension(oid(19), constraints{}))},
		{"CSR: extension twice", refusal.CSRMalformed, asks(twice)},
		{"CSR: key usage certSign", refusal.CSRExtension, asks(extension(oid(15), asn1.BitString{Bytes: []byte{0x04}, BitLength: 6}))},
		{"CSR: extended key usage any", refusal.CSRExtension, asks(extension(oid(37), []asn1.ObjectIdentifier{{2, 5, 29, 37, 0}}))},
		{"CSR: name constraints", refusal.CSRExtension, asks(extension(oid(30), struct{}{}))},
		{"CSR: unknown extension", refusal.CSRExtension, asks(extension(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}, "x"))},
		{"CSR: alternative names are no list", refusal.CSRMalformed, asks(extension(oid(17), 7))},
	}
}

// weakRSA is a request by a key that Go itself would not make.
func weakRSA(f *forge) []byte {
	block, _ := pem.Decode([]byte(weakRequest))
	if block == nil {
		f.t.Fatal("the request of 1024 bits is not PEM")
	}
	return block.Bytes
}

// weakRequest was made by: openssl req -new -newkey rsa:1024 -nodes -subj /
const weakRequest = `-----BEGIN CERTIFICATE REQUEST-----
MIIBPzCBqQIBADAAMIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQC46aLTco2p
TtHxkf+kJaHqg7NaYGAAXr2byKV5hKm18Ah7u8ub/TIVkPcxh082jKYPbNO9XOXh
1N7mBXmYTMwgKp6wEWTBfpBZ/1yByG7cskKrmQs4BwgeURdMMnujodwrSPVj+sqi
6b70tcWOISJ0BIiqqOYQ9Rxne/J3OQLrHwIDAQABoAAwDQYJKoZIhvcNAQELBQAD
gYEAXTg/Cj7ERza5MyD0kEDNpQqSBWico74qJjmgs8U/PjZWZsMVlqbv5ofRgTuB
/1cOme4ZlIqJDwLc2cz4ZenRpYQKO6d1sDOQ83OPd0OLG3AeJSq7pN3hDi55b2NS
pL9wpkKxsiu7+zbDURrlpgzuElRjaij6GfnYtgxsMn/50lg=
-----END CERTIFICATE REQUEST-----`
