package check

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"slices"
	"time"

	"github.com/meshd-io/meshd/pkg/console"
)

// worn is the part of a life after which a certificate should have been renewed: 2/3.
func worn(left, life time.Duration) bool { return 3*left < life }

// parse reads certificates in PEM.
func parse(bundle []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for {
		var block *pem.Block
		if block, bundle = pem.Decode(bundle); block == nil {
			break
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	if len(out) == 0 || len(bytes.TrimSpace(bundle)) > 0 {
		return nil, fmt.Errorf("%d certificates, and something that is none", len(out))
	}
	return out, nil
}

func described(c *x509.Certificate) console.Certificate {
	sum := sha256.Sum256(c.Raw)
	return console.Certificate{Fingerprint: hex.EncodeToString(sum[:]), NotBefore: c.NotBefore, NotAfter: c.NotAfter}
}

// fingerprints are those of certificates in PEM.
func fingerprints(bundle []byte) ([]string, error) {
	certs, err := parse(bundle)
	if err != nil {
		return nil, err
	}
	out := make([]string, 0, len(certs))
	for _, c := range certs {
		out = append(out, described(c).Fingerprint)
	}
	return out, nil
}

func containsAll(have, want []string) bool {
	return !slices.ContainsFunc(want, func(w string) bool { return !slices.Contains(have, w) })
}

// roots are the fingerprints of the current roots: those that meshd signs
// below, or where no replica says them, those that pods trust.
func (f *Facts) roots() []string {
	var out []string
	for _, r := range f.Replicas {
		if r.State.Authority != nil {
			for _, c := range r.State.Authority.Roots {
				if !slices.Contains(out, c.Fingerprint) {
					out = append(out, c.Fingerprint)
				}
			}
		}
	}
	if len(out) == 0 && f.Cluster != nil {
		out, _ = fingerprints(f.Cluster.Anchor) // the authority's check tells of one that cannot be read
	}
	return out
}

// authority: roots and issuers have time left, all replicas have the same
// roots, and pods trust them.
func authority(f *Facts) verdict {
	var v verdict
	roots := map[string]console.Certificate{}
	var expired, old, apart []string
	look := func(what string, c console.Certificate) {
		switch left := c.NotAfter.Sub(f.Now); {
		case left <= 0:
			expired = append(expired, fmt.Sprintf("%s %.12s", what, c.Fingerprint))
		case worn(left, c.NotAfter.Sub(c.NotBefore)):
			old = append(old, fmt.Sprintf("%s %.12s ends in %s", what, c.Fingerprint, left.Round(time.Minute)))
		}
	}
	issuers := 0
	for _, r := range f.Replicas {
		if r.State.Authority == nil {
			continue
		}
		issuers++
		look("the issuer of "+orMeshd(r.Name), r.State.Authority.Issuer)
		for _, c := range r.State.Authority.Roots {
			roots[c.Fingerprint] = c
		}
	}
	for _, r := range f.Replicas {
		if r.State.Authority != nil && len(r.State.Authority.Roots) != len(roots) {
			apart = append(apart, orMeshd(r.Name))
		}
	}
	if f.Cluster != nil {
		v = f.anchor(roots)
	}
	for _, c := range roots {
		look("root", c)
	}
	v.addEach(Fail, "certificates have expired", "see the status of CertificateAuthority default and meshd's log", expired)
	v.addEach(Warn, "certificates are past two thirds of their life", "see the status of CertificateAuthority default; a root is changed by its spec.rotate, a given issuer by who gave it", old)
	v.addEach(Fail, "replicas know other roots than the rest", "restart them: kubectl rollout restart deployment", apart)
	if len(roots) == 0 {
		v.add(Fail, "see meshd's log", "no root is known")
	}
	v.well = fmt.Sprintf("%d roots, %d issuers, none past two thirds of its life", len(roots), issuers)
	return v
}

// anchor judges what pods trust meshd by, and adds its certificates where no replica has told any.
func (f *Facts) anchor(roots map[string]console.Certificate) (v verdict) {
	const cure = "meshd's leader keeps ConfigMap meshd-trust: see its log (field manager meshd-trust)"
	if len(f.Cluster.Anchor) == 0 {
		v.add(Fail, cure, "namespace %s has no ConfigMap meshd-trust: injected pods cannot start", f.Cluster.Namespace)
		return v
	}
	certs, err := parse(f.Cluster.Anchor)
	if err != nil {
		v.add(Fail, cure, "ConfigMap meshd-trust is no list of certificates in PEM: %v", err)
		return v
	}
	trusted := map[string]bool{}
	told := len(roots) > 0
	for _, c := range certs {
		d := described(c)
		trusted[d.Fingerprint] = true
		if !told {
			roots[d.Fingerprint] = d
		}
	}
	var lacking []string
	for fingerprint := range roots {
		if !trusted[fingerprint] {
			lacking = append(lacking, fmt.Sprintf("%.12s", fingerprint))
		}
	}
	v.addEach(Fail, "ConfigMap meshd-trust lacks a root", cure, lacking)
	return v
}

// certificates: the leaves that proxies have shown have time left.
func certificates(f *Facts) verdict {
	all := f.proxies()
	v := verdict{well: fmt.Sprintf("%d proxies showed a certificate with time left", len(all))}
	if len(all) == 0 {
		v.well = "no proxy is connected"
	}
	var expired, old []string
	for _, p := range all {
		// A connection tells of the certificate with which it began. One that was
		// fresh enough then has been renewed since, or the next connection will tell.
		left := p.CertificateExpires.Sub(p.Connected)
		switch {
		case left <= 0:
			expired = append(expired, p.Name)
		case f.Leaf > 0 && worn(left, f.Leaf):
			old = append(old, fmt.Sprintf("%s (%s left when it connected)", p.Name, left.Round(time.Second)))
		}
	}
	const cure = "see the log of the pod's container meshd-agent (with PodCertificate: the pod's PodCertificateRequests)"
	v.addEach(Fail, "proxies showed a certificate that had expired", cure, expired)
	v.addEach(Warn, "proxies showed a certificate past two thirds of its life: it is not renewed", cure, old)
	return v
}
