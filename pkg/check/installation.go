package check

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"

	"github.com/meshd-io/meshd/pkg/injector"
)

const installCRDs = "bring them up to date: meshd crds --apply"

// definitions: every kind is installed, served and of this version.
func definitions(f *Facts) verdict {
	v := verdict{well: fmt.Sprintf("%d kinds are installed, as version %s has them", len(f.Cluster.Wanted), f.Version)}
	var missing, unserved, other []string
	for _, want := range f.Cluster.Wanted {
		i := slices.IndexFunc(f.Cluster.Installed, func(have *apiextensionsv1.CustomResourceDefinition) bool { return have.Name == want.Name })
		switch {
		case i < 0:
			missing = append(missing, want.Spec.Names.Kind)
		case !established(f.Cluster.Installed[i]):
			unserved = append(unserved, want.Spec.Names.Kind)
		case !sameVersions(f.Cluster.Installed[i], want):
			other = append(other, want.Spec.Names.Kind)
		}
	}
	v.addEach(Fail, "kinds are not installed", installCRDs, missing)
	v.addEach(Fail, "kinds are not served", "see the conditions of kubectl describe crd", unserved)
	v.addEach(Warn, "kinds are of another version than this command", installCRDs+", or use the meshd command of the version that is installed", other)
	return v
}

func established(crd *apiextensionsv1.CustomResourceDefinition) bool {
	return slices.ContainsFunc(crd.Status.Conditions, func(c apiextensionsv1.CustomResourceDefinitionCondition) bool {
		return c.Type == apiextensionsv1.Established && c.Status == apiextensionsv1.ConditionTrue
	})
}

// sameVersions compares what decides about objects: schema, rules, columns.
func sameVersions(a, b *apiextensionsv1.CustomResourceDefinition) bool {
	return reflect.DeepEqual(plain(a.Spec.Versions), plain(b.Spec.Versions))
}

// plain is a value as its JSON says it, so that the spelling of raw defaults does not count.
func plain(v any) any {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	var out any
	if err := json.Unmarshal(text, &out); err != nil {
		return err
	}
	return out
}

// deployment: meshd runs, as many times as it should, all of them new.
func deployment(f *Facts) verdict {
	d := f.Cluster.Deployment
	if d == nil {
		var v verdict
		v.add(Fail, "install the chart: helm install meshd charts/meshd -n "+f.Cluster.Namespace+" --create-namespace, or name meshd's namespace with -n",
			"namespace %s has no Deployment of meshd", f.Cluster.Namespace)
		return v
	}
	want, have := int32(1), d.Status
	if d.Spec.Replicas != nil {
		want = *d.Spec.Replicas
	}
	v := verdict{well: fmt.Sprintf("%d of %d replicas are ready", have.ReadyReplicas, want)}
	logs := fmt.Sprintf("see kubectl -n %s describe deployment %s and kubectl -n %s logs deployment/%s", d.Namespace, d.Name, d.Namespace, d.Name)
	switch {
	case want == 0:
		v.add(Fail, fmt.Sprintf("kubectl -n %s scale deployment %s --replicas=2", d.Namespace, d.Name), "it is scaled to 0")
	case have.ReadyReplicas == 0 || !available(d):
		v.add(Fail, logs, "%d of %d replicas are ready", have.ReadyReplicas, want)
	case have.ReadyReplicas < want:
		v.add(Warn, logs, "%d of %d replicas are ready", have.ReadyReplicas, want)
	}
	if have.ObservedGeneration < d.Generation || have.UpdatedReplicas < want || have.Replicas > want {
		v.add(Warn, fmt.Sprintf("kubectl -n %s rollout status deployment %s", d.Namespace, d.Name), "a rollout has not ended")
	}
	return v
}

func available(d *appsv1.Deployment) bool {
	return slices.ContainsFunc(d.Status.Conditions, func(c appsv1.DeploymentCondition) bool {
		return c.Type == appsv1.DeploymentAvailable && c.Status == corev1.ConditionTrue
	})
}

// replicas: every meshd answers and has its first configuration.
func replicas(f *Facts) verdict {
	v := verdict{well: fmt.Sprintf("%d answer and are ready", len(f.Replicas))}
	if len(f.Replicas) == 0 {
		v.add(Fail, "see the deployment", "no meshd runs")
	}
	var unready []string
	for _, r := range f.Replicas {
		switch {
		case r.Silent != "":
			v.add(Fail, "see meshd's log", "%s does not answer: %s", orMeshd(r.Name), r.Silent)
		case !r.State.Ready:
			unready = append(unready, orMeshd(r.Name))
		}
	}
	v.addEach(Fail, "the sources have not synced, so that nothing is served", "see meshd's log, and GET /readyz on port 15014", unready)
	return v
}

