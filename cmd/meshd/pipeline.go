package main

import (
	"context"
	"log/slog"
	"net/netip"
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
	"github.com/meshd-io/meshd/pkg/xds/envoy"
	"github.com/meshd-io/meshd/pkg/xds/scope"
)

// promotionPace bounds how often a listener changes because destinations were promoted (EXPERIMENTS.md E5).
const promotionPace = time.Second

// pipeline drives snapshots through the pure stages into the cache:
//
//	snapshot --> compile --> mesh --> scope (per key, with its demand) --> translate --> cache
//
// Everything that arrives while it works is merged: it takes the newest
// snapshot and the set of keys that have changed, whatever came in between.
type pipeline struct {
	config   compile.Config
	compiler *compile.Compiler
	cache    *cache.Cache
	book     *acks.Book
	rekey    func()
	metrics  *telemetry.Metrics
	log      *slog.Logger

	mesh atomic.Pointer[model.Mesh]
	wake chan struct{}

	mu       sync.Mutex
	next     *input // not compiled yet; nil when there is none
	current  input
	findings []report.Finding // of the source and of compile
	demand   map[scope.Key]scope.Demand
	active   map[scope.Key]*activeKey
	working  bool
	changed  chan struct{} // closed and replaced when anything of the above has moved
}

// input is what the sources and the certificate authority give.
type input struct {
	snapshot *crds.Snapshot
	findings []report.Finding
	trust    model.Trust
}

// activeKey is a key that proxies have.
type activeKey struct {
	dirty    bool
	findings []report.Finding // of translate
	mesh     *model.Mesh      // that the newest publication was made from
}

func newPipeline(config compile.Config, c *cache.Cache, book *acks.Book, metrics *telemetry.Metrics, log *slog.Logger) *pipeline {
	return &pipeline{
		config: config, compiler: compile.NewCompiler(), cache: c, book: book, metrics: metrics, log: log,
		rekey: func() {}, wake: make(chan struct{}, 1), changed: make(chan struct{}),
		demand: map[scope.Key]scope.Demand{}, active: map[scope.Key]*activeKey{},
	}
}

// Offer makes an input the newest. It does not block.
func (p *pipeline) Offer(in input) {
	p.mu.Lock()
	p.next = &in
	p.mu.Unlock()
	p.poke()
}

// KeyFor gives a proxy its key, and sees to it that something is published for it.
func (p *pipeline) KeyFor(node scope.Node) (scope.Key, error) {
	mesh := p.mesh.Load()
	if mesh == nil {
		return scope.Key{}, scope.ErrUnknownPod
	}
	key, err := scope.KeyFor(mesh, node)
	if err != nil {
		return scope.Key{}, err
	}
	p.mu.Lock()
	_, known := p.active[key]
	if !known {
		p.active[key] = &activeKey{dirty: true}
	}
	p.mu.Unlock()
	if !known {
		p.poke()
	}
	return key, nil
}

// Demand adds destinations that a proxy of this key has asked for. Those that
// it holds are promoted at once: its listener has them already.
func (p *pipeline) Demand(key scope.Key, addresses []netip.AddrPort, held bool) {
	p.mu.Lock()
	before := p.demand[key]
	after, promoted := before.With(addresses...), false
	if held {
		after, promoted = after.Promote()
	}
	if promoted || after.Len() != before.Len() {
		p.demand[key] = after
		if a := p.active[key]; a != nil {
			a.dirty = true
		}
	}
	p.mu.Unlock()
	p.poke()
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
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.book.Changed():
			p.announce()
		case <-promote.C:
			if p.promote() {
				p.turn()
			}
		case <-p.wake:
			p.turn()
		}
	}
}

// promote moves what has been asked for since the last time into the listener. It reports whether any was.
func (p *pipeline) promote() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	any := false
	for key, d := range p.demand {
		next, moved := d.Promote()
		if !moved {
			continue
		}
		p.demand[key] = next
		if a := p.active[key]; a != nil {
			a.dirty, any = true, true
		}
	}
	return any
}

// turn compiles what is new and publishes what has changed.
func (p *pipeline) turn() {
	p.mu.Lock()
	p.working = true
	next := p.next
	p.next = nil
	p.mu.Unlock()
	if next != nil && !p.restated(*next) {
		p.compile(*next)
	}
	for _, key := range p.takeDirty() {
		p.publish(key)
	}
	if next != nil {
		p.forget()
	}
	p.mu.Lock()
	p.working = p.next != nil
	p.mu.Unlock()
	p.announce()
}

// forget drops the keys that no pod and no proxy has any more. What they
// demanded stays known: a workload that comes back starts with it.
func (p *pipeline) forget() {
	mesh := p.mesh.Load()
	live := map[scope.Key]bool{}
	for _, proxy := range p.book.Ledger().Proxies() {
		live[proxy.Key] = true
	}
	var gone []scope.Key
	p.mu.Lock()
	for key := range p.active {
		if _, there := mesh.Workloads.Get(key); !there && !live[key] {
			delete(p.active, key)
			gone = append(gone, key)
		}
	}
	p.mu.Unlock()
	for _, key := range gone {
		p.cache.Remove(key)
	}
}

func (p *pipeline) compile(in input) {
	began := time.Now()
	config := p.config
	config.Trust = in.trust
	mesh, findings := p.compiler.Compile(in.snapshot, config)
	p.metrics.Compiled(time.Since(began), len(findings))
	p.mesh.Store(mesh)

	findings = report.Sort(append(slices.Clone(in.findings), findings...))
	p.tell(findings)
	p.mu.Lock()
	p.current, p.findings = in, findings
	for _, a := range p.active {
		a.dirty = true
	}
	p.mu.Unlock()
	p.rekey()
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

func (p *pipeline) takeDirty() []scope.Key {
	p.mu.Lock()
	defer p.mu.Unlock()
	var keys []scope.Key
	for key, a := range p.active {
		if a.dirty {
			a.dirty = false
			keys = append(keys, key)
		}
	}
	return keys
}

func (p *pipeline) publish(key scope.Key) {
	mesh := p.mesh.Load()
	if mesh == nil {
		return
	}
	p.mu.Lock()
	demand := p.demand[key]
	p.mu.Unlock()
	resources, findings := envoy.Translate(scope.Of(mesh, key, demand))
	p.cache.Publish(key, resources) // what does not pass the gate is in cache.Findings
	p.mu.Lock()
	if a := p.active[key]; a != nil {
		a.findings, a.mesh = findings, mesh
	}
	p.mu.Unlock()
}

// announce wakes those who wait in Settled.
func (p *pipeline) announce() {
	p.mu.Lock()
	close(p.changed)
	p.changed = make(chan struct{})
	p.mu.Unlock()
}

// idle reports whether everything that was offered is compiled and published.
func (p *pipeline) idle() (bool, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	dirty := false
	for _, a := range p.active {
		dirty = dirty || a.dirty
	}
	return p.next == nil && !p.working && !dirty && p.current.snapshot != nil, p.changed
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

func (p *pipeline) synced() bool {
	for _, proxy := range p.book.Ledger().Proxies() {
		if !proxy.Synced {
			return false
		}
	}
	return true
}

// allFindings are those of every stage, sorted, each once.
func (p *pipeline) allFindings() ([]report.Finding, *crds.Snapshot) {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := slices.Clone(p.findings)
	for _, a := range p.active {
		out = append(out, a.findings...)
	}
	return report.Sort(append(out, p.cache.Findings()...)), p.current.snapshot
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
