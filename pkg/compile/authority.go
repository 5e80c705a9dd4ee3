package compile

import (
	"cmp"
	"time"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
	"github.com/meshd-io/meshd/pkg/compile/object"
	"github.com/meshd-io/meshd/pkg/crds"
	"github.com/meshd-io/meshd/pkg/report"
)

// The lifetimes that API.md writes beside CertificateAuthority's fields.
const (
	defaultRootLifetime   = 87600 * time.Hour
	defaultIssuerLifetime = 168 * time.Hour
	defaultLeafLifetime   = time.Hour
)

// The sources that API.md writes beside CertificateAuthority.spec.source, and
// the Secret that is read where spec.secretRef does not say.
const (
	SelfSigned       = "SelfSigned"
	FromSecret       = "Secret"
	defaultCASecret  = "meshd-ca"
	defaultNamespace = "meshd-system"
)

// CA is CertificateAuthority's spec, with its defaults filled in.
type CA struct {
	// Source is SelfSigned or FromSecret.
	Source string
	// SecretNamespace and SecretName with FromSecret.
	SecretNamespace, SecretName string
	// Lifetimes of what is signed: Leaf <= Issuer <= Root.
	Root, Issuer, Leaf time.Duration
	Origin             report.Origin // its Kind is "" where there is no object
}

// CASettings reads CertificateAuthority "default". ok is false where it cannot
// be compiled: the caller keeps what it has, or takes the defaults that are
// returned then. Compile has the findings.
func CASettings(snap *crds.Snapshot) (ca CA, ok bool) {
	ca, fs := readAuthority(snap)
	return ca, len(fs) == 0
}

func readAuthority(snap *crds.Snapshot) (CA, []report.Finding) {
	standard := CA{Source: SelfSigned, Root: defaultRootLifetime, Issuer: defaultIssuerLifetime, Leaf: defaultLeafLifetime}
	for _, obj := range snap.CertificateAuthorities {
		if obj.Name != defaultName {
			continue
		}
		o := object.Origin("CertificateAuthority", obj)
		ca, fs := readLifetimes(o, obj.Spec.Lifetimes)
		switch ca.Source = cmp.Or(obj.Spec.Source, SelfSigned); ca.Source {
		case SelfSigned:
		case FromSecret:
			ref := cmp.Or(obj.Spec.SecretRef, &meshv1a1.SecretRef{})
			ca.SecretNamespace, ca.SecretName = cmp.Or(ref.Namespace, defaultNamespace), cmp.Or(ref.Name, defaultCASecret)
			// Bad lifetimes must not lead to another CA.
			standard.Source, standard.SecretNamespace, standard.SecretName = ca.Source, ca.SecretNamespace, ca.SecretName
		default:
			fs = append(fs, object.Refused(o, report.Invalid, "spec.source", "%q is not SelfSigned or Secret", ca.Source))
		}
		if len(fs) > 0 {
			return standard, fs
		}
		return ca, nil
	}
	return standard, nil
}

func readLifetimes(o report.Origin, l meshv1a1.Lifetimes) (CA, []report.Finding) {
	var fs []report.Finding
	read := func(field string, d meshv1a1.Duration, otherwise time.Duration) time.Duration {
		out, err := object.Duration(d, otherwise)
		if err != nil {
			fs = append(fs, object.Refused(o, report.Invalid, "spec.lifetimes."+field, "%v", err))
		} else if out <= 0 {
			fs = append(fs, object.Refused(o, report.Invalid, "spec.lifetimes."+field, "must be more than 0"))
		}
		return out
	}
	ca := CA{
		Root:   read("root", l.Root, defaultRootLifetime),
		Issuer: read("issuer", l.Issuer, defaultIssuerLifetime),
		Leaf:   read("leaf", l.Leaf, defaultLeafLifetime),
		Origin: o,
	}
	if len(fs) == 0 && (ca.Leaf > ca.Issuer || ca.Issuer > ca.Root) {
		fs = append(fs, object.Refused(o, report.Invalid, "spec.lifetimes", "leaf (%s) must not outlive issuer (%s), nor issuer root (%s)", ca.Leaf, ca.Issuer, ca.Root))
	}
	return ca, fs
}

func checkCertificateAuthorities(snap *crds.Snapshot) []report.Finding {
	_, fs := readAuthority(snap)
	for _, obj := range snap.CertificateAuthorities {
		if obj.Name != defaultName {
			fs = append(fs, notDefault(object.Origin("CertificateAuthority", obj)))
		}
	}
	return fs
}
