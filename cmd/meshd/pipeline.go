package main

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/meshd-io/meshd/pkg/compile"
	"github.com/meshd-io/meshd/pkg/crds"
	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/report"
	"github.com/meshd-io/meshd/pkg/telemetry"
	"github.com/meshd-io/meshd/pkg/xds/acks"
	"github.com/meshd-io/meshd/pkg/xds/cache"
	"github.com/meshd-io/meshd/pkg/xds/demand"
	"github.com/meshd-io/meshd/pkg/xds/publish"
	"github.com/meshd-io/meshd/pkg/xds/scope"
)

const (
	// promotionPace bounds how often a listener changes because destinations were promoted (EXPERIMENTS.md E5).
	promotionPace = time.Second
	// sweepPace is how often it is noted which destinations are in use.
	sweepPace = time.Minute
)

// pipeline drives snapshots through the pure stages into the cache:
//
//	snapshot --> compile --> mesh --> publish (per key, with its demand) --> cache
//
// Everything that arrives while it works is merged: it takes the newest
// snapshot and the set of keys that have changed, whatever came in between.
// Each stage costs what has changed.
//
// Who brings a snapshot works it off itself (Work): one that is handed over
// waits behind the proxies that are answering the change before.
type pipeline struct {
	config    compile.Config
	compiler  *compile.Compiler  // turning's
	publisher *publish.Publisher // turning's
	cache     *cache.Cache
	book      *acks.Book
	demand    *demand.Book
	proxies   liveProxies
	metrics   *telemetry.Metrics
	log       *slog.Logger

	mesh atomic.Pointer[model.Mesh]
	wake chan struct{}

	// turning is held by who works.
	turning sync.Mutex
	// absent: some keys have proxies, but no pods. It is turning's.
	absent bool

	mu         sync.Mutex
	next       *input // not compiled yet; nil when there is none
	current    input
	findings   []report.Finding // of the source and of compile
	told       []report.Finding // by compile, part of findings
	translated []report.Finding
	active     map[scope.Key]*activeKey
	denied     []denial // not answered yet
	working    bool

	changed broadcast // of anything of the above, and of the book
}

// input is what the sources and the certificate authority give.
type input struct {
	snapshot *crds.Snapshot
	findings []report.Finding
	trust    model.Trust
}

// activeKey is a key that proxies have.
type activeKey struct {
	dirty bool        // its demand has changed, or nothing is published yet
	mesh  *model.Mesh // that the newest publication was made from
}

func newPipeline(config compile.Config, c *cache.Cache, book *acks.Book, metrics *telemetry.Metrics, log *slog.Logger) *pipeline {
	p := &pipeline{
		config: config, compiler: compile.NewCompiler(), publisher: publish.New(c), cache: c, book: book, metrics: metrics, log: log,
		demand: demand.New(demand.Config{}), proxies: nobody{},
		wake: make(chan struct{}, 1), active: map[scope.Key]*activeKey{},
	}
	book.Watch(p.announce)
	return p
}

// Offer makes an input the newest, which Work works off. It does not block.
func (p *pipeline) Offer(in input) {
	p.mu.Lock()
	p.next = &in
	p.mu.Unlock()
}

// Work does what there is to do in the caller's goroutine; if somebody is at it, Run does it after that.
func (p *pipeline) Work() {
	if !p.turning.TryLock() {
		p.poke()
		return
	}
	defer p.turning.Unlock()
	p.turn()
}

func (p *pipeline) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Run works until ctx ends.
func (p *pipeline) Run(ctx context.Context) {
	promote := time.NewTicker(promotionPace)
	defer promote.Stop()
	sweep := time.NewTicker(sweepPace)
	defer sweep.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-promote.C:
			p.mark(p.demand.Promote())
		case <-sweep.C:
			p.alone(p.sweep)
		case <-p.wake:
			p.alone(p.turn)
		}
	}
}

// alone waits until nobody works, then has f work.
func (p *pipeline) alone(f func()) {
	p.turning.Lock()
	defer p.turning.Unlock()
	f()
}

// turn compiles what is new and publishes what has changed. turning is held.
func (p *pipeline) turn() {
	p.mu.Lock()
	p.working = true
	next := p.next
	p.next = nil
	p.mu.Unlock()
	if next != nil && !p.restated(*next) {
		p.compile(*next)
	}
	p.publish()
	p.deny()
	p.mu.Lock()
	p.working = p.next != nil
	p.mu.Unlock()
	p.announce()
}

