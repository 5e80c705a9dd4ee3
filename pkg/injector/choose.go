package injector

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/meshd-io/meshd/pkg/report"
)

const (
	enabled  = "enabled"
	disabled = "disabled"
	labelAt  = "metadata.labels[" + InjectLabel + "]"
)

// choice is whether a pod is wanted in the mesh. explicit: its own label says so.
type choice struct{ inject, explicit bool }

// choose: the Pod's label, then the Namespace's, then the mesh's default. A
// value that is neither enabled nor disabled is told, and does not count.
func (s *subject) choose(ns *corev1.Namespace, cfg Config) choice {
	own := s.label(s.object(), s.pod.Labels)
	if slices.Contains(neverInjected(cfg.SystemNamespace), s.namespace) {
		if own == enabled {
			s.find(report.Unsupported, labelAt,
				fmt.Sprintf("pods of %s are never injected, since the mesh depends on them; run the workload in another namespace", s.namespace))
		}
		return choice{}
	}
	switch own {
	case enabled:
		return choice{inject: true, explicit: true}
	case disabled:
		return choice{}
	}
	switch s.label(report.Object{Kind: "Namespace", Name: s.namespace}, ns.Labels) {
	case enabled:
		return choice{inject: true}
	case disabled:
		return choice{}
	}
	return choice{inject: cfg.Injection.Default == "OptOut"}
}

func (s *subject) label(of report.Object, labels map[string]string) string {
	v, there := labels[InjectLabel]
	if !there || v == enabled || v == disabled {
		return v
	}
	s.findings = append(s.findings, report.Finding{
		Object: of, Condition: report.Accepted, Reason: report.Invalid, Field: labelAt,
		Message: fmt.Sprintf("label %s is %q and does not count; write enabled or disabled", InjectLabel, v),
	})
	return ""
}
