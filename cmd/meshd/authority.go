package main

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
	"github.com/meshd-io/meshd/pkg/ca"
	"github.com/meshd-io/meshd/pkg/crds"
	"github.com/meshd-io/meshd/pkg/status"
)

// lifetimes are those of the CertificateAuthority "default"; what it does not say is the default.
func lifetimes(snapshot *crds.Snapshot) ca.Lifetimes {
	out := ca.DefaultLifetimes()
	for _, o := range snapshot.CertificateAuthorities {
		if o.Name != "default" {
			continue
		}
		set := func(to *time.Duration, from meshv1a1.Duration) {
			// The schema has checked the form; Gateway API durations are a subset of Go's.
			if d, err := time.ParseDuration(string(from)); err == nil {
				*to = d
			}
		}
		set(&out.Root, o.Spec.Lifetimes.Root)
		set(&out.Issuer, o.Spec.Lifetimes.Issuer)
		set(&out.Leaf, o.Spec.Lifetimes.Leaf)
	}
	return out
}

func (d *daemon) authorityStatus() status.Authority {
	out := status.Authority{Phase: "Stable", Issuers: []meshv1a1.CertificateStatus{certificateStatus(d.authority.Issuer())}}
	for _, root := range d.authority.Roots() {
		out.Roots = append(out.Roots, certificateStatus(root))
	}
	return out
}

func certificateStatus(c *x509.Certificate) meshv1a1.CertificateStatus {
	sum := sha256.Sum256(c.Raw)
	return meshv1a1.CertificateStatus{Fingerprint: hex.EncodeToString(sum[:]), NotAfter: metav1.NewTime(c.NotAfter.UTC())}
}
