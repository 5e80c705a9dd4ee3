package crds

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
)

// decodeOne decodes a document that has no fault.
func decodeOne[T Resource](t *testing.T, doc string) T {
	t.Helper()
	objects, findings := Decode([]byte(doc), "f.yaml")
	if len(objects) != 1 || len(findings) > 0 {
		t.Fatalf("%d objects, findings %+v", len(objects), findings)
	}
	obj, ok := objects[0].Resource.(T)
	if !ok {
		t.Fatalf("a %T", objects[0].Resource)
	}
	return obj
}

func pointer[T any](v T) *T { return &v }

func TestDefaultsOfMeshConfig(t *testing.T) {
	got := decodeOne[*meshv1a1.MeshConfig](t, "apiVersion: meshd.io/v1alpha1\nkind: MeshConfig\nmetadata: {name: default}\n")
	want := meshv1a1.MeshConfigSpec{
		TrustDomain: "cluster.local",
		Identity:    meshv1a1.IdentitySpec{Carrier: "Auto"},
		Injection: meshv1a1.InjectionSpec{
			Default: "OptIn",
			Proxy:   meshv1a1.ProxySpec{Concurrency: 2, LogLevel: "warning"},
		},
		Egress:    meshv1a1.EgressSpec{Mode: "Allow"},
		Telemetry: meshv1a1.TelemetrySpec{AccessLog: "Errors", Metrics: meshv1a1.MetricsSpec{MaxSeries: 2000}},
		Scope:     "Learned",
		Defaults:  meshv1a1.DefaultsSpec{PeerAuthentication: meshv1a1.Strict, Authorization: meshv1a1.Allow},
	}
	if diff := cmp.Diff(want, got.Spec); diff != "" {
		t.Error(diff)
	}
}

func TestDefaultsOfCertificateAuthority(t *testing.T) {
	got := decodeOne[*meshv1a1.CertificateAuthority](t, "apiVersion: meshd.io/v1alpha1\nkind: CertificateAuthority\nmetadata: {name: default}\n")
	want := meshv1a1.CertificateAuthoritySpec{
		Source:    "SelfSigned",
		SecretRef: &meshv1a1.SecretRef{Namespace: "meshd-system", Name: "meshd-ca"},
		Lifetimes: meshv1a1.Lifetimes{Root: "87600h", Issuer: "168h", Leaf: "1h"},
	}
	if diff := cmp.Diff(want, got.Spec); diff != "" {
		t.Error(diff)
	}
}

func TestDefaultsOfTrafficPolicy(t *testing.T) {
	got := decodeOne[*meshv1a1.TrafficPolicy](t, `
apiVersion: meshd.io/v1alpha1
kind: TrafficPolicy
metadata: {name: x, namespace: shop}
spec:
  targetRefs: [{kind: Service, name: loans-svc}]
  timeout: {request: 5s}
  retry: {backoff: {}, budget: {}}
  circuitBreaker: {}
  outlierDetection: {}
  loadBalancing: {}
  rateLimit: {requests: 1, per: 1s}
`)
	want := meshv1a1.TrafficSettings{
		Timeout: &meshv1a1.Timeout{Request: "5s", Idle: "1h", Connect: "1s"},
		Retry: &meshv1a1.Retry{
			Attempts: pointer(int32(3)),
			Backoff:  &meshv1a1.Backoff{Base: "25ms", Max: "250ms"},
			Budget:   &meshv1a1.RetryBudget{Percent: pointer(int32(20)), Minimum: pointer(int32(3))},
		},
		CircuitBreaker:   &meshv1a1.CircuitBreaker{MaxConnections: 1024, MaxPendingRequests: 1024, MaxRequests: 1024},
		OutlierDetection: &meshv1a1.OutlierDetection{ConsecutiveErrors: 5, Interval: "10s", BaseEjection: "30s", MaxEjectedPercent: 50},
		LoadBalancing:    &meshv1a1.LoadBalancing{Policy: "LeastRequest"},
		RateLimit:        &meshv1a1.RateLimit{Requests: 1, Per: "1s", Key: "All"},
	}
	if diff := cmp.Diff(want, got.Spec.TrafficSettings); diff != "" {
		t.Error(diff)
	}
}

