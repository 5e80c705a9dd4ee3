package podcert

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"fmt"
	"maps"
	"slices"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshd-io/meshd/pkg/ca/refusal"
	"github.com/meshd-io/meshd/pkg/ca/request"
)

// The reasons of Denied beside Kubernetes' own and those of package refusal.
// They are final: a kubelet does not ask again for that pod.
const (
	// PodGone: the pod does not exist, or is another one of its name.
	PodGone = string(refusal.PodGone)
	// PodMismatch: the pod is of another account or node, or mounts no certificate of this signer.
	PodMismatch = "PodMismatch"
)

// denial is why a request is refused, for its author.
type denial struct {
	reason, message string
}

// judgeRequest looks at what the request says of itself; nil is well.
func judgeRequest(r *certificatesv1.PodCertificateRequest) *denial {
	spec := r.Spec
	if len(spec.UnverifiedUserAnnotations) > 0 {
		keys := slices.Sorted(maps.Keys(spec.UnverifiedUserAnnotations))
		return &denial{certificatesv1.PodCertificateRequestConditionInvalidUserConfig,
			fmt.Sprintf("%s takes no userAnnotations; remove %s", r.Spec.SignerName, strings.Join(keys[:min(len(keys), 5)], ", "))}
	}
	if len(spec.StubPKCS10Request) > request.MaxSize {
		return &denial{string(refusal.CSRTooLarge), fmt.Sprintf("the CSR has %d bytes, at most %d are taken", len(spec.StubPKCS10Request), request.MaxSize)}
	}
	csr, err := x509.ParseCertificateRequest(spec.StubPKCS10Request)
	if err != nil {
		return &denial{string(refusal.CSRMalformed), "stubPKCS10Request is not PKCS #10 in DER"}
	}
	if key, ok := csr.PublicKey.(*ecdsa.PublicKey); !ok || key.Curve != elliptic.P256() {
		return &denial{certificatesv1.PodCertificateRequestConditionUnsupportedKeyType, "use keyType ECDSAP256"}
	}
	return nil
}

// judgePod compares the request with the pod as the API server has it.
func judgePod(r *certificatesv1.PodCertificateRequest, pod *corev1.Pod) *denial {
	name := r.Namespace + "/" + r.Spec.PodName
	account := pod.Spec.ServiceAccountName
	if account == "" {
		account = "default"
	}
	switch {
	case pod.UID != r.Spec.PodUID:
		return &denial{PodGone, fmt.Sprintf("pod %s has another UID than the request says", name)}
	case pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed:
		return &denial{PodGone, fmt.Sprintf("pod %s has ended", name)}
	case account != r.Spec.ServiceAccountName:
		return &denial{PodMismatch, fmt.Sprintf("pod %s does not run as service account %s", name, r.Spec.ServiceAccountName)}
	case pod.Spec.NodeName != string(r.Spec.NodeName):
		return &denial{PodMismatch, fmt.Sprintf("pod %s does not run on node %s", name, r.Spec.NodeName)}
	case !mounts(pod, r.Spec.SignerName):
		return &denial{PodMismatch, fmt.Sprintf("pod %s has no podCertificate volume of signer %s", name, r.Spec.SignerName)}
	}
	return nil
}

func mounts(pod *corev1.Pod, signer string) bool {
	for _, v := range pod.Spec.Volumes {
		if v.Projected == nil {
			continue
		}
		for _, s := range v.Projected.Sources {
			if s.PodCertificate != nil && s.PodCertificate.SignerName == signer {
				return true
			}
		}
	}
	return false
}

// answered reports whether the request has its final condition.
func answered(r *certificatesv1.PodCertificateRequest) bool {
	return slices.ContainsFunc(r.Status.Conditions, func(c metav1.Condition) bool {
		switch c.Type {
		case certificatesv1.PodCertificateRequestConditionTypeIssued,
			certificatesv1.PodCertificateRequestConditionTypeDenied,
			certificatesv1.PodCertificateRequestConditionTypeFailed:
			return true
		}
		return false
	})
}
