package main

import (
	"encoding/json"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meshd-io/meshd/pkg/console"
	"github.com/meshd-io/meshd/pkg/crds"
	"github.com/meshd-io/meshd/pkg/report"
	"github.com/meshd-io/meshd/pkg/status"
	"github.com/meshd-io/meshd/pkg/xds/acks"
	"github.com/meshd-io/meshd/pkg/xds/scope"
)

// objects renders the status of every object that has one, for the console.
func (s *stater) objects(snapshot *crds.Snapshot, findings []report.Finding, ledger acks.Ledger) []console.Object {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := status.All(snapshot, status.Facts{
		Findings: findings, Progress: s.progress(ledger), Authority: s.authority(), Now: now(),
		Previous: func(o report.Object, _ types.UID) []metav1.Condition { return s.previous[o] },
	})
	told := map[report.Object][]metav1.Condition{}
	out := make([]console.Object, 0, len(all))
	for _, d := range all {
		text, err := json.Marshal(d.Shown)
		if err != nil {
			text = []byte("null") // status types always encode
		}
		told[d.Object] = d.Conditions
		out = append(out, console.Object{Kind: d.Kind, Namespace: d.Namespace, Name: d.Name, Generation: d.Generation, Status: text})
	}
	s.previous = told
	return out
}

// progress is how far this process' own proxies are.
func (s *stater) progress(ledger acks.Ledger) func(report.Object, int64) status.Progress {
	return func(o report.Object, generation int64) status.Progress {
		p := acks.ProgressOf(ledger, func(key scope.Key) []acks.Resource { return s.cache.Concerned(key, o) }, generation)
		return status.Progress{
			Total: p.Total, Acknowledged: p.Acknowledged, Rejected: p.Rejected, Laggards: p.Laggards, Messages: p.Messages,
		}
	}
}

func now() metav1.Time { return metav1.NewTime(time.Now().UTC().Truncate(time.Second)) }

// published is the newest snapshot of which every key that proxies have is
// published; ok is false while one is not. Before that, an object of which
// nothing is published yet would seem to concern nobody.
func (p *pipeline) published() (findings []report.Finding, snapshot *crds.Snapshot, ok bool) {
	mesh := p.mesh.Load()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current.snapshot == nil {
		return nil, nil, false
	}
	findings = slices.Clone(p.findings)
	for _, a := range p.active {
		if a.mesh != mesh {
			return nil, nil, false
		}
		findings = append(findings, a.findings...)
	}
	return report.Sort(append(findings, p.cache.Findings()...)), p.current.snapshot, true
}
