package policy

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
	"github.com/meshd-io/meshd/pkg/compile/object"
	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/report"
)

// Defaults are MeshConfig's, where no policy says otherwise.
type Defaults struct {
	Mode        model.Mode
	DefaultDeny bool
	Traffic     Settings
	// Origin is MeshConfig's; its Kind is "" where there is none.
	Origin report.Origin
	// TrustDomain and Aliases that identities in policies are of.
	TrustDomain string
	Aliases     []string
}

// Policy is what all kinds have in common.
type Policy struct {
	Origin  report.Origin
	age     object.Age
	targets targets
}

func (p Policy) policy() Policy { return p }

// Ranked is a policy of any kind.
type Ranked interface{ policy() Policy }

// Older orders policies: the older first, then by name.
func Older[P Ranked](a, b P) int { return a.policy().age.Compare(b.policy().age) }

// Object is a policy as users write it.
type Object interface {
	comparable
	metav1.Object
}

// InForce reads an object; where it cannot be compiled, last, its last good
// version. accepted reports whether obj itself is in force, ok whether either
// is: otherwise c is what could be read of obj.
func InForce[O Object, C any](obj, last O, read func(O) (C, []report.Finding)) (c C, accepted, ok bool, faults []report.Finding) {
	c, fs := read(obj)
	if !refused(fs) {
		return c, true, true, fs
	}
	var absent O
	if last != absent && last.GetUID() == obj.GetUID() {
		if before, faults := read(last); !refused(faults) {
			return before, false, true, fs
		}
	}
	return c, false, false, fs
}

// Unsupported is what is wrong with every RequestAuthentication.
func Unsupported(obj *meshv1a1.RequestAuthentication) report.Finding {
	return object.Refused(object.Origin("RequestAuthentication", obj), report.Unsupported, "",
		"this version of meshd does not check JWTs: remove the object, and keep such requests away by other means")
}

// refused reports whether an object with these findings is not in force.
func refused(fs []report.Finding) bool {
	return slices.ContainsFunc(fs, func(f report.Finding) bool {
		return f.Condition == report.Accepted && !f.Reason.Informs()
	})
}
