package injector_test

import (
	"slices"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/meshd-io/meshd/internal/envoytest"
	"github.com/meshd-io/meshd/pkg/injector"
)

func TestRegistration(t *testing.T) {
	in := install(t)
	first, second := newAuthority(t, "first"), newAuthority(t, "second")
	in.shown.Store(first.serving(t))
	meshed, plain := in.namespace(inMesh), in.namespace(nil)

	// Without a bundle the API server trusts nobody, and only pods of the mesh feel it.
	in.awaitAdmission("refusal without a bundle", in.pod(meshed), refusedByWebhook)
	if out, err := in.create(in.pod(plain)); !untouchedPod(out, err) {
		t.Errorf("a pod outside of the mesh: %v", err)
	}

	in.trust(first)
	in.run()
	in.awaitEntries(injector.NamespaceEntry, injector.PodEntry)
	in.awaitAdmission("a sidecar", in.pod(meshed), injectedPod)

	// Nothing changes, nothing is written; the next change is, and once, also where the watch lags behind.
	in.look()
	in.lagging(func() {
		in.trust(first, second)
		in.awaitEntries(injector.NamespaceEntry, injector.PodEntry)
		in.look()
		in.look()
	})
	if n := in.writes.Load(); n != 2 {
		t.Errorf("%d writes", n)
	}

	// The certificate changes while both roots are known; then the old one goes.
	in.awaitAdmission("a sidecar by the old root", in.pod(meshed), injectedPod)
	in.shown.Store(second.serving(t))
	in.trust(second)
	in.awaitEntries(injector.NamespaceEntry, injector.PodEntry)
	in.awaitAdmission("a sidecar by the new root", in.pod(meshed), injectedPod)

	// Somebody else writes, or makes the configuration anew.
	live := in.live()
	live.Webhooks[0].ClientConfig.CABundle = first.pem()
	if err := in.api.Update(t.Context(), live); err != nil {
		t.Fatal(err)
	}
	in.awaitEntries(injector.NamespaceEntry, injector.PodEntry)
	if err := in.api.Delete(t.Context(), live); err != nil {
		t.Fatal(err)
	}
	in.make()
	in.awaitEntries(injector.NamespaceEntry, injector.PodEntry)
	in.awaitAdmission("a sidecar after a reinstallation", in.pod(meshed), injectedPod)
}

func TestOptOutEntryComesAndGoes(t *testing.T) {
	in := install(t)
	root := newAuthority(t, "root")
	in.shown.Store(root.serving(t))
	plain := in.namespace(nil)
	out := in.namespace(map[string]string{injector.InjectLabel: "disabled"})
	odd := in.namespace(map[string]string{injector.InjectLabel: "maybe"})
	in.optOut.Store(true)
	in.trust(root)
	// meshd may be there before the configuration.
	if err := in.api.Delete(t.Context(), in.chart()); err != nil {
		t.Fatal(err)
	}
	in.run()
	in.make()
	in.awaitEntries(injector.DefaultEntry, injector.NamespaceEntry, injector.PodEntry)
	in.awaitAdmission("a sidecar by default", in.pod(plain), injectedPod)
	in.awaitAdmission("a sidecar where the label says nothing", in.pod(odd), injectedPod)
	for name, pod := range map[string]*corev1.Pod{
		"a pod that says no":       in.pod(plain, labelled("disabled")),
		"a namespace that says no": in.pod(out),
		"kube-system":              in.pod(metav1.NamespaceSystem),
		"host network":             in.pod(plain, hostNetwork),
	} {
		if out, err := in.create(pod, client.DryRunAll); !untouchedPod(out, err) {
			t.Errorf("%s: sidecar %v, %v", name, has(out), err)
		}
	}
	// A change of what the chart has made is taken over.
	live := in.live()
	for i := range live.Webhooks {
		if live.Webhooks[i].Name == injector.NamespaceEntry {
			three := int32(3)
			live.Webhooks[i].TimeoutSeconds = &three
		}
	}
	if err := in.api.Update(t.Context(), live); err != nil {
		t.Fatal(err)
	}
	envoytest.Eventually(t, "the chart's timeout on meshd's entry", func() bool {
		return slices.ContainsFunc(in.live().Webhooks, func(w admissionregistrationv1.MutatingWebhook) bool {
			return w.Name == injector.DefaultEntry && *w.TimeoutSeconds == 3
		})
	}, func() string { return string(must(yaml.Marshal(in.live().Webhooks))) })

	in.optOut.Store(false)
	in.tell()
	in.awaitEntries(injector.NamespaceEntry, injector.PodEntry)
	in.awaitAdmission("no sidecar by default", in.pod(plain), untouchedPod)
}

