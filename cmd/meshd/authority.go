package main

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
	"github.com/meshd-io/meshd/pkg/ca"
	"github.com/meshd-io/meshd/pkg/ca/refusal"
	"github.com/meshd-io/meshd/pkg/ca/service"
	"github.com/meshd-io/meshd/pkg/compile"
	"github.com/meshd-io/meshd/pkg/crds"
	"github.com/meshd-io/meshd/pkg/identity"
	"github.com/meshd-io/meshd/pkg/status"
	"github.com/meshd-io/meshd/pkg/telemetry"
)

// lifetimes are those of the CertificateAuthority "default"; what it does not say is the default.
func lifetimes(snapshot *crds.Snapshot, otherwise ca.Lifetimes) ca.Lifetimes {
	settings, ok := compile.CASettings(snapshot)
	if !ok {
		return otherwise
	}
	return ca.Lifetimes{Root: settings.Root, Issuer: settings.Issuer, Leaf: settings.Leaf}
}

// countingSigner counts what the authority signs and refuses.
type countingSigner struct {
	service.Signer
	metrics *telemetry.Metrics
}

// Sign implements service.Signer.
func (s countingSigner) Sign(id identity.ID, csr []byte, ttl time.Duration) (ca.Issued, error) {
	issued, err := s.Signer.Sign(id, csr, ttl)
	switch reason := refusal.ReasonOf(err); {
	case err == nil:
		s.metrics.Signed()
	case reason != "":
		s.metrics.Refused(string(reason))
	}
	return issued, err
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
