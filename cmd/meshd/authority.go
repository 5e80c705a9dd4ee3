package main

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
	"github.com/meshd-io/meshd/pkg/ca"
	"github.com/meshd-io/meshd/pkg/ca/refusal"
	"github.com/meshd-io/meshd/pkg/ca/service"
	"github.com/meshd-io/meshd/pkg/compile"
	"github.com/meshd-io/meshd/pkg/crds"
	"github.com/meshd-io/meshd/pkg/identity"
	"github.com/meshd-io/meshd/pkg/report"
	"github.com/meshd-io/meshd/pkg/status"
	"github.com/meshd-io/meshd/pkg/telemetry"
)

// following is which CertificateAuthority is in force.
type following struct {
	settings compile.CA
	secret   *corev1.Secret
	findings []report.Finding
}

// lifetimes as the CA takes them.
func lifetimes(s compile.CA) ca.Lifetimes {
	return ca.Lifetimes{Root: s.Root, Issuer: s.Issuer, Leaf: s.Leaf}
}

// openAuthority opens the CA that CertificateAuthority "default" asks for. A
// given CA that cannot be used is an error: meshd's own root in its place
// would be another mesh.
func (d *daemon) openAuthority(snapshot *crds.Snapshot, trustDomain string, store ca.Store) error {
	settings, _ := compile.CASettings(snapshot)
	config := ca.Config{TrustDomain: trustDomain, Store: store, Lifetimes: lifetimes(settings), Log: d.log}
	d.follows.settings = settings
	if settings.Source == compile.FromSecret {
		d.follows.secret = caSecret(snapshot, settings)
		given, err := intermediate(d.follows.secret)
		if err != nil {
			return fmt.Errorf("CertificateAuthority default: spec.secretRef: Secret %s/%s: %w", settings.SecretNamespace, settings.SecretName, err)
		}
		config.Intermediate = &given
	}
	var err error
	if d.authority, err = ca.New(config); err != nil {
		return fmt.Errorf("certificate authority: %w", err)
	}
	return nil
}

func caSecret(snapshot *crds.Snapshot, settings compile.CA) *corev1.Secret {
	for _, s := range snapshot.Secrets {
		if s.Namespace == settings.SecretNamespace && s.Name == settings.SecretName {
			return s
		}
	}
	return nil
}

func intermediate(s *corev1.Secret) (ca.Intermediate, error) {
	if s == nil {
		return ca.Intermediate{}, errors.New("it does not exist, or is not of type kubernetes.io/tls: have it made (by cert-manager, say), or set spec.source to SelfSigned")
	}
	return ca.ParseIntermediate(s.Data[corev1.TLSCertKey], s.Data[corev1.TLSPrivateKeyKey], s.Data[corev1.ServiceAccountRootCAKey])
}

// followAuthority has the CA do what CertificateAuthority "default" says now.
// What cannot be done is found, and the CA stays as it is. d.taking is held.
func (d *daemon) followAuthority(snapshot *crds.Snapshot) []report.Finding {
	settings, ok := compile.CASettings(snapshot)
	if !ok {
		return d.follows.findings // compile tells what is wrong with the object
	}
	var secret *corev1.Secret
	if settings.Source == compile.FromSecret {
		secret = caSecret(snapshot, settings)
	}
	if settings == d.follows.settings && secret == d.follows.secret {
		return d.follows.findings
	}
	d.follows = following{settings: settings, secret: secret}
	refuse := func(field string, err error) {
		d.follows.findings = append(d.follows.findings, report.Finding{
			Object: report.Object{Kind: "CertificateAuthority", Name: "default"}, Condition: report.Accepted,
			Generation: settings.Origin.Generation, Reason: report.Invalid, Field: field, Message: err.Error() + "; what was before stays in force",
		})
	}
	if err := d.authority.SetLifetimes(lifetimes(settings)); err != nil {
		refuse("spec.lifetimes", err)
	}
	if err := d.setSource(settings, secret); err != nil {
		refuse("spec.secretRef", err)
	}
	return d.follows.findings
}

func (d *daemon) setSource(settings compile.CA, secret *corev1.Secret) error {
	if settings.Source == compile.SelfSigned {
		return d.authority.SetSelfSigned()
	}
	given, err := intermediate(secret)
	if err == nil {
		err = d.authority.SetIntermediate(given)
	}
	if err != nil {
		return fmt.Errorf("the Secret %s/%s: %w", settings.SecretNamespace, settings.SecretName, err)
	}
	return nil
}

// spreadTrust brings another bundle to the proxies, and puts a CA that waits
// for that into force when they all have it.
func (d *daemon) spreadTrust(ctx context.Context) error {
	for {
		changed := d.authority.Changed()
		d.taking.Lock()
		if d.taken != nil {
			d.offer()
		}
		d.taking.Unlock()
		d.pipeline.Work()
		if waiting := d.authority.Waiting(); waiting != nil && d.everybodyTrusts(ctx) {
			if err := d.authority.Promote(waiting); err != nil {
				d.log.Error("the given CA is not put into force", "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

// everybodyTrusts waits until every live proxy has the newest bundle; it is
// false when ctx ends, or when what waits is no longer the same.
func (d *daemon) everybodyTrusts(ctx context.Context) bool {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	changed := d.authority.Changed()
	go func() {
		select {
		case <-changed:
			cancel()
		case <-ctx.Done():
		}
	}()
	return d.settled(ctx) == nil
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
