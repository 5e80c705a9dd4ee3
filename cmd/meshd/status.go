package main

import (
	"encoding/json"
	"slices"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meshd-io/meshd/pkg/console"
	"github.com/meshd-io/meshd/pkg/crds"
	"github.com/meshd-io/meshd/pkg/peer"
	"github.com/meshd-io/meshd/pkg/report"
	"github.com/meshd-io/meshd/pkg/status"
	"github.com/meshd-io/meshd/pkg/xds/acks"
)

// objects renders the status of every object that has one, for the console.
func (s *stater) objects(snapshot *crds.Snapshot, findings []report.Finding, ledger acks.Ledger) []console.Object {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := status.All(snapshot, status.Facts{
		About: s.about(findings, ledger), Authority: s.authority(), Now: now(),
		Previous: func(o report.Object, _ types.UID) []metav1.Condition { return s.previous[o] },
	})
	s.formers.keep(all)
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

// aboutObject is what status.All asks for.
type aboutObject = func(report.Object, types.UID, int64) (status.Progress, []report.Finding)

// about is what this process knows of objects by itself.
func (s *stater) about(findings []report.Finding, ledger acks.Ledger) aboutObject {
	byObject := map[report.Object][]report.Finding{}
	for _, f := range findings {
		byObject[f.Object] = append(byObject[f.Object], f)
	}
	look := lookAt(ledger, s.cache, s.formers.len())
	return func(o report.Object, uid types.UID, generation int64) (status.Progress, []report.Finding) {
		p := s.formers.progress(o, revision{uid, generation}, look)
		return status.Progress{
			Total: p.Total, Acknowledged: p.Acknowledged, Rejected: p.Rejected, Laggards: p.Laggards, Messages: p.Messages,
		}, byObject[o]
	}
}

// Report is what this replica tells the others; ok is false while something is
// compiled but not yet published.
func (s *stater) Report() (r peer.Report, ok bool) {
	findings, snapshot, ok := s.pipeline.published()
	if !ok {
		return r, false
	}
	ledger := s.book.Ledger()
	about := s.about(findings, ledger)
	all := status.All(snapshot, status.Facts{About: func(o report.Object, uid types.UID, generation int64) (status.Progress, []report.Finding) {
		p, fs := about(o, uid, generation)
		r.Objects = append(r.Objects, peer.Object{Object: o, UID: string(uid), Generation: generation, Progress: p, Findings: fs})
		return p, fs
	}})
	s.formers.keep(all)
	r.Issuers, r.Proxies = s.authority().Issuers, ledger.Len()
	r.Trust = s.pipeline.trusted()
	return r, true
}

// leader renders statuses for the API server from what every replica knows.
type leader struct {
	*stater
	// peers are the other replicas as they are known.
	peers func() []peer.State
	// ingress gives the status of Ingresses; nil leaves them alone.
	ingress func(*crds.Snapshot) func(*networkingv1.Ingress) *networkingv1.IngressStatus
	// until bounds how long a new leader waits for what it does not know yet.
	until time.Time
}

// patience of a new leader with replicas that have not told and proxies that have
// not come back: until then they would seem to concern nothing.
const patience = 10 * time.Second

// newLeader is made when leadership begins.
func newLeader(s *stater, peers func() []peer.State,
	ingress func(*crds.Snapshot) func(*networkingv1.Ingress) *networkingv1.IngressStatus) *leader {
	time.AfterFunc(patience, s.pipeline.announce)
	return &leader{stater: s, peers: peers, ingress: ingress, until: time.Now().Add(patience)}
}

// Desired is status.WriterConfig.Desired.
func (l *leader) Desired(previous status.Previous) (all []status.Desired, ok bool) {
	findings, snapshot, ok := l.pipeline.published()
	if !ok {
		return nil, false
	}
	ledger, others := l.book.Ledger(), l.peers()
	if time.Now().Before(l.until) && !everybody(snapshot, ledger.Len(), others) {
		return nil, false
	}
	about, authority := l.about(findings, ledger), l.authority()
	for _, other := range others {
		authority.Issuers = append(slices.Clone(authority.Issuers), other.Issuers...)
	}
	facts := status.Facts{
		Authority: authority, Previous: previous, Now: now(),
		About: func(o report.Object, uid types.UID, generation int64) (status.Progress, []report.Finding) {
			p, fs := about(o, uid, generation)
			return peer.Merge(peer.Object{Object: o, UID: string(uid), Generation: generation, Progress: p, Findings: fs}, others)
		},
	}
	if l.ingress != nil {
		facts.Ingress = l.ingress(snapshot)
	}
	all = status.All(snapshot, facts)
	l.formers.keep(all)
	return all, true
}

// Findings is status.EventsConfig.Findings: those of every replica.
func (l *leader) Findings() (findings []report.Finding, snapshot *crds.Snapshot, ok bool) {
	findings, snapshot, ok = l.pipeline.published()
	for _, other := range l.peers() {
		findings = append(findings, other.Findings()...)
	}
	return report.Sort(findings), snapshot, ok
}

// everybody reports whether every replica has told and as many proxies are
// connected as there are ready pods that have one.
func everybody(snapshot *crds.Snapshot, connected int, others []peer.State) bool {
	for _, other := range others {
		if !other.Known {
			return false
		}
		connected += other.Proxies
	}
	ready := 0
	for _, pod := range snapshot.Pods {
		if hasReadyProxy(pod) {
			ready++
		}
	}
	return connected >= ready
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
	for _, a := range p.active {
		if a.mesh != mesh {
			return nil, nil, false
		}
	}
	return report.Sort(slices.Concat(p.findings, p.translated, p.cache.Findings())), p.current.snapshot, true
}

// restated takes an input that differs from the current one in the statuses of
// objects at most, as after meshd has written them: nothing else follows from it.
func (p *pipeline) restated(in input) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	same := p.current.snapshot != nil && in.snapshot.SameButStatus(p.current.snapshot) &&
		in.trust == p.current.trust && slices.Equal(in.findings, p.current.findings)
	if same {
		p.current = in
	}
	return same
}

// Changed gives a channel that is closed when anything has moved that a status tells of.
func (p *pipeline) Changed() <-chan struct{} { return p.changed.wait() }
