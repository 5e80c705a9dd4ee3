package ingress

import (
	"cmp"
	"slices"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/meshd-io/meshd/pkg/compile/object"
	"github.com/meshd-io/meshd/pkg/crds"
)

// Controller is the name by which IngressClasses ask for meshd.
const Controller = "meshd.io/ingress"

// className is meshd's class also where no IngressClass object says so.
const className = "meshd"

// classAnnotation is older than spec.ingressClassName and means the same.
const classAnnotation = "kubernetes.io/ingress.class"

// ours are the Ingresses of meshd's classes, older first.
func ours(snap *crds.Snapshot) []*networkingv1.Ingress {
	controllers := map[string]string{}
	for _, c := range snap.IngressClasses {
		controllers[c.Name] = c.Spec.Controller
	}
	standard := defaultClass(snap.IngressClasses)
	var out []*networkingv1.Ingress
	for _, in := range snap.Ingresses {
		class := standard
		if in.Spec.IngressClassName != nil {
			class = *in.Spec.IngressClassName
		} else if named, ok := in.Annotations[classAnnotation]; ok {
			class = named
		}
		controller, known := controllers[class]
		if controller == Controller || (!known && class == className) {
			out = append(out, in)
		}
	}
	slices.SortFunc(out, func(a, b *networkingv1.Ingress) int { return object.Age(a, b) })
	return out
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
