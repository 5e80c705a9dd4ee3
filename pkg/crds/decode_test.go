package crds

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
)

func TestDecodeGivesTypedObjectsWithDefaults(t *testing.T) {
	objects, findings := Decode([]byte(`# a comment
---
apiVersion: v1
kind: Service
metadata: {name: loans-svc}
spec:
  ports: [{port: 8090}]
---
{"apiVersion": "meshd.io/v1alpha1", "kind": "PeerAuthentication",
	"metadata": {"name": "default", "namespace": "shop"}, "spec": {"mode": "Strict"}}
`), "a.yaml")
	for _, f := range findings {
		t.Errorf("finding %+v", f)
	}
	if len(objects) != 2 {
		t.Fatalf("%d objects, want 2", len(objects))
	}
	svc, ok := objects[0].Resource.(*corev1.Service)
	if !ok || svc.Namespace != "default" || svc.Spec.Ports[0].TargetPort.IntVal != 8090 || svc.Spec.Ports[0].Protocol != corev1.ProtocolTCP {
		t.Errorf("service = %+v", objects[0].Resource)
	}
	pa, ok := objects[1].Resource.(*meshv1a1.PeerAuthentication)
	if !ok || pa.Spec.Rollout != "Immediate" || objects[1].Line != 9 || objects[1].File != "a.yaml" {
		t.Errorf("peer authentication = %+v at %d", objects[1].Resource, objects[1].Line)
	}
}
