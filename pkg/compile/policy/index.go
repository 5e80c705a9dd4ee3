package policy

import (
	"slices"

	"github.com/meshd-io/meshd/pkg/model"
)

// index finds policies by what they target, so that a namespace with many
// Services and as many policies costs no more than their sum.
type index struct {
	broad     map[string][]int     // by namespace: those that target it or pods of it
	byService map[model.Name][]int // those that target the Service
}

// indexOf indexes n policies; at gives the namespace and the targets of one.
func indexOf(n int, at func(i int) (namespace string, ts targets)) index {
	x := index{broad: map[string][]int{}, byService: map[model.Name][]int{}}
	for i := range n {
		namespace, ts := at(i)
		for _, t := range ts {
			switch t.kind {
			case kindNamespace, kindPod:
				x.broad[namespace] = append(x.broad[namespace], i)
			case kindService:
				name := model.Name{Namespace: namespace, Name: t.name}
				x.byService[name] = append(x.byService[name], i)
			}
		}
	}
	return x
}

// of are the policies that target the namespace, pods of it or one of the
// Services, in the order in which they were indexed.
func (x index) of(namespace string, services ...model.Name) []int {
	out := slices.Clone(x.broad[namespace])
	for _, s := range services {
		if s.Namespace == namespace {
			out = append(out, x.byService[s]...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
