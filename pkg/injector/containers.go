package injector

import (
	"cmp"
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meshd-io/meshd/pkg/identity"
)

// drainSeconds is how long connections of a replaced or removed filter chain
// may go on (Envoy's default of 600 s would keep old policy alive for long).
// HTTP is told at once to close: by the usual strategy a busy connection would
// have to wait for its turn, and plaintext go on after a change to Strict.
const drainSeconds = "30"

// Parts are what a sidecar or a gateway brings into its pod. The containers'
// restart policy is for the caller to set.
type Parts struct {
	// Agent is none or one: where kubelet carries the identity there is none.
	Agent       []corev1.Container
	Proxy       corev1.Container
	Volumes     []corev1.Volume
	Annotations map[string]string
}

// PartsFor builds the parts of a pod whose identity is carried as the mesh's
// configuration has it. It fails only if the bootstrap does.
func PartsFor(cfg Config, in BootstrapInput) (Parts, error) {
	return partsFor(cfg, in, cfg.podCertificate())
}

func partsFor(cfg Config, in BootstrapInput, podCertificate bool) (Parts, error) {
	cfg = cfg.withDefaults()
	id, err := identity.New(cfg.TrustDomain, cfg.SystemNamespace, serverAccount)
	if err != nil {
		return Parts{}, fmt.Errorf("identity of meshd: %w", err)
	}
	in.Namespace, in.Pod = "$(POD_NAMESPACE)", "$(POD_NAME)"
	in.Server, in.ServerIdentity = cfg.Server, id.String()
	if podCertificate {
		in.IdentityDir = IdentityDir
	}
	bootstrap, err := cfg.Bootstrap(in)
	if err != nil {
		return Parts{}, fmt.Errorf("render the bootstrap of service account %s: %w", in.ServiceAccount, err)
	}
	parts := Parts{Proxy: proxyContainer(cfg, bootstrap.Config), Volumes: []corev1.Volume{runVolume()}}
	if podCertificate {
		parts.Proxy.VolumeMounts = append(parts.Proxy.VolumeMounts, corev1.VolumeMount{Name: IdentityVolume, MountPath: IdentityDir, ReadOnly: true})
		parts.Volumes = append(parts.Volumes, identityVolume(cfg, bootstrap.Files))
		parts.Annotations = map[string]string{}
		for name, text := range bootstrap.Files {
			parts.Annotations[SDSAnnotationPrefix+name] = text
		}
		return parts, nil
	}
	parts.Agent = []corev1.Container{agentContainer(cfg.AgentImage, in.Server, in.ServerIdentity)}
	parts.Volumes = append(parts.Volumes, tokenVolume(), trustVolume(cfg))
	return parts, nil
}

func agentContainer(image, server, serverID string) corev1.Container {
	return corev1.Container{
		Name:    AgentContainer,
		Image:   image,
		Command: []string{"meshd-agent"},
		Args: []string{
			"run", "--meshd=" + server, "--meshd-id=" + serverID,
			"--trust=" + TrustDir + "/" + TrustKey, "--token=" + TokenDir + "/token", "--socket=" + RunDir + "/agent.sock",
		},
		Resources:       resources("5m", "16Mi"),
		SecurityContext: unprivileged(),
		VolumeMounts: []corev1.VolumeMount{
			{Name: RunVolume, MountPath: RunDir}, noAPIToken(),
			{Name: TokenVolume, MountPath: TokenDir, ReadOnly: true},
			{Name: TrustVolume, MountPath: TrustDir, ReadOnly: true},
		},
	}
}

func proxyContainer(cfg Config, bootstrap string) corev1.Container {
	spec := cfg.Injection.Proxy
	c := corev1.Container{
		Name:    ProxyContainer,
		Image:   cfg.ProxyImage,
		Command: []string{"envoy"},
		Args: []string{
			"--config-yaml", bootstrap,
			"--concurrency", strconv.Itoa(int(cmp.Or(max(spec.Concurrency, 0), defaultConcurrency))),
			"--log-level", cmp.Or(spec.LogLevel, defaultLogLevel),
			"--drain-time-s", drainSeconds,
			"--drain-strategy", "immediate",
			"--disable-hot-restart",
		},
		Env: podEnv(),
		// Ten minutes for the first configuration: a meshd that is away delays new pods, and does not make them crash.
		StartupProbe:    ready(1, 600),
		ReadinessProbe:  ready(5, 3),
		Resources:       resources("50m", "64Mi"),
		SecurityContext: unprivileged(),
		VolumeMounts:    []corev1.VolumeMount{{Name: RunVolume, MountPath: RunDir}, noAPIToken()},
	}
	if spec.Resources.Requests != nil || spec.Resources.Limits != nil || spec.Resources.Claims != nil {
		c.Resources = *spec.Resources.DeepCopy()
	}
	return c
}

// capture is the step that redirects the pod's traffic, and then exits.
func capture(cfg Config, ex exclusions) corev1.Container {
	root, yes, no := int64(0), true, false
	return corev1.Container{
		Name:      CaptureContainer,
		Image:     cfg.AgentImage,
		Command:   []string{"meshd-agent"},
		Args:      append([]string{"capture"}, ex.args()...),
		Resources: resources("5m", "16Mi"),
		// Root, because Kubernetes gives added capabilities to no other user; of root's powers it keeps one.
		SecurityContext: &corev1.SecurityContext{
			RunAsUser: &root, RunAsGroup: &root, RunAsNonRoot: &no,
			AllowPrivilegeEscalation: &no, ReadOnlyRootFilesystem: &yes,
			Capabilities:   &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}, Add: []corev1.Capability{"NET_ADMIN"}},
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
		VolumeMounts: []corev1.VolumeMount{noAPIToken()},
	}
}

// apiTokenDir is where the API server's own admission mounts a token for itself
// into every container that mounts nothing there.
const apiTokenDir = "/var/run/secrets/kubernetes.io/serviceaccount"

// noAPIToken keeps the application's token for the API server out of meshd's
// containers, which do not use it.
func noAPIToken() corev1.VolumeMount {
	return corev1.VolumeMount{Name: RunVolume, MountPath: apiTokenDir, ReadOnly: true}
}

// podEnv is what the bootstrap refers to as $(NAME).
func podEnv() []corev1.EnvVar {
	field := func(name, path string) corev1.EnvVar {
		return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: path}}}
	}
	return []corev1.EnvVar{field("POD_NAME", "metadata.name"), field("POD_NAMESPACE", "metadata.namespace")}
}

func ready(period, failures int32) *corev1.Probe {
	return &corev1.Probe{
		ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{
			Path: "/ready", Port: intstr.FromInt32(PlainPort), Scheme: corev1.URISchemeHTTP}},
		PeriodSeconds: period, TimeoutSeconds: 3, FailureThreshold: failures, SuccessThreshold: 1,
	}
}

func resources(cpu, memory string) corev1.ResourceRequirements {
	return corev1.ResourceRequirements{Requests: corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)}}
}

func unprivileged() *corev1.SecurityContext {
	uid, yes, no := ProxyUID, true, false
	return &corev1.SecurityContext{
		RunAsUser: &uid, RunAsGroup: &uid, RunAsNonRoot: &yes,
		AllowPrivilegeEscalation: &no, ReadOnlyRootFilesystem: &yes,
		Capabilities:   &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
}
