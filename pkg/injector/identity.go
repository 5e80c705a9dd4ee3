package injector

import (
	"fmt"

	"github.com/meshd-io/meshd/pkg/report"
)

// The carriers of a pod's identity: MeshConfig.spec.identity.carrier, and the
// values of IdentityAnnotation (CarrierAuto is the former's alone).
const (
	CarrierAgent          = "Agent"
	CarrierPodCertificate = "PodCertificate"
	CarrierAuto           = "Auto"
)

const notServed = "PodCertificate needs PodCertificateRequests (certificates.k8s.io/v1, Kubernetes 1.37), which this cluster does not serve, so that the agent is used; write %s"

// podCertificate reports whether kubelet carries the identities of pods that do not choose.
func (c Config) podCertificate() bool {
	return c.PodCertificates && (c.Carrier == CarrierPodCertificate || c.Carrier == CarrierAuto)
}

// podCertificate reports whether kubelet carries this pod's identity. A carrier
// that the cluster does not have is told, and replaced by the agent: the
// identity is the same.
func (s *subject) podCertificate(cfg Config) bool {
	at := "metadata.annotations[" + IdentityAnnotation + "]"
	switch v, there := s.pod.Annotations[IdentityAnnotation]; {
	case there && v == CarrierAgent:
		return false
	case there && v == CarrierPodCertificate:
		if !cfg.PodCertificates {
			s.find(report.NotServed, at, fmt.Sprintf(notServed, "Agent, or leave the annotation out"))
		}
		return cfg.PodCertificates
	case there:
		s.find(report.Invalid, at, fmt.Sprintf("annotation %s is %q and does not count; write Agent or PodCertificate", IdentityAnnotation, v))
	}
	if cfg.Carrier == CarrierPodCertificate && !cfg.PodCertificates {
		s.findings = append(s.findings, report.Finding{
			Object: report.Object{Kind: "MeshConfig", Name: "default"}, Condition: report.Accepted, Reason: report.NotServed,
			Field: "spec.identity.carrier", Message: fmt.Sprintf(notServed, "Agent or Auto"),
		})
	}
	return cfg.podCertificate()
}
