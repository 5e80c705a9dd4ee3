package crds

import (
	"fmt"
	"strings"
	"testing"

	"github.com/meshd-io/meshd/pkg/report"
)

// good is a document that must survive whatever stands beside it.
const good = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: good}\n"

func TestBadDocuments(t *testing.T) {
	service := func(spec string) string {
		return "apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec:\n" + spec
	}
	pod := func(spec string) string {
		return "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec:\n" + spec
	}
	ingress := func(spec string) string {
		return "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: x}\nspec:\n" + spec
	}
	route := func(spec string) string {
		return "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: x}\nspec:\n" + spec
	}
	backend := "{service: {name: s, port: {number: 80}}}"
	tests := []struct {
		name, doc string
		line      int // counted from the document's first line, 1-based
		reason    report.Reason
		field     string
		text      string
		object    string
	}{
		{"not YAML", "kind: [\n", 1, report.Parse, "", "not YAML", " "},
		{"tab", "kind: Service\nmetadata:\n\tname: x\n", 3, report.Parse, "", "a tab stands where spaces belong", "Service default/x"},
		{"unclosed quote", "apiVersion: v1\nkind: Secret\nmetadata: {name: \"x}\n", 4, report.Parse, "", "not YAML", "Secret default/x"},
		{"wrong indent", service("  ports:\n  - port: 80\n   name: a\n"), 6, report.Parse, "", "not YAML", "Service default/x"},
		{"key twice", service("  ports: []\n  ports: []\n"), 6, report.Parse, "", "already set", "Service default/x"},
		{"JSON key twice", `{"apiVersion": "v1", "kind": "Service", "kind": "Service"}` + "\n", 1, report.Parse, "", "already set", " "},
		{"a scalar", "hello\n", 1, report.Parse, "", "not a Kubernetes object", " "},
		{"a list", "- a\n- b\n", 1, report.Parse, "", "not a Kubernetes object", " "},
		{"binary", "\x00\x01\x02\n", 1, report.Parse, "", "not YAML", " "},
		{"no kind", "apiVersion: v1\nmetadata: {name: x}\n", 1, report.Parse, "", "no kind", " x"},
		{"no apiVersion", "kind: Service\nmetadata: {name: x}\n", 1, report.Parse, "apiVersion", "needs an apiVersion", "Service default/x"},
		{"bad apiVersion", "kind: Service\napiVersion: a/b/c\nmetadata: {name: x}\n", 2, report.Parse, "apiVersion", "needs an apiVersion", "Service default/x"},
		{"no name", "apiVersion: v1\nkind: Service\nmetadata: {}\n", 3, report.Parse, "metadata", "no metadata.name", "Service default/"},
		{"kind is a number", "apiVersion: v1\nkind: 7\nmetadata: {name: x}\n", 2, report.Invalid, "kind", "a string, not number: put it in quotes", " "},
		{"name is a boolean of YAML 1.1", "apiVersion: v1\nkind: Service\nmetadata: {name: y}\n", 3, report.Invalid, "metadata.name", "a string, not bool: put it in quotes", " "},
		{"unknown kind", "apiVersion: meshd.io/v1alpha1\nkind: Sidecar\nmetadata: {name: x}\n", 2, report.UnknownKind, "kind", "no kind Sidecar of meshd.io/v1alpha1", "Sidecar x"},
		{"unknown version", "apiVersion: meshd.io/v1\nkind: Workload\nmetadata: {name: x}\n", 2, report.UnknownKind, "kind", "it is of meshd.io/v1alpha1", "Workload default/x"},
		{"unknown group", "apiVersion: extensions/v1beta1\nkind: Ingress\nmetadata: {name: x}\n", 2, report.UnknownKind, "kind", "it is of networking.k8s.io/v1", "Ingress default/x"},
		{"Gateway API", "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: x}\n", 2, report.Unsupported, "kind", "does not read", "Gateway x"},
		{"older version of the Gateway API", "apiVersion: gateway.networking.k8s.io/v1beta1\nkind: HTTPRoute\nmetadata: {name: x}\n", 2, report.Unsupported, "kind", "write it as gateway.networking.k8s.io/v1", "HTTPRoute default/x"},
		{"route path", route("  rules:\n  - matches:\n    - path: {value: x}\n"), 7, report.Invalid, "spec.rules[0].matches[0].path", "start with '/'", "HTTPRoute default/x"},
		{"route backend without port", route("  rules:\n  - backendRefs:\n    - name: s\n"), 7, report.Invalid, "spec.rules[0].backendRefs[0]", "Must have port", "HTTPRoute default/x"},
		{"route filter", route("  rules:\n  - filters:\n    - type: Nonsense\n"), 7, report.Invalid, "spec.rules[0].filters[0].type", "Unsupported", "HTTPRoute default/x"},
		{"route field", route("  parents: []\n"), 5, report.UnknownField, "spec.parents", "no field", "HTTPRoute default/x"},
		{"route weight", route("  rules:\n  - backendRefs:\n    - {name: s, port: 80, weight: -1}\n"), 7, report.Invalid, "spec.rules[0].backendRefs[0].weight", "greater than or equal to 0", "HTTPRoute default/x"},

		{"unknown field", service("  ports:\n  - port: 80\n    nme: a\n"), 7, report.UnknownField, "spec.ports[0].nme", "unknown field", "Service default/x"},
		{"unknown field of metadata", "apiVersion: v1\nkind: Service\nmetadata:\n  name: x\n  lables: {a: b}\nspec: {ports: [{port: 1}]}\n", 5, report.UnknownField, "metadata.lables", "unknown field", "Service default/x"},
		{"case counts", service("  Ports: [{port: 80}]\n"), 5, report.UnknownField, "spec.Ports", "unknown field", "Service default/x"},
		{"unknown field of ours", "apiVersion: meshd.io/v1alpha1\nkind: Workload\nmetadata: {name: x}\nspec:\n  serviceAccount: a\n  addresses: [192.0.2.1]\n  lables: {}\n", 7, report.UnknownField, "spec.lables", "no field", "Workload default/x"},
		{"unknown field of our metadata", "apiVersion: meshd.io/v1alpha1\nkind: Workload\nmetadata:\n  name: x\n  foo: y\nspec: {serviceAccount: a, addresses: [192.0.2.1]}\n", 5, report.UnknownField, "metadata.foo", "no field", "Workload default/x"},
		{"wrong type", service("  ports:\n  - name: a\n    port: http\n"), 7, report.Invalid, "spec.ports[0].port", "a whole number, not string", "Service default/x"},
		{"string for list", service("  ports: http\n"), 5, report.Invalid, "spec.ports", "a list, not string", "Service default/x"},
		{"list for object", "apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: []\n", 4, report.Invalid, "spec", "an object, not array", "Service default/x"},
		{"label is a number", "apiVersion: v1\nkind: Service\nmetadata:\n  name: x\n  labels: {a: 1}\nspec: {ports: [{port: 1}]}\n", 5, report.Invalid, "metadata.labels.a", "a string, not number", "Service default/x"},
		{"bad base64", "apiVersion: v1\nkind: Secret\nmetadata: {name: x}\ndata: {a: '%'}\n", 4, report.Invalid, "data.a", "base64", "Secret default/x"},

		{"bad name", "apiVersion: v1\nkind: Pod\nmetadata: {name: Not_Valid}\nspec: {containers: [{name: a}]}\n", 3, report.Invalid, "metadata.name", "lower case", "Pod default/Not_Valid"},
		{"bad Service name", "apiVersion: v1\nkind: Service\nmetadata: {name: a.b}\nspec: {ports: [{port: 1}]}\n", 3, report.Invalid, "metadata.name", "DNS-1035", "Service default/a.b"},
		{"bad namespace", "apiVersion: v1\nkind: Secret\nmetadata: {name: x, namespace: a.b}\n", 3, report.Invalid, "metadata.namespace", "must not contain dots", "Secret a.b/x"},
		{"bad name of ours", "apiVersion: meshd.io/v1alpha1\nkind: PeerAuthentication\nmetadata: {name: A}\nspec: {mode: Strict}\n", 3, report.Invalid, "metadata.name", "lower case", "PeerAuthentication default/A"},
		{"bad label of ours", "apiVersion: meshd.io/v1alpha1\nkind: PeerAuthentication\nmetadata: {name: a, labels: {'a b': c}}\nspec: {mode: Strict}\n", 3, report.Invalid, "metadata.labels", "alphanumeric", "PeerAuthentication default/a"},
		{"Namespace in a namespace", "apiVersion: v1\nkind: Namespace\nmetadata: {name: a, namespace: b}\n", 3, report.Invalid, "metadata.namespace", "cluster-scoped", "Namespace b/a"},

		{"Service without ports", service("  selector: {a: b}\n"), 4, report.Invalid, "spec.ports", "at least one port", "Service default/x"},
		{"Service port 0", service("  ports: [{port: 0}]\n"), 5, report.Invalid, "spec.ports[0].port", "between 1 and 65535", "Service default/x"},
		{"Service port 70000", service("  ports: [{port: 70000}]\n"), 5, report.Invalid, "spec.ports[0].port", "between 1 and 65535", "Service default/x"},
		{"Service targetPort", service("  ports: [{port: 80, targetPort: 0}]\n  type: Foo\n"), 6, report.Invalid, "spec.type", "Unsupported", "Service default/x"},
		{"Service port names", service("  ports: [{port: 80}, {port: 81}]\n"), 5, report.Invalid, "spec.ports[0].name", "names where there are several", "Service default/x"},
		{"Service same port", service("  ports: [{port: 80, name: a}, {port: 80, name: b}]\n"), 5, report.Invalid, "spec.ports[1].port", "Duplicate", "Service default/x"},
		{"Service same name", service("  ports: [{port: 80, name: a}, {port: 81, name: a}]\n"), 5, report.Invalid, "spec.ports[1].name", "Duplicate", "Service default/x"},
		{"Service protocol", service("  ports: [{port: 80, protocol: HTTP}]\n"), 5, report.Invalid, "spec.ports[0].protocol", "Unsupported", "Service default/x"},
		{"Service clusterIP", service("  ports: [{port: 80}]\n  clusterIP: x\n"), 4, report.Invalid, "spec.clusterIPs[0]", "IP address", "Service default/x"},
		{"Service externalName", service("  type: ExternalName\n"), 4, report.Invalid, "spec.externalName", "", "Service default/x"},

		{"EndpointSlice type", "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: x}\nendpoints: []\n", 1, report.Invalid, "addressType", "Unsupported", "EndpointSlice default/x"},
		{"EndpointSlice address", "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: x}\naddressType: IPv4\nendpoints:\n- addresses: ['fd00::1']\n", 6, report.Invalid, "endpoints[0].addresses[0]", "IPv4", "EndpointSlice default/x"},
		{"EndpointSlice port", "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: x}\naddressType: IPv4\nports: [{port: 0}]\n", 5, report.Invalid, "ports[0].port", "between", "EndpointSlice default/x"},

		{"Pod without containers", pod("  restartPolicy: Never\n"), 4, report.Invalid, "spec.containers", "needs a container", "Pod default/x"},
		{"Pod container twice", pod("  containers: [{name: a}, {name: a}]\n"), 5, report.Invalid, "spec.containers[1].name", "Duplicate", "Pod default/x"},
		{"Pod port", pod("  containers: [{name: a, ports: [{containerPort: 0}]}]\n"), 5, report.Invalid, "spec.containers[0].ports[0].containerPort", "between", "Pod default/x"},
		{"Pod probe", pod("  containers: [{name: a, livenessProbe: {periodSeconds: 1}}]\n"), 5, report.Invalid, "spec.containers[0].livenessProbe", "exactly one", "Pod default/x"},
		{"Pod address", pod("  containers: [{name: a}]\nstatus: {podIP: x}\n"), 6, report.Invalid, "status.podIP", "IP address", "Pod default/x"},

		{"Ingress without rules", ingress("  ingressClassName: meshd\n"), 4, report.Invalid, "spec", "needs rules", "Ingress default/x"},
		{"Ingress host", ingress("  rules: [{host: 10.0.0.1}]\n"), 5, report.Invalid, "spec.rules[0].host", "not an IP address", "Ingress default/x"},
		{"Ingress path", ingress("  rules: [{http: {paths: [{path: a, pathType: Prefix, backend: " + backend + "}]}}]\n"), 5, report.Invalid, "spec.rules[0].http.paths[0].path", "begin with /", "Ingress default/x"},
		{"Ingress pathType", ingress("  rules: [{http: {paths: [{path: /, backend: " + backend + "}]}}]\n"), 5, report.Invalid, "spec.rules[0].http.paths[0].pathType", "Prefix", "Ingress default/x"},
		{"Ingress backend", ingress("  defaultBackend: {service: {name: s}}\n"), 5, report.Invalid, "spec.defaultBackend.service.port", "exactly one of name and number", "Ingress default/x"},
		{"Ingress no backend", ingress("  defaultBackend: {}\n"), 5, report.Invalid, "spec.defaultBackend", "exactly one of service", "Ingress default/x"},
		{"IngressClass", "apiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {name: x}\nspec: {}\n", 4, report.Invalid, "spec.controller", "who carries out", "IngressClass x"},

		{"Deployment selector", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\nspec: {selector: {matchLabels: {a: b}}, template: {spec: {containers: [{name: c}]}}}\n", 4, report.Invalid, "spec.template.metadata.labels", "does not match", "Deployment default/x"},
		{"Deployment no selector", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\nspec: {template: {spec: {containers: [{name: c}]}}}\n", 4, report.Invalid, "spec.selector", "which pods", "Deployment default/x"},
		{"Job restartPolicy", "apiVersion: batch/v1\nkind: Job\nmetadata: {name: x}\nspec: {template: {spec: {containers: [{name: c}]}}}\n", 4, report.Invalid, "spec.template.spec.restartPolicy", "Unsupported", "Job default/x"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			file := "# a comment\n" + good + "---\n" + tt.doc + "---\n" + strings.Replace(good, "good", "better", 1)
			start := strings.Count("# a comment\n"+good+"---\n", "\n")
			objects, findings := Decode([]byte(file), "dir/f.yaml")
			if len(objects) != 2 || objects[0].GetName() != "good" || objects[1].GetName() != "better" {
				t.Errorf("the documents beside it are %d, want 2", len(objects))
			}
			var said []string
			for _, f := range findings {
				said = append(said, fmt.Sprintf("%s:%d %s %s %q [%s]", f.File, f.Line, f.Object, f.Reason, f.Field, f.Message))
				if f.File == "dir/f.yaml" && f.Line == start+tt.line && f.Object.String() == tt.object && f.Condition == report.Accepted &&
					f.Reason == tt.reason && f.Field == tt.field && strings.Contains(f.Message, tt.text) {
					return
				}
			}
			t.Errorf("no finding at line %d of %q, %s, field %q with %q in\n%s", start+tt.line, tt.object, tt.reason, tt.field, tt.text, strings.Join(said, "\n"))
		})
	}
}
