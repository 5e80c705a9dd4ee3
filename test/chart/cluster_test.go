package chart

import (
	"context"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	admissionapply "k8s.io/client-go/applyconfigurations/admissionregistration/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
	"github.com/meshd-io/meshd/internal/kubetest"
	"github.com/meshd-io/meshd/pkg/gateway"
	"github.com/meshd-io/meshd/pkg/injector"
)

// warnings of an API server are failures.
type warnings struct{ t *testing.T }

func (w warnings) HandleWarningHeader(_ int, _ string, text string) {
	w.t.Errorf("the API server warns: %s", text)
}

// Everything that is rendered, hooks and odd values included, is taken as it is
// by an API server that knows every field.
func TestStrict(t *testing.T) {
	c := installed(t)
	config := rest.CopyConfig(c.Config)
	config.WarningHandler = warnings{t}
	api := c.ClientFor(t, config)
	for _, name := range []string{"default", "odd"} {
		for _, o := range objects(t, readFile(t, "testdata/"+name+".yaml")) {
			if o.GetKind() != "MeshConfig" { // whose name is fixed
				o.SetName(o.GetName() + "-x") // helm has installed the other
			}
			err := api.Create(context.Background(), o, client.DryRunAll, client.FieldValidation(metav1.FieldValidationStrict))
			if err != nil && !apierrors.IsAlreadyExists(err) {
				t.Errorf("%s: %s %s: %v", name, o.GetKind(), o.GetName(), err)
			}
		}
	}
}

// meshd's pods, its gateways', the Job of an upgrade and the pod of helm test keep to the
// restricted PodSecurity standard.
func TestPodSecurity(t *testing.T) {
	c := installed(t)
	ns := c.Namespace(t, map[string]string{"pod-security.kubernetes.io/enforce": "restricted"})
	api := c.Client(t)
	try := func(meta metav1.ObjectMeta, spec corev1.PodSpec) error {
		return api.Create(context.Background(), &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: ns, GenerateName: "x-", Labels: meta.Labels}, Spec: spec}, client.DryRunAll)
	}
	rendered := objects(t, readFile(t, "testdata/default.yaml"))
	var d appsv1.Deployment
	var j batchv1.Job
	var p corev1.Pod
	read(t, find(rendered, "Deployment", "meshd"), &d)
	read(t, find(rendered, "Job", "meshd-crds"), &j)
	read(t, find(rendered, "Pod", "meshd-check"), &p)
	never := func(injector.BootstrapInput) (injector.Bootstrap, error) {
		return injector.Bootstrap{Config: "{}"}, nil
	}
	edge := func(certificates bool) error {
		d, _, _, err := gateway.ForIngress(injector.Config{
			Bootstrap: never, Carrier: "Auto", PodCertificates: certificates, TrustBundles: certificates})
		if err != nil {
			t.Fatal(err)
		}
		return try(d.Spec.Template.ObjectMeta, d.Spec.Template.Spec)
	}
	for name, err := range map[string]error{
		"a gateway with an agent": edge(false), "a gateway without": edge(true),
		"meshd": try(d.Spec.Template.ObjectMeta, d.Spec.Template.Spec), "its Job": try(j.Spec.Template.ObjectMeta, j.Spec.Template.Spec),
		"its check": try(p.ObjectMeta, p.Spec),
	} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The standard is enforced here.
	d.Spec.Template.Spec.Containers[0].SecurityContext.Capabilities = nil
	if err := try(d.Spec.Template.ObjectMeta, d.Spec.Template.Spec); !apierrors.IsForbidden(err) {
		t.Errorf("with capabilities: %v", err)
	}
}

// A whole life: install without the kinds, with a MeshConfig at once; upgrade,
// which leaves what meshd has written to the webhook; uninstall, which takes
// away all that could stand in the way of anybody's pods.
func TestLife(t *testing.T) {
	c := kubetest.Start(t, kubetest.Options{NoCRDs: true})
	api, ctx := c.Client(t), context.Background()
	out := mustHelm(t, c, "install", "mesh", chartDir, "-n", "mesh-here", "--create-namespace", "--set", "meshConfig.trustDomain=a.test")
	for _, want := range []string{"rollout status deployment/meshd", "helm test mesh -n mesh-here", "pod-security.kubernetes.io/enforce=restricted"} {
		if !strings.Contains(out, want) {
			t.Errorf("the notes do not say %q:\n%s", want, out)
		}
	}
	var config meshv1a1.MeshConfig
	mustGet(t, api, client.ObjectKey{Name: "default"}, &config)
	if config.Spec.TrustDomain != "a.test" {
		t.Errorf("trust domain %q", config.Spec.TrustDomain)
	}

	webhooks := kubernetes.NewForConfigOrDie(c.Config).AdmissionregistrationV1().MutatingWebhookConfigurations()
	bundle := []byte("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n")
	written := admissionapply.MutatingWebhookConfiguration("meshd-injector")
	for _, name := range []string{"namespace.inject.meshd.io", "pod.inject.meshd.io"} {
		written.WithWebhooks(admissionapply.MutatingWebhook().WithName(name).
			WithClientConfig(admissionapply.WebhookClientConfig().WithCABundle(bundle...)))
	}
	if _, err := webhooks.Apply(ctx, written, metav1.ApplyOptions{FieldManager: "meshd-ca-bundle"}); err != nil {
		t.Fatal(err)
	}
	// Nothing runs here: the Job of the definitions would not end.
	mustHelm(t, c, "upgrade", "mesh", chartDir, "-n", "mesh-here", "--no-hooks", "--set", "meshConfig.trustDomain=b.test,replicas=3")
	mustGet(t, api, client.ObjectKey{Name: "default"}, &config)
	if config.Spec.TrustDomain != "b.test" {
		t.Errorf("after the upgrade: trust domain %q", config.Spec.TrustDomain)
	}
	live, err := webhooks.Get(ctx, "meshd-injector", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range live.Webhooks {
		if string(w.ClientConfig.CABundle) != string(bundle) || w.ClientConfig.Service.Namespace != "mesh-here" {
			t.Errorf("the upgrade has changed %s: %+v", w.Name, w.ClientConfig)
		}
	}

	mustHelm(t, c, "uninstall", "mesh", "-n", "mesh-here")
	var left admissionregistrationv1.MutatingWebhookConfigurationList
	if err := api.List(ctx, &left); err != nil || len(left.Items) > 0 {
		t.Errorf("webhooks are left: %v, %v", err, left.Items)
	}
	var definitions apiextensionsv1.CustomResourceDefinitionList
	if err := api.List(ctx, &definitions); err != nil || len(definitions.Items) != len(kubetest.CRDs()) {
		t.Errorf("%d definitions are left, want all %d, and so what users wrote: %v", len(definitions.Items), len(kubetest.CRDs()), err)
	}
	// What is left does not stand in the way of another installation.
	mustHelm(t, c, "install", "again", chartDir, "-n", "mesh-here")
}

func mustGet(t *testing.T, api client.Client, key client.ObjectKey, into client.Object) {
	t.Helper()
	if err := api.Get(context.Background(), key, into); err != nil {
		t.Fatal(err)
	}
}
