package ca

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/meshd-io/meshd/pkg/ca/check"
)

// Intermediate is a CA that was made outside of meshd: by cert-manager, or by hand.
type Intermediate struct {
	// Chain begins with the CA that signs; each is signed by the next. No root is in it, unless the CA is one itself.
	Chain []*x509.Certificate
	Key   crypto.Signer
	// Roots are self-signed; the chain leads to one of them.
	Roots []*x509.Certificate
}

// ParseIntermediate reads the three keys of cert-manager's Secrets: tls.crt is
// the CA, possibly with what stands above it, tls.key its key, ca.crt the root
// or roots. Without ca.crt the self-signed end of tls.crt is the root. Errors
// begin with the key of the Secret that is wrong.
func ParseIntermediate(tlsCrt, tlsKey, caCrt []byte) (Intermediate, error) {
	if len(tlsCrt) == 0 || len(tlsKey) == 0 {
		return Intermediate{}, errors.New("tls.crt and tls.key are needed: the CA's certificate and its key, in PEM")
	}
	chain, err := ParseCertificates(tlsCrt)
	if err != nil {
		return Intermediate{}, fmt.Errorf("tls.crt: %w", err)
	}
	key, err := ParseKey(tlsKey)
	if err != nil {
		return Intermediate{}, fmt.Errorf("tls.key: %w", err)
	}
	if !fits(chain[0], key) {
		return Intermediate{}, errors.New("tls.key: it is not the key of the first certificate in tls.crt")
	}
	out := Intermediate{Chain: chain, Key: key}
	if last := chain[len(chain)-1]; selfSigned(last) {
		out.Roots = []*x509.Certificate{last}
		if len(chain) > 1 {
			out.Chain = chain[:len(chain)-1]
		}
	}
	if len(bytes.TrimSpace(caCrt)) > 0 {
		roots, err := ParseCertificates(caCrt)
		if err != nil {
			return Intermediate{}, fmt.Errorf("ca.crt: %w", err)
		}
		out.Roots = nil
		for _, r := range roots {
			if selfSigned(r) {
				out.Roots = append(out.Roots, r)
			}
		}
	}
	if len(out.Roots) == 0 {
		return Intermediate{}, errors.New("ca.crt: there is no self-signed root in it, nor at the end of tls.crt: add the root that the CA leads to")
	}
	return out, nil
}

func selfSigned(c *x509.Certificate) bool {
	return bytes.Equal(c.RawIssuer, c.RawSubject) && c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
}

// signer is what stands above this process: the root of the store, or an Intermediate.
type signer struct {
	Pair
	// above it, without the root: shown in handshakes after it.
	above []*x509.Certificate
	roots []*x509.Certificate
	// direct: it signs leaves itself, for no CA may stand below it.
	direct bool
}

// isRoot reports whether it is what peers trust, and need not be shown.
func (s signer) isRoot() bool { return holds(s.roots, s.Certificate) }

// tail is what is shown after a leaf that issuer has signed.
func (s signer) tail(issuer Pair) []*x509.Certificate {
	var out []*x509.Certificate
	if !s.direct {
		out = append(out, issuer.Certificate)
	}
	if !s.isRoot() {
		out = append(append(out, s.Certificate), s.above...)
	}
	return out
}

// given judges an intermediate that is to be used for the trust domain.
func (a *Authority) given(in Intermediate) (signer, error) {
	if len(in.Chain) == 0 || in.Key == nil || !fits(in.Chain[0], in.Key) {
		return signer{}, errors.New("certificate and key do not belong together")
	}
	now := a.clock.Now()
	if err := check.Given(in.Chain, in.Roots, now); err != nil {
		return signer{}, err
	}
	s := signer{
		Pair: Pair{Certificate: in.Chain[0], Key: in.Key}, above: in.Chain[1:], roots: in.Roots,
		direct: !check.MayHoldIssuer(in.Chain, in.Roots, now),
	}
	return s, a.try(s)
}

func holds(certs []*x509.Certificate, c *x509.Certificate) bool {
	for _, other := range certs {
		if other.Equal(c) {
			return true
		}
	}
	return false
}
