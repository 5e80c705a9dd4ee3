package compile

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
	"github.com/meshd-io/meshd/pkg/compile/object"
	"github.com/meshd-io/meshd/pkg/crds"
)

// decodeLax decodes objects without defaults and rules. Compilation must stand
// on its own: an object may be older than the schema that would refuse it now.
// Of two objects of one name the first counts.
func decodeLax(t *testing.T, data []byte) *crds.Snapshot {
	t.Helper()
	snap := &crds.Snapshot{}
	for doc := range strings.SplitSeq(string(data), "\n---\n") {
		var meta metav1.TypeMeta
		if err := yaml.Unmarshal([]byte(doc), &meta); err != nil {
			t.Fatal(err)
		}
		switch meta.Kind {
		case "":
		case "Service":
			snap.Services = decodeInto(t, snap.Services, doc, &corev1.Service{})
		case "Pod":
			snap.Pods = decodeInto(t, snap.Pods, doc, &corev1.Pod{})
		case "Secret":
			snap.Secrets = decodeInto(t, snap.Secrets, doc, &corev1.Secret{})
		case "EndpointSlice":
			snap.EndpointSlices = decodeInto(t, snap.EndpointSlices, doc, &discoveryv1.EndpointSlice{})
		case "Ingress":
			snap.Ingresses = decodeInto(t, snap.Ingresses, doc, &networkingv1.Ingress{})
		case "MeshConfig":
			snap.MeshConfigs = decodeInto(t, snap.MeshConfigs, doc, &meshv1a1.MeshConfig{})
		case "CertificateAuthority":
			snap.CertificateAuthorities = decodeInto(t, snap.CertificateAuthorities, doc, &meshv1a1.CertificateAuthority{})
		case "PeerAuthentication":
			snap.PeerAuthentications = decodeInto(t, snap.PeerAuthentications, doc, &meshv1a1.PeerAuthentication{})
		case "AuthorizationPolicy":
			snap.AuthorizationPolicies = decodeInto(t, snap.AuthorizationPolicies, doc, &meshv1a1.AuthorizationPolicy{})
		case "TrafficPolicy":
			snap.TrafficPolicies = decodeInto(t, snap.TrafficPolicies, doc, &meshv1a1.TrafficPolicy{})
		case "Workload":
			snap.Workloads = decodeInto(t, snap.Workloads, doc, &meshv1a1.Workload{})
		default:
			t.Fatalf("kind %s is not decoded here", meta.Kind)
		}
	}
	return snap
}

func decodeInto[O metav1.Object](t *testing.T, list []O, doc string, obj O) []O {
	t.Helper()
	if err := yaml.UnmarshalStrict([]byte(doc), obj); err != nil {
		t.Fatal(err)
	}
	if slices.ContainsFunc(list, func(o O) bool { return object.Name(o) == object.Name(obj) }) {
		return list
	}
	return append(list, obj)
}
