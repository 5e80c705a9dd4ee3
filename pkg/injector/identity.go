package injector

import (
	"fmt"

	"github.com/meshd-io/meshd/pkg/report"
)

// checkIdentity: this version carries identities by the agent only, and a pod
// that asks for another carrier still gets its identity.
func (s *subject) checkIdentity() {
	at := "metadata.annotations[" + IdentityAnnotation + "]"
	switch v, there := s.pod.Annotations[IdentityAnnotation]; {
	case !there || v == "Agent":
	case v == "PodCertificate":
		s.find(report.Unsupported, at, "PodCertificate is not carried out by this version, and the agent is used instead; write Agent, or leave the annotation out")
	default:
		s.find(report.Invalid, at, fmt.Sprintf("annotation %s is %q, and the agent is used; write Agent, or leave the annotation out", IdentityAnnotation, v))
	}
}
