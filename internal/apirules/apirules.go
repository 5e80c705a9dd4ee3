// Package apirules has specs of every kind of meshd's, and what becomes of
// them: the same verdict wherever they are judged, from files (pkg/crds) or by
// an API server (test/apiserver).
package apirules

import (
	"fmt"
	"slices"
)

// Table is specs of one kind.
type Table struct {
	Kind  string
	Rules []Rule
}

// Rule is a spec, in YAML on one line, and what becomes of it: accepted when
// Field is "", otherwise refused at that field with a message that contains Text.
type Rule struct{ Spec, Field, Text string }

// Tables of all kinds.
func Tables() []Table {
	return slices.Concat(targetRefs(), peerAuthentications(), requestAuthentications(), authorizationPolicies(), paths(),
		trafficPolicies(), meshConfigs(), certificateAuthorities(), workloads())
}

// Name is what an object of the kind may be called.
func (t Table) Name() string {
	if t.ClusterScoped() {
		return "default"
	}
	return "x"
}

// ClusterScoped kinds have no namespace.
func (t Table) ClusterScoped() bool {
	return t.Kind == "MeshConfig" || t.Kind == "CertificateAuthority"
}

// Document is the object with this spec, in YAML. The spec is on line 4.
func (t Table) Document(r Rule) string {
	return fmt.Sprintf("apiVersion: meshd.io/v1alpha1\nkind: %s\nmetadata: {name: %s}\nspec: %s\n", t.Kind, t.Name(), r.Spec)
}
