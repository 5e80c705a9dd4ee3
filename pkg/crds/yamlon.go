package crds

import meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"

// moveOn puts what was written as `on` and read as `true` where it belongs.
// quoteBooleanKeys does so for files; kubectl and Helm read YAML 1.1, so that
// from a cluster it comes under the other name (Retry.True).
func moveOn(object Resource) {
	var retry *meshv1a1.Retry
	switch o := object.(type) {
	case *meshv1a1.TrafficPolicy:
		retry = o.Spec.Retry
	case *meshv1a1.MeshConfig:
		retry = o.Spec.Defaults.Traffic.Retry
	}
	if retry != nil && len(retry.True) > 0 {
		retry.On, retry.True = retry.True, nil
	}
}
