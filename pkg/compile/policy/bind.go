package policy

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/report"
)

// Bind puts modes and authorisation on the ports of workloads. A gateway is
// reached in plaintext from outside: its ports are its listeners', not these.
func (p *Policies) Bind(workloads map[model.WorkloadKey]*model.Workload, inv inventory) []report.Finding {
	var fs []report.Finding
	for _, w := range slices.SortedFunc(maps.Values(workloads), func(a, b *model.Workload) int { return compareKeys(a.Key, b.Key) }) {
		if w.Key.Kind == model.GatewayProxy {
			w.Rest.Mode = model.Disable
			continue
		}
		seen := labelsOf(w.Key)
		fs = append(fs, p.bindPeers(w, seen)...)
		p.bindAuthz(w, seen, inv)
	}
	return fs
}

// labelsOf are the labels in a key: all that any selector of its namespace looks at.
func labelsOf(key model.WorkloadKey) labels.Set {
	out := labels.Set{}
	if key.Labels == "" {
		return out
	}
	for pair := range strings.SplitSeq(key.Labels, ",") {
		k, v, _ := strings.Cut(pair, "=")
		out[k] = v
	}
	return out
}

func compareKeys(a, b model.WorkloadKey) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Namespace, b.Namespace),
		cmp.Compare(a.ServiceAccount, b.ServiceAccount), cmp.Compare(a.Labels, b.Labels))
}
