package ingress

import (
	"cmp"
	"slices"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/meshd-io/meshd/pkg/compile/object"
)

const (
	// Controller is the name by which IngressClasses ask for meshd.
	Controller = "meshd.io/ingress"
	// Class is meshd's also where no IngressClass object says so.
	Class = "meshd"
	// classAnnotation is older than spec.ingressClassName and means the same.
	classAnnotation = "kubernetes.io/ingress.class"
)

// Ours are the Ingresses of meshd's classes, the older first.
func Ours(ingresses []*networkingv1.Ingress, classes []*networkingv1.IngressClass) []*networkingv1.Ingress {
	var out []*networkingv1.Ingress
	for _, in := range ingresses {
		if Claims(in, classes) {
			out = append(out, in)
		}
	}
	slices.SortFunc(out, func(a, b *networkingv1.Ingress) int { return object.AgeOf(a).Compare(object.AgeOf(b)) })
	return out
}

// Claims reports whether an Ingress is meshd's: its class, by name, by the old
// annotation, or the default one where it names none, has meshd's controller.
// A class named meshd that has no object is meshd's too.
func Claims(in *networkingv1.Ingress, classes []*networkingv1.IngressClass) bool {
	name := className(in, classes)
	for _, c := range classes {
		if c.Name == name {
			return c.Spec.Controller == Controller
		}
	}
	return name == Class
}

// className: the field has the say over the annotation, of which Kubernetes still knows.
func className(in *networkingv1.Ingress, classes []*networkingv1.IngressClass) string {
	if in.Spec.IngressClassName != nil {
		return *in.Spec.IngressClassName
	}
	if name, named := in.Annotations[classAnnotation]; named {
		return name
	}
	return defaultClass(classes)
}

// defaultClass is the class of Ingresses that name none: of several that are
// marked, the newest, as the API server chooses. "" is none.
func defaultClass(classes []*networkingv1.IngressClass) string {
	var marked []*networkingv1.IngressClass
	for _, c := range classes {
		if c.Annotations[networkingv1.AnnotationIsDefaultIngressClass] == "true" {
			marked = append(marked, c)
		}
	}
	if len(marked) == 0 {
		return ""
	}
	newest := slices.MinFunc(marked, func(a, b *networkingv1.IngressClass) int {
		return cmp.Or(b.CreationTimestamp.Compare(a.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	return newest.Name
}
