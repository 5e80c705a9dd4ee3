package injector

import (
	"cmp"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/meshd-io/meshd/pkg/report"
)

// Decision says what became of a pod, and what its owner should know.
type Decision struct {
	// Injected: the returned pod has the sidecar, now or already before.
	Injected bool
	// Refused: the pod is wanted in the mesh and cannot be in it, by a fault of
	// its own that Findings name; a cluster does not let it in.
	Refused  bool
	Findings []report.Finding
	// Err is meshd's own failure: the pod is unchanged and must not be let in,
	// since it would run outside of the mesh unnoticed.
	Err error
}

// Inject gives the pod with the sidecar, if it is to have one. The input is
// never changed. A pod that has its sidecar already comes back as it is. ns is
// the pod's namespace; nil is one without labels, named by the pod.
func Inject(pod *corev1.Pod, ns *corev1.Namespace, cfg Config) (*corev1.Pod, Decision) {
	out := pod.DeepCopy()
	cfg = cfg.withDefaults()
	if ns == nil {
		ns = &corev1.Namespace{}
		ns.Name = pod.Namespace
	}
	s := subject{pod: out, namespace: cmp.Or(ns.Name, pod.Namespace)}
	if injected(out) {
		return out, Decision{Injected: true}
	}
	chosen := s.choose(ns, cfg)
	if !chosen.inject {
		return out, s.decision(false)
	}
	if found := s.refuse(chosen.explicit); len(found) > 0 {
		s.findings = append(s.findings, found...)
		d := s.decision(false)
		d.Refused = slices.ContainsFunc(found, func(f report.Finding) bool { return !f.Reason.Informs() })
		return out, d
	}
	if err := s.addSidecar(cfg); err != nil {
		return pod.DeepCopy(), Decision{Err: err, Findings: report.Sort(s.findings)}
	}
	return out, s.decision(true)
}

// addSidecar rewrites the pod's probes and adds the parts.
func (s *subject) addSidecar(cfg Config) error {
	ex := s.exclusions(cfg.Injection.Exclude)
	account := cmp.Or(s.pod.Spec.ServiceAccountName, s.pod.Spec.DeprecatedServiceAccount, "default")
	parts, err := partsFor(cfg, BootstrapInput{ServiceAccount: account, Probes: s.rewriteProbes()}, s.podCertificate(cfg))
	if err != nil {
		return err
	}
	always := corev1.ContainerRestartPolicyAlways
	sidecars := append(parts.Agent, parts.Proxy)
	for i := range sidecars {
		sidecars[i].RestartPolicy = &always
	}
	// First of all: the user's init containers, too, may call the mesh.
	spec := &s.pod.Spec
	spec.InitContainers = slices.Concat([]corev1.Container{capture(cfg, ex)}, sidecars, spec.InitContainers)
	spec.Volumes = append(spec.Volumes, parts.Volumes...)
	if s.pod.Annotations == nil && parts.Annotations != nil {
		s.pod.Annotations = map[string]string{}
	}
	maps.Copy(s.pod.Annotations, parts.Annotations)
	return nil
}

// injected reports whether the pod has been through Inject.
func injected(pod *corev1.Pod) bool {
	has := func(name string) bool {
		return slices.ContainsFunc(pod.Spec.InitContainers, func(c corev1.Container) bool { return c.Name == name })
	}
	carried := slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == IdentityVolume })
	return has(CaptureContainer) && has(ProxyContainer) && (has(AgentContainer) || carried)
}

// subject is the pod at work, and what has been found about it.
type subject struct {
	pod       *corev1.Pod
	namespace string
	findings  []report.Finding
}

func (s *subject) decision(injected bool) Decision {
	return Decision{Injected: injected, Findings: report.Sort(s.findings)}
}

// object names the pod; one that a controller is about to create has no name
// yet, only the prefix of one.
func (s *subject) object() report.Object {
	return report.Object{Kind: "Pod", Namespace: s.namespace, Name: cmp.Or(s.pod.Name, s.pod.GenerateName)}
}

func (s *subject) find(reason report.Reason, field, message string) {
	s.findings = append(s.findings, s.finding(reason, field, message))
}

func (s *subject) finding(reason report.Reason, field, message string) report.Finding {
	return report.Finding{
		Object: s.object(), Generation: s.pod.Generation, Condition: report.Accepted,
		Reason: reason, Field: field, Message: message,
	}
}
