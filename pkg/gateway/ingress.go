package gateway

import (
	"cmp"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meshd-io/meshd/pkg/compile/ingress"
	"github.com/meshd-io/meshd/pkg/injector"
)

const (
	// Label on the pods of a gateway; its value says of which.
	Label = "meshd.io/gateway"
	// Ingress is the value of Label on the shared gateway of all Ingresses.
	Ingress = "ingress"
	// IngressName is the name of its Deployment, Service and ServiceAccount.
	IngressName = "meshd-ingress"

	// graceSeconds leaves time for drainSeconds and for the requests under way.
	graceSeconds int64 = 60
	// drainSeconds is how long a gateway that ends still answers: until then
	// load balancers and nodes may send to it what they sent before.
	drainSeconds int64 = 5
)

// ForIngress gives the shared gateway of all Ingresses: two ports, 80 and 443,
// as seen by the world and in the pod alike. It fails only if the bootstrap does.
func ForIngress(cfg injector.Config) (*appsv1.Deployment, *corev1.Service, *corev1.ServiceAccount, error) {
	ns := cmp.Or(cfg.SystemNamespace, injector.DefaultSystemNamespace)
	parts, err := injector.PartsFor(cfg, injector.BootstrapInput{Gateway: true, ServiceAccount: IngressName})
	if err != nil {
		return nil, nil, nil, fmt.Errorf("gateway %s: %w", IngressName, err)
	}
	meta := metav1.ObjectMeta{Namespace: ns, Name: IngressName, Labels: map[string]string{Label: Ingress}}
	account := &corev1.ServiceAccount{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ServiceAccount"}, ObjectMeta: *meta.DeepCopy()}
	return deployment(*meta.DeepCopy(), parts), service(*meta.DeepCopy()), account, nil
}

func deployment(meta metav1.ObjectMeta, parts injector.Parts) *appsv1.Deployment {
	always := corev1.ContainerRestartPolicyAlways
	for i := range parts.Agent {
		parts.Agent[i].RestartPolicy = &always
	}
	proxy := parts.Proxy
	proxy.Ports = []corev1.ContainerPort{
		{Name: "http", ContainerPort: 80, Protocol: corev1.ProtocolTCP},
		{Name: "https", ContainerPort: 443, Protocol: corev1.ProtocolTCP},
	}
	proxy.Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: drainSeconds}}}
	replicas, grace := int32(1), graceSeconds
	none, one := intstr.FromInt32(0), intstr.FromInt32(1)
	labels := map[string]string{Label: Ingress}
	return &appsv1.Deployment{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"},
		ObjectMeta: meta,
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			// A new pod is ready before an old one goes.
			Strategy: appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType,
				RollingUpdate: &appsv1.RollingUpdateDeployment{MaxUnavailable: &none, MaxSurge: &one}},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels, Annotations: parts.Annotations},
				Spec: corev1.PodSpec{
					ServiceAccountName:            IngressName,
					TerminationGracePeriodSeconds: &grace,
					// Ports below 1024 without a capability: the setting is the pod's own.
					SecurityContext: &corev1.PodSecurityContext{
						Sysctls: []corev1.Sysctl{{Name: "net.ipv4.ip_unprivileged_port_start", Value: "0"}}},
					InitContainers: parts.Agent,
					Containers:     []corev1.Container{proxy},
					Volumes:        parts.Volumes,
					// Replicas on different nodes, where there are some.
					TopologySpreadConstraints: []corev1.TopologySpreadConstraint{{
						MaxSkew: 1, TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.ScheduleAnyway,
						LabelSelector: &metav1.LabelSelector{MatchLabels: labels}}},
				},
			},
		},
	}
}

func service(meta metav1.ObjectMeta) *corev1.Service {
	families := corev1.IPFamilyPolicyPreferDualStack
	return &corev1.Service{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: meta,
		Spec: corev1.ServiceSpec{
			Type:           corev1.ServiceTypeLoadBalancer,
			IPFamilyPolicy: &families,
			Selector:       map[string]string{Label: Ingress},
			Ports: []corev1.ServicePort{
				{Name: "http", Port: 80, TargetPort: intstr.FromInt32(80), Protocol: corev1.ProtocolTCP},
				{Name: "https", Port: 443, TargetPort: intstr.FromInt32(443), Protocol: corev1.ProtocolTCP},
			},
		},
	}
}

// Needed reports whether any Ingress is meshd's, so that a gateway has to run.
func Needed(ingresses []*networkingv1.Ingress, classes []*networkingv1.IngressClass) bool {
	for _, ing := range ingresses {
		if ingress.Claims(ing, classes) {
			return true
		}
	}
	return false
}
