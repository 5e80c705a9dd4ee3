package integration

import (
	"encoding/json"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// status is what the tests look at of an object's status.
type status struct {
	ObservedGeneration int64
	Conditions         []metav1.Condition
	Proxies            struct{ Total, Acknowledged, Rejected int }
	Laggards           []string
	Targets            []struct {
		Ref          struct{ Kind, Name string }
		Conditions   []metav1.Condition
		OverriddenBy []string
	}
}

// status is that of an object in the feature's namespace.
func (w *world) status(kind, name string) status {
	w.Helper()
	s, err := w.Status(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	for _, o := range s.Objects {
		if o.Kind == kind && o.Name == name && (o.Namespace == w.ns || o.Namespace == "") {
			var st status
			if err := json.Unmarshal(o.Status, &st); err != nil {
				w.Fatal(err)
			}
			return st
		}
	}
	w.Fatalf("%s %s has no status: %+v", kind, name, s.Objects)
	return status{}
}

func (w *world) condition(kind, name, typ string) metav1.Condition {
	w.Helper()
	for _, c := range w.status(kind, name).Conditions {
		if c.Type == typ {
			return c
		}
	}
	w.Fatalf("%s %s has no condition %s", kind, name, typ)
	return metav1.Condition{}
}
