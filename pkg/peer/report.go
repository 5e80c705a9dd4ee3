package peer

import (
	"slices"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
	"github.com/meshd-io/meshd/pkg/report"
	"github.com/meshd-io/meshd/pkg/status"
)

// Report is what one replica knows.
type Report struct {
	Objects []Object
	// Issuers are the certificates that it signs with.
	Issuers []meshv1a1.CertificateStatus
	// Proxies is how many are connected to it.
	Proxies int
	// Trust is SHA-256, in hex, of the bundle that all of them have acknowledged; "" while one has not.
	Trust string
}

// Object is how far the proxies of one replica are with an object.
type Object struct {
	report.Object
	UID string
	// Generation that the replica has published.
	Generation int64
	Progress   status.Progress
	// Findings about this object.
	Findings []report.Finding
}

// State is what is known of one replica; immutable.
type State struct {
	// Name of its pod.
	Name string
	// Known is false until it has told everything once.
	Known   bool
	Issuers []meshv1a1.CertificateStatus
	Proxies int
	Trust   string
	objects map[report.Object]Object
}

// Findings are all that the replica has told.
func (s State) Findings() []report.Finding {
	var out []report.Finding
	for _, o := range s.objects {
		out = append(out, o.Findings...)
	}
	return report.Sort(out)
}

const (
	maxLaggards = 10
	maxMessages = 5
)

// Merge adds what the other replicas tell of a generation of an object to one's
// own progress, with their findings. A replica that is not known, or that has
// published an older generation, or another object of the name, is named in
// Progress.Replicas. Pure.
func Merge(own Object, others []State) (status.Progress, []report.Finding) {
	sum, findings := own.Progress, slices.Clone(own.Findings)
	sum.Laggards, sum.Messages, sum.Replicas = slices.Clone(sum.Laggards), slices.Clone(sum.Messages), slices.Clone(sum.Replicas)
	for _, other := range others {
		o, ok := other.objects[own.Object]
		if !other.Known || !ok || o.UID != own.UID || o.Generation < own.Generation {
			sum.Replicas = append(sum.Replicas, other.Name)
			continue
		}
		sum.Total += o.Progress.Total
		sum.Acknowledged += o.Progress.Acknowledged
		sum.Rejected += o.Progress.Rejected
		sum.Laggards = append(sum.Laggards, o.Progress.Laggards...)
		for _, m := range o.Progress.Messages {
			if len(sum.Messages) < maxMessages && !slices.Contains(sum.Messages, m) {
				sum.Messages = append(sum.Messages, m)
			}
		}
		findings = append(findings, o.Findings...)
	}
	slices.Sort(sum.Laggards)
	sum.Laggards = slices.Compact(sum.Laggards)
	sum.Laggards = sum.Laggards[:min(len(sum.Laggards), maxLaggards)]
	slices.Sort(sum.Replicas)
	return sum, report.Sort(findings)
}