func TestDefaultsOfPolicies(t *testing.T) {
	pa := decodeOne[*meshv1a1.PeerAuthentication](t, "apiVersion: meshd.io/v1alpha1\nkind: PeerAuthentication\nmetadata: {name: x}\nspec: {mode: Strict}\n")
	if pa.Spec.Rollout != "Immediate" || pa.Namespace != "default" || pa.Kind != "PeerAuthentication" || pa.APIVersion != "meshd.io/v1alpha1" {
		t.Errorf("%+v", pa)
	}
	ap := decodeOne[*meshv1a1.AuthorizationPolicy](t, "apiVersion: meshd.io/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {name: x}\nspec: {action: Allow}\n")
	if ap.Spec.Mode != "Enforce" {
		t.Errorf("%+v", ap)
	}
}

// What a user writes of a status does not count: it is a subresource.
func TestStatusIsDropped(t *testing.T) {
	pa := decodeOne[*meshv1a1.PeerAuthentication](t, `
apiVersion: meshd.io/v1alpha1
kind: PeerAuthentication
metadata: {name: x}
spec: {mode: Strict}
status: {observedGeneration: 7, laggards: [a]}
`)
	if pa.Status.ObservedGeneration != 0 || pa.Status.Laggards != nil {
		t.Errorf("%+v", pa.Status)
	}
	pod := decodeOne[*corev1.Pod](t, "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {containers: [{name: a, image: b}]}\nstatus: {podIP: 10.244.0.2, phase: Running}\n")
	if pod.Status.PodIP != "10.244.0.2" {
		t.Errorf("%+v", pod.Status)
	}
}

func TestDefaultsOfCoreKinds(t *testing.T) {
	svc := decodeOne[*corev1.Service](t, "apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {clusterIP: 10.96.0.10, ports: [{name: a, port: 80}, {name: b, port: 81, targetPort: web, protocol: UDP}]}\n")
	if p := svc.Spec.Ports; p[0].TargetPort.IntVal != 80 || p[0].Protocol != corev1.ProtocolTCP || p[1].TargetPort.StrVal != "web" || p[1].Protocol != corev1.ProtocolUDP {
		t.Errorf("ports = %+v", p)
	}
	if svc.Spec.Type != corev1.ServiceTypeClusterIP || svc.Spec.SessionAffinity != corev1.ServiceAffinityNone || len(svc.Spec.ClusterIPs) != 1 {
		t.Errorf("spec = %+v", svc.Spec)
	}

	pod := decodeOne[*corev1.Pod](t, `
apiVersion: v1
kind: Pod
metadata: {name: x}
spec:
  containers:
  - name: a
    image: b
    ports: [{containerPort: 80}]
    readinessProbe: {httpGet: {port: 80}}
    livenessProbe: {grpc: {port: 81}}
`)
	c := pod.Spec.Containers[0]
	if c.Ports[0].Protocol != corev1.ProtocolTCP || pod.Spec.ServiceAccountName != "default" || pod.Spec.RestartPolicy != corev1.RestartPolicyAlways || *pod.Spec.TerminationGracePeriodSeconds != 30 {
		t.Errorf("pod = %+v", pod.Spec)
	}
	if p := c.ReadinessProbe; p.PeriodSeconds != 10 || p.TimeoutSeconds != 1 || p.FailureThreshold != 3 || p.SuccessThreshold != 1 || p.HTTPGet.Path != "/" || p.HTTPGet.Scheme != "HTTP" {
		t.Errorf("probe = %+v", p)
	}

	slice := decodeOne[*discoveryv1.EndpointSlice](t, "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: x}\naddressType: IPv4\nendpoints: [{addresses: [10.244.0.2]}]\nports: [{port: 80}]\n")
	if p := slice.Ports[0]; *p.Protocol != corev1.ProtocolTCP || *p.Name != "" {
		t.Errorf("slice ports = %+v", p)
	}

	secret := decodeOne[*corev1.Secret](t, "apiVersion: v1\nkind: Secret\nmetadata: {name: x}\nstringData: {a: b}\ndata: {c: ZA==}\n")
	if string(secret.Data["a"]) != "b" || string(secret.Data["c"]) != "d" || secret.Type != corev1.SecretTypeOpaque || secret.StringData != nil {
		t.Errorf("secret = %+v", secret)
	}

	d := decodeOne[*appsv1.Deployment](t, "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\nspec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}}\n")
	if *d.Spec.Replicas != 1 || d.Spec.Template.Spec.RestartPolicy != corev1.RestartPolicyAlways {
		t.Errorf("deployment = %+v", d.Spec)
	}
	j := decodeOne[*batchv1.Job](t, "apiVersion: batch/v1\nkind: Job\nmetadata: {name: x}\nspec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}\n")
	if *j.Spec.Completions != 1 || *j.Spec.Parallelism != 1 || *j.Spec.BackoffLimit != 6 {
		t.Errorf("job = %+v", j.Spec)
	}
}
