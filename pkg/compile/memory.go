package compile

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
	"github.com/meshd-io/meshd/pkg/compile/object"
	"github.com/meshd-io/meshd/pkg/compile/policy"
	"github.com/meshd-io/meshd/pkg/crds"
	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/report"
)

// Memory holds the last good versions of meshd's policies: what stays in force
// when an object is changed into one that cannot be compiled. It is immutable;
// the zero value remembers nothing.
type Memory struct {
	meshConfig *meshv1a1.MeshConfig
	policies   policy.LastGood
}

// Remember gives the memory after a compilation: it takes in the objects that
// were accepted, keeps what it has of those that were not, and forgets those
// that are gone. The findings are Compile's on the same snapshot.
func Remember(previous Memory, snap *crds.Snapshot, findings []report.Finding) Memory {
	bad := map[report.Object]bool{}
	for _, f := range findings {
		if f.Condition == report.Accepted && !f.Reason.Informs() {
			bad[f.Object] = true
		}
	}
	next := Memory{policies: policy.LastGood{
		PeerAuthentications:   remember("PeerAuthentication", previous.policies.PeerAuthentications, snap.PeerAuthentications, bad),
		AuthorizationPolicies: remember("AuthorizationPolicy", previous.policies.AuthorizationPolicies, snap.AuthorizationPolicies, bad),
		TrafficPolicies:       remember("TrafficPolicy", previous.policies.TrafficPolicies, snap.TrafficPolicies, bad),
	}}
	last := map[model.Name]*meshv1a1.MeshConfig{}
	if previous.meshConfig != nil {
		last[object.Name(previous.meshConfig)] = previous.meshConfig
	}
	next.meshConfig = remember("MeshConfig", last, snap.MeshConfigs, bad)[model.Name{Name: defaultName}]
	return next
}

func remember[O metav1.Object](kind string, previous map[model.Name]O, objects []O, bad map[report.Object]bool) map[model.Name]O {
	next := map[model.Name]O{}
	for _, obj := range objects {
		name := object.Name(obj)
		if !bad[report.Object{Kind: kind, Namespace: name.Namespace, Name: name.Name}] {
			next[name] = obj
			continue
		}
		if last, ok := previous[name]; ok && last.GetUID() == obj.GetUID() {
			next[name] = last
		}
	}
	return next
}
