package check

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"
)

// minRSABits of a given CA's key.
const minRSABits = 2048

// Given judges a CA that was made outside, chain[0], what stands above it and
// the roots that it leads to. Name constraints and key usages are found by
// signing below it: see Usable.
func Given(chain, roots []*x509.Certificate, now time.Time) error {
	if len(chain) == 0 || len(chain) > MaxChain-2 {
		return fmt.Errorf("tls.crt: it holds %d certificates, 1 to %d are wanted", len(chain), MaxChain-2)
	}
	if len(roots) == 0 {
		return errors.New("ca.crt: it holds no root")
	}
	for _, c := range chain {
		if err := givenCA(c, now); err != nil {
			return fmt.Errorf("tls.crt: %q: %w", c.Subject, err)
		}
		if bytes.Equal(c.RawSubject, c.RawIssuer) && !slices.ContainsFunc(roots, c.Equal) {
			return fmt.Errorf("tls.crt: %q has the same name as its issuer: Envoy takes it for a root; make it with another subject", c.Subject)
		}
	}
	for _, c := range roots {
		if err := givenCA(c, now); err != nil {
			return fmt.Errorf("ca.crt: %q: %w", c.Subject, err)
		}
	}
	if len(chains(chain, roots, now)) == 0 {
		return fmt.Errorf("tls.crt: %q does not lead to a root in ca.crt", chain[0].Subject)
	}
	return nil
}

func givenCA(c *x509.Certificate, now time.Time) error {
	switch key := c.PublicKey.(type) {
	case *ecdsa.PublicKey:
		if key.Curve != elliptic.P256() && key.Curve != elliptic.P384() {
			return fmt.Errorf("its key is on %s, P-256 or P-384 is wanted", key.Curve.Params().Name)
		}
	case *rsa.PublicKey:
		if key.N.BitLen() < minRSABits {
			return fmt.Errorf("its RSA key has %d bits, at least %d are wanted", key.N.BitLen(), minRSABits)
		}
	default:
		return fmt.Errorf("its key is %s, ECDSA or RSA is wanted", c.PublicKeyAlgorithm)
	}
	switch {
	case !c.BasicConstraintsValid || !c.IsCA:
		return errors.New("it is not a CA certificate")
	case c.KeyUsage&x509.KeyUsageCertSign == 0:
		return errors.New("its key usage does not allow signing certificates")
	case now.After(c.NotAfter):
		return fmt.Errorf("it expired at %s", c.NotAfter.UTC().Format(time.RFC3339))
	case now.Before(c.NotBefore):
		return fmt.Errorf("it is not valid before %s", c.NotBefore.UTC().Format(time.RFC3339))
	}
	return nil
}

// MayHoldIssuer reports whether an issuer may stand below chain[0]: path lengths (RFC 5280, 4.2.1.9) allow it.
func MayHoldIssuer(chain, roots []*x509.Certificate, now time.Time) bool {
	return slices.ContainsFunc(chains(chain, roots, now), func(path []*x509.Certificate) bool {
		for below, c := range path {
			// Go gives -1 where there is no limit. The issuer and those before c on the path stand below it.
			if c.MaxPathLen >= 0 && c.MaxPathLen <= below {
				return false
			}
		}
		return true
	})
}

// chains are the ways from chain[0] to a root.
func chains(chain, roots []*x509.Certificate, now time.Time) [][]*x509.Certificate {
	out, err := chain[0].Verify(x509.VerifyOptions{
		Roots: pool(roots), Intermediates: pool(chain[1:]), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return nil
	}
	return out
}

// Usable judges a leaf as both sides of a handshake do: for each of the two uses.
func Usable(chain, roots []*x509.Certificate, now time.Time) error {
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		if err := verify(chain, roots, x509.VerifyOptions{CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage}}); err != nil {
			return err
		}
	}
	return nil
}

// Server judges a certificate of meshd's own for exactly these DNS names.
func Server(chain, roots []*x509.Certificate, names []string, now time.Time) error {
	leaf := chain[0]
	switch {
	case !slices.Equal(leaf.DNSNames, names):
		return fmt.Errorf("DNS names are %q, exactly %q are wanted", leaf.DNSNames, names)
	case len(leaf.URIs)+len(leaf.IPAddresses)+len(leaf.EmailAddresses) > 0:
		return errors.New("has names beside its DNS names")
	case leaf.IsCA || !leaf.BasicConstraintsValid:
		return errors.New("is not marked as a non-CA")
	case !slices.Equal(leaf.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}):
		return errors.New("extended key usage is not serverAuth alone")
	}
	for _, name := range names {
		if err := verify(chain, roots, x509.VerifyOptions{CurrentTime: now, DNSName: name}); err != nil {
			return err
		}
	}
	return nil
}

func verify(chain, roots []*x509.Certificate, o x509.VerifyOptions) error {
	o.Roots, o.Intermediates = pool(roots), pool(chain[1:])
	if _, err := chain[0].Verify(o); err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	return nil
}

func pool(certs []*x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	for _, c := range certs {
		p.AddCert(c)
	}
	return p
}
