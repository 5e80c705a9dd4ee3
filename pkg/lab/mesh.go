package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
	"github.com/meshd-io/meshd/pkg/compile/ingress"
	"github.com/meshd-io/meshd/pkg/gateway"
	"github.com/meshd-io/meshd/pkg/injector"
	"github.com/meshd-io/meshd/pkg/lab/store"
	"github.com/meshd-io/meshd/pkg/lab/token"
	"github.com/meshd-io/meshd/pkg/report"
)

const (
	systemNamespace = injector.DefaultSystemNamespace
	meshdPod        = "meshd-0"
	meshdName       = "meshd"
	grpcPort        = 15012
	httpPort        = 15014
)

func isMeshd(p *corev1.Pod) bool { return p.Namespace == systemNamespace && p.Name == meshdPod }

// begin puts what is there from the start into the store.
func (d *daemon) begin() error {
	first := []store.Object{namespace("default")}
	if d.meshd != nil {
		first = append(first, namespace(systemNamespace), serviceAccount(systemNamespace, meshdName), ingressClass(), meshdService(), d.meshdPod())
		if err := os.WriteFile(d.options.jwks(), d.issuer.JWKS(), 0o644); err != nil { // public keys
			return fmt.Errorf("keys of the token issuer: %w", err)
		}
	}
	for _, o := range first {
		if f := d.store.Apply(o); f != nil {
			return fmt.Errorf("%s: %s", f.Object, f.Message)
		}
	}
	return nil
}

func namespace(name string) *corev1.Namespace {
	return &corev1.Namespace{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"}, ObjectMeta: metav1.ObjectMeta{Name: name}}
}

func serviceAccount(namespace, name string) *corev1.ServiceAccount {
	return &corev1.ServiceAccount{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ServiceAccount"},
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
	}
}

func ingressClass() *networkingv1.IngressClass {
	return &networkingv1.IngressClass{
		TypeMeta:   metav1.TypeMeta{APIVersion: "networking.k8s.io/v1", Kind: "IngressClass"},
		ObjectMeta: metav1.ObjectMeta{Name: ingress.Class},
		Spec:       networkingv1.IngressClassSpec{Controller: ingress.Controller},
	}
}

func meshdService() *corev1.Service {
	dual := corev1.IPFamilyPolicyPreferDualStack
	return &corev1.Service{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: metav1.ObjectMeta{Namespace: systemNamespace, Name: meshdName},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": meshdName}, IPFamilyPolicy: &dual,
			Ports: []corev1.ServicePort{
				{Name: "grpc-xds", Port: grpcPort, TargetPort: intstr.FromInt32(grpcPort), Protocol: corev1.ProtocolTCP},
				{Name: "http-metrics", Port: httpPort, TargetPort: intstr.FromInt32(httpPort), Protocol: corev1.ProtocolTCP},
			},
		},
	}
}

// meshdPod runs meshd itself: a pod like others, but out of the mesh, and with
// two folders of the machine.
func (d *daemon) meshdPod() *corev1.Pod {
	o := d.options
	var ranges []string
	for _, p := range cidrs(o.Network) {
		ranges = append(ranges, p.String())
	}
	grace := int64(5)
	return &corev1.Pod{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: systemNamespace, Name: meshdPod,
			Labels: map[string]string{"app": meshdName, injector.InjectLabel: "disabled"},
		},
		Spec: corev1.PodSpec{
			ServiceAccountName: meshdName, RestartPolicy: corev1.RestartPolicyAlways, TerminationGracePeriodSeconds: &grace,
			Containers: []corev1.Container{{
				Name: meshdName, Image: "meshd/meshd",
				Command: []string{
					o.Meshd, "serve", "--config", o.configDir(), "--state-dir", o.stateDir(),
					"--grpc-address", fmt.Sprintf("[::]:%d", grpcPort), "--http-address", fmt.Sprintf("[::]:%d", httpPort),
					"--admin-socket", o.adminSocket(), "--token-issuer", token.URL, "--token-jwks", o.jwks(),
					"--cidrs", strings.Join(ranges, ","),
				},
				Ports: []corev1.ContainerPort{{Name: "grpc-xds", ContainerPort: grpcPort}, {Name: "http-metrics", ContainerPort: httpPort}},
				ReadinessProbe: &corev1.Probe{
					ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/readyz", Port: intstr.FromInt32(httpPort)}},
					PeriodSeconds: 1, TimeoutSeconds: 1, FailureThreshold: 3,
				},
				VolumeMounts: []corev1.VolumeMount{
					{Name: "config", MountPath: o.configDir(), ReadOnly: true},
					{Name: "state", MountPath: o.stateDir()},
				},
			}},
			Volumes: []corev1.Volume{hostFolder("config", o.configDir()), hostFolder("state", o.stateDir())},
		},
	}
}

