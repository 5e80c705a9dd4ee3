package object

import (
	"cmp"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/report"
)

// Name of a namespaced object.
func Name(m metav1.Object) model.Name {
	return model.Name{Namespace: m.GetNamespace(), Name: m.GetName()}
}

// Origin of what is made from an object of the given kind.
func Origin(kind string, m metav1.Object) report.Origin {
	return report.Origin{
		Object:     report.Object{Kind: kind, Namespace: m.GetNamespace(), Name: m.GetName()},
		Generation: m.GetGeneration(),
	}
}

// Age is what the order of precedence goes by wherever two objects of one level disagree.
type Age struct {
	Name model.Name
	born time.Time
}

// AgeOf an object.
func AgeOf(m metav1.Object) Age { return Age{Name: Name(m), born: m.GetCreationTimestamp().Time} }

// Compare orders objects: the older first, then by namespace and name.
func (a Age) Compare(b Age) int { return cmp.Or(a.born.Compare(b.born), a.Name.Compare(b.Name)) }

// Refused is a finding that an object, or a part of it, is not in force.
func Refused(o report.Origin, r report.Reason, field, format string, args ...any) report.Finding {
	return find(o, report.Accepted, r, field, fmt.Sprintf(format, args...))
}

// Overridden is a finding that another object has the say in a field, under a
// target reference ("" where targetRefs was left out).
func Overridden(o report.Origin, by report.Object, target, field, format string, args ...any) report.Finding {
	f := find(o, report.Accepted, report.Overridden, field, fmt.Sprintf(format, args...))
	f.By, f.Target = by, target
	return f
}

// Unresolved is a finding on what an object names.
func Unresolved(o report.Origin, r report.Reason, field, format string, args ...any) report.Finding {
	return find(o, report.ResolvedRefs, r, field, fmt.Sprintf(format, args...))
}

func find(o report.Origin, c report.Condition, r report.Reason, field, message string) report.Finding {
	return report.Finding{
		Object: o.Object, Generation: o.Generation,
		Condition: c, Reason: r, Field: field, Message: message,
	}
}
