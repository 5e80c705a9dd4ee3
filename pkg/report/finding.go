package report

import (
	"cmp"
	"slices"
)

// Object names a Kubernetes object. Namespace is "" for cluster-scoped kinds.
type Object struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
}

// String is KIND NAMESPACE/NAME, or KIND NAME.
func (o Object) String() string {
	if o.Namespace == "" {
		return o.Kind + " " + o.Name
	}
	return o.Kind + " " + o.Namespace + "/" + o.Name
}

// Compare orders by kind, namespace, name.
func (o Object) Compare(p Object) int {
	return cmp.Or(cmp.Compare(o.Kind, p.Kind), cmp.Compare(o.Namespace, p.Namespace), cmp.Compare(o.Name, p.Name))
}

// Origin is the object that a part of the model or an Envoy resource was made from.
type Origin struct {
	Object
	// Generation is metadata.generation of the object that was compiled.
	Generation int64 `json:"generation,omitempty"`
	// Rule is the part of the object, such as "rules[0]"; "" is the whole.
	Rule string `json:"rule,omitempty"`
}

// Compare is a total order on origins.
func (o Origin) Compare(p Origin) int {
	return cmp.Or(o.Object.Compare(p.Object), cmp.Compare(o.Generation, p.Generation), cmp.Compare(o.Rule, p.Rule))
}

// Condition is the type of a status condition (DESIGN.md section 4).
type Condition string

// The conditions of meshd's kinds.
const (
	Accepted     Condition = "Accepted"     // the object is valid and in force
	ResolvedRefs Condition = "ResolvedRefs" // everything that the object names exists
	Programmed   Condition = "Programmed"   // every live proxy concerned has acknowledged this generation
)

// Finding is something that a user should know about an object. A finding
// says that its Condition is false, except with a reason for which Informs is true.
type Finding struct {
	Object Object `json:"object"`
	// Generation of the object that was looked at.
	Generation int64     `json:"generation,omitempty"`
	Condition  Condition `json:"condition"`
	Reason     Reason    `json:"reason"`
	// Field is a path into the object such as "spec.rules[0].to[1].paths[0]"; "" is the whole object.
	Field string `json:"field,omitempty"`
	// By is the object that has the say instead, with the reasons Overridden and Conflict.
	By Object `json:"by,omitzero"`
	// Target is the reference under which By has the say, such as "spec.targetRefs[0]"; "" where there is none.
	Target string `json:"target,omitempty"`
	// File and Line say where in the user's files, when the object came from one (1-based; 0 is unknown).
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`
	// Message names the fault and the cure, in one sentence without a final period.
	Message string `json:"message"`
}

// Compare is a total order on findings.
func (f Finding) Compare(g Finding) int {
	return cmp.Or(f.Object.Compare(g.Object), cmp.Compare(f.File, g.File), cmp.Compare(f.Line, g.Line),
		cmp.Compare(f.Condition, g.Condition), cmp.Compare(f.Reason, g.Reason),
		cmp.Compare(f.Field, g.Field), f.By.Compare(g.By), cmp.Compare(f.Target, g.Target), cmp.Compare(f.Message, g.Message))
}

// Sort orders findings and drops those that say the same twice.
func Sort(fs []Finding) []Finding {
	slices.SortFunc(fs, Finding.Compare)
	return slices.Compact(fs)
}