func TestAdmission(t *testing.T) {
	in := install(t)
	root := newAuthority(t, "root")
	in.shown.Store(root.serving(t))
	in.trust(root)
	in.run()
	in.awaitEntries(injector.NamespaceEntry, injector.PodEntry)
	meshed, plain := in.namespace(inMesh), in.namespace(nil)
	in.awaitAdmission("a sidecar", in.pod(meshed), injectedPod)
	in.warnings.take()

	out, err := in.create(in.pod(meshed))
	if err != nil || !has(out) || out.Spec.Containers[0].LivenessProbe.HTTPGet == nil || out.Spec.Containers[0].LivenessProbe.TCPSocket != nil {
		t.Errorf("%v, %+v", err, out.Spec)
	}
	for _, c := range out.Spec.InitContainers {
		if slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return strings.HasPrefix(m.Name, "kube-api-access-") }) {
			t.Errorf("%s has the application's token for the API server", c.Name)
		}
	}
	if !slices.ContainsFunc(out.Spec.Containers[0].VolumeMounts, func(m corev1.VolumeMount) bool { return strings.HasPrefix(m.Name, "kube-api-access-") }) {
		t.Error("the application has lost its token for the API server")
	}
	// kubectl apply of what a cluster has given (with its sidecar) changes nothing.
	again := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: meshed, Name: "again", Annotations: out.Annotations}, Spec: out.Spec}
	again.Spec.NodeName = ""
	if out, err := in.create(again); err != nil || len(out.Spec.InitContainers) != 3 {
		t.Errorf("%v, %d init containers", err, len(out.Spec.InitContainers))
	}
	// The other carrier is valid to the API server as well.
	out, err = in.create(in.pod(meshed, func(p *corev1.Pod) {
		p.Annotations = map[string]string{injector.IdentityAnnotation: injector.CarrierPodCertificate}
	}))
	if err != nil || len(out.Spec.InitContainers) != 2 || len(out.Annotations) != 3 {
		t.Errorf("%v, %d init containers, annotations %v", err, len(out.Spec.InitContainers), out.Annotations)
	}
	for name, c := range map[string]struct {
		pod  *corev1.Pod
		says string // "": untouched
	}{
		"another namespace":                  {pod: in.pod(plain)},
		"kube-system":                        {pod: in.pod(metav1.NamespaceSystem, labelled("enabled"))},
		"a pod that says no":                 {pod: in.pod(meshed, labelled("disabled"))},
		"host network":                       {pod: in.pod(meshed, hostNetwork)},
		"host network, asked for":            {in.pod(meshed, hostNetwork, labelled("enabled")), "leave hostNetwork out"},
		"host network, asked for in another": {in.pod(plain, hostNetwork, labelled("enabled")), "leave hostNetwork out"},
		"the proxy's user": {in.pod(meshed, func(p *corev1.Pod) {
			user := injector.ProxyUID
			p.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: &user}
		}), "UID 1337"},
		"the agent's name":                           {in.pod(meshed, func(p *corev1.Pod) { p.Spec.Containers[0].Name = injector.AgentContainer }), "belongs to meshd"},
		"1 MB of annotations, which Kubernetes ends": {in.pod(meshed, func(p *corev1.Pod) { p.Annotations = map[string]string{"x": strings.Repeat("x", 1<<20)} }), "may not be more than 262144 bytes"},
	} {
		out, err := in.create(c.pod)
		if c.says == "" && !untouchedPod(out, err) || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: sidecar %v, %v", name, has(out), err)
		}
	}
	if out, err := in.create(in.pod(plain, labelled("enabled"))); !injectedPod(out, err) {
		t.Errorf("a pod that asks for it elsewhere: %v", err)
	}
	in.warnings.take()
	if _, err := in.create(in.pod(meshed, func(p *corev1.Pod) {
		p.Annotations = map[string]string{injector.ExcludeInboundPortsAnnotation: "x"}
	})); err != nil {
		t.Error(err)
	}
	if all := strings.Join(in.warnings.take(), "\n"); !strings.Contains(all, `meshd: metadata.annotations[meshd.io/exclude-inbound-ports]`) {
		t.Errorf("warnings: %q", all)
	}
	// A dry run says what would be, and leaves nothing.
	dry := in.pod(meshed)
	dry.Name, dry.GenerateName = "dry", ""
	if out, err := in.create(dry, client.DryRunAll); !injectedPod(out, err) {
		t.Error(err)
	}
	if err := in.api.Get(t.Context(), client.ObjectKeyFromObject(dry), &corev1.Pod{}); !apierrors.IsNotFound(err) {
		t.Errorf("a dry run left a pod: %v", err)
	}
}