func orMeshd(name string) string {
	if name == "" {
		return "meshd"
	}
	return name
}

// webhook: the API server asks meshd about pods, trusts it, and reaches it.
func webhook(f *Facts) verdict {
	w := f.Cluster.Webhook
	if w == nil {
		return verdict{faults: []fault{{level: Fail, what: "there is no MutatingWebhookConfiguration: no pod is injected",
			cure: "install the chart again: helm upgrade meshd charts/meshd -n " + f.Cluster.Namespace}}}
	}
	v := verdict{well: fmt.Sprintf("%d entries, known by the current roots, with endpoints", len(w.Webhooks))}
	for _, name := range []string{injector.NamespaceEntry, injector.PodEntry} {
		if !hasEntry(w, name) {
			v.add(Fail, "helm upgrade meshd charts/meshd -n "+f.Cluster.Namespace, "%s has no entry %s", w.Name, name)
		}
	}
	roots := f.roots()
	var empty, lacking, more, lenient, elsewhere []string
	for _, e := range w.Webhooks {
		bundle, err := fingerprints(e.ClientConfig.CABundle)
		switch {
		case len(bytes.TrimSpace(e.ClientConfig.CABundle)) == 0:
			empty = append(empty, e.Name)
		case err != nil, !containsAll(bundle, roots):
			lacking = append(lacking, e.Name)
		case len(roots) > 0 && !containsAll(roots, bundle):
			more = append(more, e.Name)
		}
		if e.FailurePolicy != nil && *e.FailurePolicy != admissionregistrationv1.Fail {
			lenient = append(lenient, e.Name)
		}
		if s := e.ClientConfig.Service; s == nil || s.Namespace != f.Cluster.Namespace {
			elsewhere = append(elsewhere, e.Name)
		}
	}
	const wait = "meshd's leader writes it: see its log (field manager meshd-ca-bundle)"
	v.addEach(Fail, "caBundle is not set, so that the API server refuses meshd", wait, empty)
	v.addEach(Fail, "caBundle lacks a current root", wait, lacking)
	v.addEach(Warn, "caBundle has more than the current roots", wait, more)
	v.addEach(Warn, "failurePolicy is not Fail: pods start outside of the mesh while meshd is away", "helm upgrade meshd charts/meshd -n "+f.Cluster.Namespace, lenient)
	v.addEach(Fail, "the entry does not lead to a Service of namespace "+f.Cluster.Namespace, "name meshd's namespace with -n, or install the chart again", elsewhere)
	if readyEndpoints(f.Cluster.Slices) == 0 {
		v.add(Fail, "see the deployment", "meshd's Service has no ready endpoint: pods that should be injected cannot be created")
	}
	return v
}

func hasEntry(w *admissionregistrationv1.MutatingWebhookConfiguration, name string) bool {
	return slices.ContainsFunc(w.Webhooks, func(e admissionregistrationv1.MutatingWebhook) bool { return e.Name == name })
}

func readyEndpoints(all []*discoveryv1.EndpointSlice) int {
	n := 0
	for _, s := range all {
		for _, e := range s.Endpoints {
			if e.Conditions.Ready == nil || *e.Conditions.Ready {
				n += len(e.Addresses)
			}
		}
	}
	return n
}

// injection: what MeshConfig says of namespaces without a label is what the API server asks about.
func injection(f *Facts) verdict {
	v := verdict{well: "pods are injected where their namespace or they themselves say so (OptIn)"}
	optOut := f.Cluster.MeshConfig != nil && f.Cluster.MeshConfig.Spec.Injection.Default == "OptOut"
	if optOut {
		v.well = "pods are injected unless their namespace or they themselves say otherwise (OptOut)"
	}
	if f.Cluster.Webhook == nil {
		return v // the check before this one has told
	}
	const cure = "meshd's leader writes it: see its log (field manager meshd-ca-bundle)"
	switch has := hasEntry(f.Cluster.Webhook, injector.DefaultEntry); {
	case optOut && !has:
		v.add(Fail, cure, "MeshConfig says OptOut, but the webhook has no entry %s: pods of namespaces without a label are not injected", injector.DefaultEntry)
	case !optOut && has:
		v.add(Warn, cure, "MeshConfig says OptIn, but the webhook has still the entry %s", injector.DefaultEntry)
	}
	return v
}
