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

// tokenSeconds is the lifetime of the token; kubelet renews it at 80 %.
const tokenSeconds = 3600

// Containers builds the agent and the proxy of a sidecar or a gateway. Their
// restart policy is for the caller to set.
func Containers(cfg Config, in BootstrapInput) (agent, proxy corev1.Container, err error) {
	cfg = cfg.withDefaults()
	id, err := identity.New(cfg.TrustDomain, cfg.SystemNamespace, serverAccount)
	if err != nil {
		return agent, proxy, fmt.Errorf("identity of meshd: %w", err)
	}
	in.Namespace, in.Pod = "$(POD_NAMESPACE)", "$(POD_NAME)"
	in.Server, in.ServerIdentity = cfg.Server, id.String()
	bootstrap, err := cfg.Bootstrap(in)
	if err != nil {
		return agent, proxy, fmt.Errorf("render the bootstrap of service account %s: %w", in.ServiceAccount, err)
	}
	return agentContainer(cfg.AgentImage, in.Server, in.ServerIdentity), proxyContainer(cfg, bootstrap), nil
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
			{Name: RunVolume, MountPath: RunDir},
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
		VolumeMounts:    []corev1.VolumeMount{{Name: RunVolume, MountPath: RunDir}},
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
	}
}

// Volumes are what the containers of Containers mount.
//
// The token is readable for ProxyUID in every pod. Kubelet writes it 0644,
// unless all containers of the pod run as one user (then 0600 and theirs: a
// gateway's pod, where that user is ProxyUID; never an injected pod, whose
// capture step is root), or the pod has an fsGroup (then 0640 and of that
// group, which every container of the pod, the agent too, is a member of). So
// the pod's own fsGroup and runAsUser are left alone, and none is added.
func Volumes() []corev1.Volume {
	size, expiry := resource.MustParse("1Mi"), int64(tokenSeconds)
	return []corev1.Volume{
		{Name: RunVolume, VolumeSource: corev1.VolumeSource{
			EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory, SizeLimit: &size}}},
		{Name: TokenVolume, VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
			Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{
				Audience: TokenAudience, ExpirationSeconds: &expiry, Path: "token"}}}}}},
		{Name: TrustVolume, VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
			LocalObjectReference: corev1.LocalObjectReference{Name: TrustConfigMap},
			Items:                []corev1.KeyToPath{{Key: TrustKey, Path: TrustKey}}}}},
	}
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