func (p *pipeline) compile(in input) {
	began := time.Now()
	config := p.config
	config.Trust = in.trust
	mesh, told := p.compiler.Compile(in.snapshot, config)
	p.metrics.Compiled(time.Since(began), len(told))
	before := p.mesh.Swap(mesh)
	p.publisher.Mesh(mesh)

	findings := p.findings // only who works changes them
	if !crds.Same(told, p.told) || !slices.Equal(in.findings, p.current.findings) {
		findings = report.Sort(slices.Concat(in.findings, told, outside(told, mesh.Settings.Origin)))
		p.tell(findings)
	}
	p.mu.Lock()
	p.current, p.findings, p.told = in, findings, told
	p.mu.Unlock()
	if before != nil && before.Settings.ScopeAll && !mesh.Settings.ScopeAll {
		p.mark(p.demand.Keep(scope.All(before).Addresses()))
	}
	if before == nil || p.absent || differ(mesh.Workloads, before.Workloads) {
		p.forget()
	}
	if before == nil || differ(mesh.Pods, before.Pods) || mesh.Settings.TrustDomain != before.Settings.TrustDomain {
		p.proxies.Rekey()
	}
}

func differ[K, V comparable](now, before model.Map[K, V]) bool {
	for range now.Changes(before) {
		return true
	}
	return false
}

// forget drops the keys that no pod and no proxy has any more. What they
// demanded stays known: a workload that comes back starts with it.
func (p *pipeline) forget() {
	mesh := p.mesh.Load()
	live := map[scope.Key]bool{}
	for _, key := range p.book.Ledger().Keys() {
		live[key] = true
	}
	p.absent = false
	p.mu.Lock()
	defer p.mu.Unlock()
	for key := range p.active {
		if _, there := mesh.Workloads.Get(key.Workload()); there {
			continue
		}
		if live[key] {
			p.absent = true
			continue
		}
		delete(p.active, key)
		p.publisher.Drop(key)
	}
}

// tell logs the findings that were not there before. Only compile changes p.findings.
func (p *pipeline) tell(findings []report.Finding) {
	for _, f := range findings {
		if _, before := slices.BinarySearchFunc(p.findings, f, report.Finding.Compare); before {
			continue
		}
		level := slog.LevelWarn
		if f.Reason.Informs() {
			level = slog.LevelInfo
		}
		p.log.Log(context.Background(), level, "finding", "object", f.Object.String(), "reason", string(f.Reason),
			"field", f.Field, "file", f.File, "line", f.Line, "message", f.Message)
	}
}

// publish hands over what has been demanded and brings the cache up to date.
func (p *pipeline) publish() {
	mesh := p.mesh.Load()
	if mesh == nil {
		return
	}
	p.mu.Lock()
	var taken []*activeKey
	for key, a := range p.active {
		if a.dirty {
			a.dirty = false
			p.publisher.Want(key, p.demand.Of(key))
		}
		taken = append(taken, a)
	}
	p.mu.Unlock()
	p.publisher.Publish() // what does not pass the gate is in cache.Findings
	p.mu.Lock()
	p.translated = p.publisher.Findings()
	for _, a := range taken {
		a.mesh = mesh
	}
	p.mu.Unlock()
}

// announce wakes those who wait for a change. It costs next to nothing while nobody does.
func (p *pipeline) announce() { p.changed.raise() }

// idle reports whether everything that was offered is compiled and published.
// The channel is closed at the first change after idle was called.
func (p *pipeline) idle() (bool, <-chan struct{}) {
	changed := p.changed.wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range p.active {
		if a.dirty {
			return false, changed
		}
	}
	return p.next == nil && !p.working && p.current.snapshot != nil, changed
}

// Settled returns when everything is published and every live proxy has acknowledged it.
func (p *pipeline) Settled(ctx context.Context) error {
	for {
		idle, changed := p.idle()
		if idle && p.synced() {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (p *pipeline) synced() bool { return p.book.Ledger().Synced() }

// allFindings are those of every stage, sorted, each once.
func (p *pipeline) allFindings() ([]report.Finding, *crds.Snapshot) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return report.Sort(slices.Concat(p.findings, p.translated, p.cache.Findings())), p.current.snapshot
}

// PodKnown implements attest.Pods: a token of a pod that has been deleted is worth nothing.
func (p *pipeline) PodKnown(namespace, name, uid string) (known, ok bool) {
	mesh := p.mesh.Load()
	if mesh == nil {
		return false, false
	}
	pod, _ := mesh.Pods.Get(model.Name{Namespace: namespace, Name: name})
	if pod == nil {
		return false, mesh.Pods.Len() > 0 // a pod not seen yet asks again soon
	}
	if pod.UID == "" {
		return false, false // from a source without UIDs
	}
	return pod.UID == uid, true
}
