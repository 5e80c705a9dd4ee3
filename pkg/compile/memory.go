package compile

import (
	"maps"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
	"github.com/meshd-io/meshd/pkg/compile/object"
	"github.com/meshd-io/meshd/pkg/compile/policy"
	"github.com/meshd-io/meshd/pkg/crds"
	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/report"
)

// memory holds the last good versions of meshd's policies: what stays in force
// when an object is changed into one that cannot be compiled. An object that is
// gone is forgotten.
type memory struct {
	meshConfigs           map[model.Name]*meshv1a1.MeshConfig
	peerAuthentications   map[model.Name]*meshv1a1.PeerAuthentication
	authorizationPolicies map[model.Name]*meshv1a1.AuthorizationPolicy
	trafficPolicies       map[model.Name]*meshv1a1.TrafficPolicy
}

func newMemory() memory {
	return memory{
		meshConfigs:           map[model.Name]*meshv1a1.MeshConfig{},
		peerAuthentications:   map[model.Name]*meshv1a1.PeerAuthentication{},
		authorizationPolicies: map[model.Name]*meshv1a1.AuthorizationPolicy{},
		trafficPolicies:       map[model.Name]*meshv1a1.TrafficPolicy{},
	}
}

// inForce reads an object, falling back to its last good version, and remembers
// what is the last good version from now on.
func inForce[O policy.Object, C any](last map[model.Name]O, obj O, read func(O) (C, []report.Finding)) (c C, ok bool, fs []report.Finding) {
	name := object.Name(obj)
	c, accepted, ok, fs := policy.InForce(obj, last[name], read)
	remember(last, obj, accepted)
	return c, ok, fs
}

func remember[O metav1.Object](last map[model.Name]O, obj O, accepted bool) {
	name := object.Name(obj)
	if accepted {
		last[name] = obj
	} else if before, there := last[name]; there && before.GetUID() != obj.GetUID() {
		delete(last, name)
	}
}

// forget drops what is not in the snapshot.
func (m memory) forget(snap *crds.Snapshot) {
	keep(m.peerAuthentications, snap.PeerAuthentications)
	keep(m.authorizationPolicies, snap.AuthorizationPolicies)
	keep(m.trafficPolicies, snap.TrafficPolicies)
}

func keep[O metav1.Object](last map[model.Name]O, objects []O) {
	there := make(map[model.Name]bool, len(objects))
	for _, obj := range objects {
		there[object.Name(obj)] = true
	}
	maps.DeleteFunc(last, func(n model.Name, _ O) bool { return !there[n] })
}
