package main

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meshd-io/meshd/pkg/ca/podcert"
	"github.com/meshd-io/meshd/pkg/crds"
	"github.com/meshd-io/meshd/pkg/gateway"
	"github.com/meshd-io/meshd/pkg/injector"
	"github.com/meshd-io/meshd/pkg/lab/control"
	"github.com/meshd-io/meshd/pkg/lab/store"
	"github.com/meshd-io/meshd/pkg/report"
)

// Where offline addresses are made up from; the same input gets the same ones.
const (
	offlinePods     = "10.244.0.0/16"
	offlineServices = "10.96.0.0/16"
)

// offline completes what users write with what a cluster would make of it:
// namespaces, ClusterIPs, one injected pod for each controller without pods,
// and EndpointSlices. The snapshot that is given stays as it is.
type offline struct {
	out      crds.Snapshot
	pod      netip.Addr // the last that was given out
	findings []report.Finding
}

// complete gives the completed snapshot and what kept a pod or Service out of it.
func complete(in *crds.Snapshot) (*crds.Snapshot, []report.Finding, error) {
	o := &offline{out: *in, pod: netip.MustParsePrefix(offlinePods).Addr()}
	o.addresses()
	if err := o.pods(in); err != nil {
		return nil, nil, err
	}
	o.slices()
	byName := func(a, b metav1.Object) int {
		return cmp.Or(cmp.Compare(a.GetNamespace(), b.GetNamespace()), cmp.Compare(a.GetName(), b.GetName()))
	}
	slices.SortFunc(o.out.Pods, func(a, b *corev1.Pod) int { return byName(a, b) })
	return &o.out, report.Sort(o.findings), nil
}

// addresses gives every Service without one a ClusterIP.
func (o *offline) addresses() {
	pool := store.NewAddresses(netip.MustParsePrefix(offlineServices))
	services := make([]*corev1.Service, 0, len(o.out.Services))
	for _, s := range o.out.Services {
		s = s.DeepCopy()
		if f := pool.Assign(s, nil); f != nil {
			o.findings = append(o.findings, *f)
			continue
		}
		services = append(services, s)
	}
	o.out.Services = services
}

// controller is what makes pods, as far as that matters here.
type controller struct {
	meta     metav1.ObjectMeta
	template corev1.PodTemplateSpec
}

func controllersOf(s *crds.Snapshot) []controller {
	var out []controller
	for _, c := range s.Deployments {
		out = append(out, controller{c.ObjectMeta, c.Spec.Template})
	}
	for _, c := range s.StatefulSets {
		out = append(out, controller{c.ObjectMeta, c.Spec.Template})
	}
	for _, c := range s.DaemonSets {
		out = append(out, controller{c.ObjectMeta, c.Spec.Template})
	}
	for _, c := range s.Jobs {
		out = append(out, controller{c.ObjectMeta, c.Spec.Template})
	}
	return out
}

func (o *offline) pods(in *crds.Snapshot) error {
	config := injectorConfig(in)
	namespaces := map[string]*corev1.Namespace{}
	for _, ns := range in.Namespaces {
		namespaces[ns.Name] = ns
	}
	controllers := controllersOf(in)
	if gateway.Needed(in.Ingresses, in.IngressClasses) {
		deployment, _, account, err := gateway.ForIngress(config)
		if err != nil {
			return err
		}
		controllers = append(controllers, controller{deployment.ObjectMeta, deployment.Spec.Template})
		o.out.ServiceAccounts = append(slices.Clone(o.out.ServiceAccounts), account)
	}
	o.out.Pods = slices.Clone(in.Pods)
	for _, c := range controllers {
		pod := &corev1.Pod{ObjectMeta: *c.template.ObjectMeta.DeepCopy(), Spec: *c.template.Spec.DeepCopy()}
		pod.Namespace, pod.Name = c.meta.Namespace, c.meta.Name
		pod.UID, pod.Generation, pod.CreationTimestamp = types.UID(pod.Name), 1, c.meta.CreationTimestamp
		ns := namespaces[pod.Namespace]
		if ns == nil {
			ns = &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: pod.Namespace}}
		}
		pod, decision := injector.Inject(pod, ns, config)
		if decision.Err != nil {
			return fmt.Errorf("inject %s/%s: %w", c.meta.Namespace, c.meta.Name, decision.Err)
		}
		o.findings = append(o.findings, decision.Findings...)
		o.start(pod)
		o.out.Pods = append(o.out.Pods, pod)
	}
	return nil
}

// start gives a pod what a kubelet would: an address and readiness.
func (o *offline) start(pod *corev1.Pod) {
	o.pod = o.pod.Next()
	pod.Status = corev1.PodStatus{
		Phase: corev1.PodRunning, PodIP: o.pod.String(), PodIPs: []corev1.PodIP{{IP: o.pod.String()}},
		Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
	}
	if pod.Spec.ServiceAccountName == "" {
		pod.Spec.ServiceAccountName = "default"
	}
}

// slices makes EndpointSlices for Services that have none.
func (o *offline) slices() {
	have := map[string]bool{}
	for _, s := range o.out.EndpointSlices {
		have[s.Namespace+"/"+s.Labels["kubernetes.io/service-name"]] = true
	}
	all := slices.Clone(o.out.EndpointSlices)
	for _, svc := range o.out.Services {
		if !have[svc.Namespace+"/"+svc.Name] {
			all = append(all, control.SlicesOf(svc, o.out.Pods)...)
		}
	}
	o.out.EndpointSlices = all
}

// injectorConfig is MeshConfig's part of injection.
func injectorConfig(s *crds.Snapshot) injector.Config {
	config := injector.Config{Bootstrap: renderBootstrap, Carrier: injector.CarrierAuto}
	for _, m := range s.MeshConfigs {
		if m.Name == "default" {
			config.TrustDomain, config.Injection = m.Spec.TrustDomain, m.Spec.Injection
			config.Carrier = cmp.Or(m.Spec.Identity.Carrier, config.Carrier)
		}
	}
	for _, a := range s.CertificateAuthorities {
		// Kubelet asks for nothing shorter: only the agent carries what was asked for.
		leaf, err := time.ParseDuration(string(a.Spec.Lifetimes.Leaf))
		if a.Name == "default" && err == nil && leaf < podcert.MinLife && config.Carrier == injector.CarrierAuto {
			config.Carrier = injector.CarrierAgent
		}
	}
	return config
}

// workloadNode finds the pod or Workload that a user means by NAMESPACE/NAME.
func findWorkload(s *crds.Snapshot, namespace, name string) error {
	var known []string
	for _, p := range s.Pods {
		if p.Namespace == namespace && p.Name == name {
			return nil
		}
		known = append(known, p.Namespace+"/"+p.Name)
	}
	for _, w := range s.Workloads {
		if w.Namespace == namespace && w.Name == name {
			return nil
		}
		known = append(known, w.Namespace+"/"+w.Name)
	}
	return fmt.Errorf("--workload %s/%s: there is no pod, controller or Workload of that name; there are %v", namespace, name, known)
}
