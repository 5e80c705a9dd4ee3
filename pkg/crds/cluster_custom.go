package crds

import (
	"encoding/json"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
	"github.com/meshd-io/meshd/pkg/report"
)

// custom is a kind of meshd's. It is watched without a type: one object that
// this meshd cannot decode would otherwise take the others of its list with it.
func custom[S any, T structOf[S]](kind, resource string, of T, slice func(*Snapshot) *[]T) *feed {
	return judged(meshv1a1.GroupVersion.WithKind(kind), resource, of, slice)
}

// judged is a kind that a CustomResourceDefinition defines.
func judged[S any, T structOf[S]](gvk schema.GroupVersionKind, resource string, _ T, slice func(*Snapshot) *[]T) *feed {
	watch := &unstructured.Unstructured{}
	watch.SetGroupVersionKind(gvk)
	f := &feed{gvk: gvk, resource: resource, watch: watch, same: sameBut[S, T], ownStatus: true, defined: true}
	f.strip = func(in any) (client.Object, error) {
		switch object := in.(type) {
		case T:
			return object, nil
		case *refusal:
			return object, nil
		case *unstructured.Unstructured:
			return judge(gvk, object)
		}
		return nil, fmt.Errorf("%s: %w: %T", gvk.Kind, errUnexpected, in)
	}
	f.put = putInto(f, slice)
	return f
}

// judge holds an object to the rules of its kind, as a file's document is. It
// gives the typed object with its status, or a refusal.
func judge(gvk schema.GroupVersionKind, u *unstructured.Unstructured) (client.Object, error) {
	u.SetManagedFields(nil)
	status := u.Object["status"]
	delete(u.Object, "status")
	raw, err := json.Marshal(u.Object)
	if err != nil {
		return nil, fmt.Errorf("%s %s/%s: %w", gvk.Kind, u.GetNamespace(), u.GetName(), err)
	}
	f := &finder{ref: report.Object{Kind: gvk.Kind, Namespace: u.GetNamespace(), Name: u.GetName()}}
	object := shared().kinds[gvk].decode(f, gvk, raw)
	refused := object == nil || len(f.out) > 0
	if refused {
		object = shared().decodeLoosely(gvk, raw)
	}
	if object != nil {
		if err := setStatus(object, status); err != nil {
			f.add(report.Invalid, "status", err.Error())
			refused = true
		}
		trim(object, gvk)
	}
	if refused {
		return refuse(u, object, f.out), nil
	}
	return object, nil
}

// trim leaves of metadata what keptMeta does.
func trim(object Resource, gvk schema.GroupVersionKind) {
	object.SetAnnotations(keptMeta(&metav1.ObjectMeta{Annotations: object.GetAnnotations()}).Annotations)
	object.SetFinalizers(nil)
	object.SetOwnerReferences(nil)
	object.SetDeletionTimestamp(nil)
	object.GetObjectKind().SetGroupVersionKind(gvk)
}

// setStatus fills in what decode leaves out, since a user's word on it does not count.
func setStatus(object Resource, status any) error {
	if status == nil {
		return nil
	}
	data, err := json.Marshal(map[string]any{"status": status})
	if err != nil {
		return err
	}
	return json.Unmarshal(data, object)
}

func refuse(u *unstructured.Unstructured, readable Resource, findings []report.Finding) *refusal {
	for i := range findings {
		findings[i].Generation = u.GetGeneration()
		findings[i].File, findings[i].Line = "", 0
	}
	out := &refusal{findings: findings}
	if readable != nil {
		out.readable = readable
	}
	out.SetGroupVersionKind(u.GroupVersionKind())
	out.Name, out.Namespace, out.UID = u.GetName(), u.GetNamespace(), u.GetUID()
	out.ResourceVersion = u.GetResourceVersion()
	return out
}