func hostFolder(name, path string) corev1.Volume {
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: path}}}
}

// trustTick is how often meshd's trust anchor is looked at: it changes by a
// rotation, which keeps the former one for long.
const trustTick = 100 * time.Millisecond

// watchTrust follows the file that meshd writes its trust anchor to.
func (d *daemon) watchTrust(ctx context.Context) {
	tick := time.NewTicker(trustTick)
	defer tick.Stop()
	for {
		raw, err := os.ReadFile(filepath.Join(d.options.stateDir(), "root.crt"))
		d.mu.Lock()
		fresh := err == nil && len(raw) > 0 && string(raw) != d.trust
		if fresh {
			d.trust = string(raw)
		}
		d.mu.Unlock()
		if fresh {
			d.reconcile()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// keepMesh keeps what the mesh needs besides the user's objects: the trust
// anchor in every namespace, and the gateway while an Ingress asks for one. It
// reports whether anything was changed.
func (d *daemon) keepMesh(view store.View) bool {
	if d.meshd == nil {
		return false
	}
	did := false
	for _, ns := range store.List[*corev1.Namespace](view) {
		old, ok := store.Get[*corev1.ConfigMap](view, "ConfigMap", ns.Name, injector.TrustConfigMap)
		if d.trust == "" || ok && old.Data[injector.TrustKey] == d.trust {
			continue
		}
		d.store.Put(&corev1.ConfigMap{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
			ObjectMeta: metav1.ObjectMeta{Namespace: ns.Name, Name: injector.TrustConfigMap},
			Data:       map[string]string{injector.TrustKey: d.trust},
		})
		did = true
	}
	return d.keepGateway(view) || did
}

func (d *daemon) keepGateway(view store.View) bool {
	key := report.Object{Kind: "Deployment", Namespace: systemNamespace, Name: gateway.IngressName}
	_, runs := view[key].(*appsv1.Deployment)
	needed := gateway.Needed(store.List[*networkingv1.Ingress](view), store.List[*networkingv1.IngressClass](view))
	if !needed {
		if runs {
			d.store.Delete(key)
			d.store.Delete(report.Object{Kind: "Service", Namespace: systemNamespace, Name: gateway.IngressName})
		}
		return runs
	}
	deployment, service, account, err := gateway.ForIngress(d.injectorConfig(view))
	if err != nil {
		d.log.Error("gateway", "error", err)
		return false
	}
	before := d.store.Version()
	for _, o := range []store.Object{account, service, deployment} {
		if f := d.store.Apply(o); f != nil {
			d.log.Error("gateway", "object", f.Object.String(), "error", f.Message)
		}
	}
	return d.store.Version() != before
}

// injectorConfig is MeshConfig as the injector has it.
func (d *daemon) injectorConfig(view store.View) injector.Config {
	c := injector.Config{Bootstrap: d.options.Bootstrap}
	if m, ok := store.Get[*meshv1a1.MeshConfig](view, "MeshConfig", "", "default"); ok {
		c.TrustDomain, c.Injection = m.Spec.TrustDomain, m.Spec.Injection
	}
	return c
}

// inject gives the pod with its sidecar, if it is to have one.
func (d *daemon) inject(view store.View, p *corev1.Pod) (*corev1.Pod, error) {
	if d.meshd == nil || isExternal(p) {
		return p, nil
	}
	ns, _ := store.Get[*corev1.Namespace](view, "Namespace", "", p.Namespace)
	out, decision := injector.Inject(p, ns, d.injectorConfig(view))
	given := givenBy(p)
	d.notes[given] = nil
	for _, f := range decision.Findings {
		d.log.Warn("injection", "pod", p.Namespace+"/"+p.Name, "reason", string(f.Reason), "field", f.Field, "message", f.Message)
		d.notes[given] = append(d.notes[given], fmt.Sprintf("%s: %s (%s)", given, f.Message, f.Reason))
	}
	if decision.Err != nil {
		return nil, fmt.Errorf("injection: %w", decision.Err)
	}
	return out, nil
}

// givenBy is the object of the user that a pod comes from.
func givenBy(p *corev1.Pod) report.Object {
	if o := metav1.GetControllerOf(p); o != nil {
		return report.Object{Kind: o.Kind, Namespace: p.Namespace, Name: o.Name}
	}
	return report.Object{Kind: "Pod", Namespace: p.Namespace, Name: p.Name}
}

// mutate is what happens to a pod that a user applies.
func (d *daemon) mutate(view store.View, p *corev1.Pod) (*corev1.Pod, *report.Finding) {
	out, err := d.inject(view, p)
	if err != nil {
		return nil, &report.Finding{Object: store.KeyOf(p), Condition: report.Accepted, Reason: report.Invalid, Message: err.Error()}
	}
	return out, nil
}
