// Package v1alpha1 has the types of group meshd.io: what users write, with the
// rules that the API server enforces (markers and CEL). It holds no logic.
//
// +kubebuilder:object:generate=true
// +groupName=meshd.io
package v1alpha1
