package crds

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	"github.com/meshd-io/meshd/internal/clock"
	"github.com/meshd-io/meshd/pkg/report"
)

// ClusterOptions are what a ClusterSource may be told; the zero value is ready to use.
type ClusterOptions struct {
	// Log tells of kinds that come and go and of watches that fail; nothing when nil.
	Log *slog.Logger
}

// retryPause is how long to wait before the API server is asked again what it serves.
const retryPause = time.Second

// ClusterSource watches the objects of a cluster. Of each it keeps only what
// the stages read (cluster_kinds.go), so that a change of anything else is no
// change; an object that has not changed is the same pointer in every Snapshot,
// and a kind that has not changed is the same slice (see Same).
//
//	watch --strip--> pending --+
//	watch --strip--> pending --+--> one writer: rows --> Snapshot --> take
//	watch --judge--> pending --+
//
// What a watch tells is only noted; it never waits for take. While the API
// server is away, the last state stays in force: only what is known to be gone
// is taken away. A kind that is not served is left out, and comes when it is.
//
// Of meshd's own kinds an object is held to the rules that this meshd knows
// (the API server may have taken it under others). One that breaks them is a
// finding, and its last good version stays in force; where this process has
// seen none, what can be read of the object is in force.
type ClusterSource struct {
	log       *slog.Logger
	watching  client.WithWatch // waits for the API server
	asking    client.Client    // does not
	discovery discovery.ServerResourcesInterfaceWithContext
	transport []http.RoundTripper // of the former
	feeds     []*feed

	// The life of what Load has started.
	ctx     context.Context // watches outlive the call that starts them
	cancel  context.CancelFunc
	running sync.WaitGroup
	stopped chan struct{} // closed when Run has returned
	silence time.Duration

	wake     chan struct{} // something is pending
	suspects chan struct{} // a watch has been told that its kind is not there
	// attending is whether the kinds that there were at the start are being watched.
	attending atomic.Bool
	// discovering holds whoever changes which kinds are watched.
	discovering sync.Mutex

	// Only the writer touches these: Load, then Run.
	loaded   bool
	snapshot *Snapshot
	findings []report.Finding

	mu       sync.Mutex
	barriers []*barrier
}

// NewClusterSource watches nothing before Load.
func NewClusterSource(config *rest.Config, options ClusterOptions) (*ClusterSource, error) {
	config = rest.CopyConfig(config)
	config.QPS = -1 // one list and one watch a kind: the API server's own fairness is enough
	s := &ClusterSource{
		log: options.Log, feeds: clusterFeeds(), snapshot: &Snapshot{},
		stopped: make(chan struct{}), silence: silence, wake: make(chan struct{}, 1), suspects: make(chan struct{}, 1),
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	asking, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	patient := rest.CopyConfig(config)
	patient.Wrap(func(next http.RoundTripper) http.RoundTripper { return &patience{next: next, log: s.log} })
	watching, err := rest.HTTPClientFor(patient)
	if err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	s.transport = []http.RoundTripper{asking.Transport, watching.Transport}
	mapper, err := apiutil.NewDynamicRESTMapper(config, asking)
	if err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	if s.discovery, err = discovery.NewDiscoveryClientForConfigAndClient(config, asking); err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	if s.asking, err = client.New(config, client.Options{HTTPClient: asking, Scheme: shared().scheme, Mapper: mapper}); err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	if s.watching, err = client.NewWithWatch(config, client.Options{HTTPClient: watching, Scheme: shared().scheme, Mapper: mapper}); err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	return s, nil
}

// Load starts watching, which lasts until the context or Run ends, and returns
// what there is as soon as every kind that is served has been read. While the
// API server cannot be reached, it waits. It may be called once.
func (s *ClusterSource) Load(ctx context.Context) (*Snapshot, []report.Finding, error) {
	s.ctx, s.cancel = context.WithCancel(ctx)
	for {
		err := s.discover(s.ctx)
		if err == nil {
			break
		}
		s.log.Warn("the API server cannot be asked what it serves; trying again", "error", err)
		if !clock.Pause(ctx, retryPause) {
			s.stop()
			return nil, nil, fmt.Errorf("discovery: %w: %w", ctx.Err(), err)
		}
	}
	s.running.Go(s.attend)
	s.running.Go(s.vigil)
	for _, f := range s.feeds {
		select {
		case <-f.settled():
		case <-ctx.Done():
			s.stop()
			return nil, nil, fmt.Errorf("wait for every %s to be read: %w", f.gvk.Kind, ctx.Err())
		}
	}
	if left := s.Absent(); len(left) > 0 {
		s.log.Warn("the API server does not serve all kinds; those that it does not are left out until it does", "kinds", left)
	}
	s.turn()
	s.loaded = true
	return s.snapshot, s.findings, nil
}

// Run calls take with the state, and then with each new one, never twice at a
// time; changes that come while take runs are one state. It loads first if Load
// has not been called, and stops watching when the context ends. It may be
// called once.
func (s *ClusterSource) Run(ctx context.Context, take func(*Snapshot, []report.Finding)) error {
	defer close(s.stopped)
	if s.ctx == nil {
		if _, _, err := s.Load(ctx); err != nil {
			if ctx.Err() != nil {
				return nil // its end is no failure
			}
			return err
		}
	}
	if !s.loaded {
		return errors.New("the source could not be loaded")
	}
	defer s.stop()
	s.turn()
	take(s.snapshot, s.findings)
	s.release()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.ctx.Done():
			return nil
		case <-s.wake:
		}
		if s.turn() {
			take(s.snapshot, s.findings)
		}
		s.release()
	}
}

// stop ends everything that Load has started, and waits for it.
func (s *ClusterSource) stop() {
	s.cancel()
	s.running.Wait()
	for _, t := range s.transport {
		utilnet.CloseIdleConnectionsFor(t)
	}
}

// poke has the writer look.
func (s *ClusterSource) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// turn folds what is pending into the state. It reports whether that has changed.
func (s *ClusterSource) turn() bool {
	next := *s.snapshot
	var sum change
	for _, f := range s.feeds {
		c := f.fold()
		if c.objects && !f.put(&next) {
			c = change{findings: c.findings}
		}
		sum.objects, sum.content, sum.findings = sum.objects || c.objects, sum.content || c.content, sum.findings || c.findings
	}
	if sum.content {
		next.content++
	}
	if sum.objects {
		s.snapshot = &next
	}
	if sum.findings {
		s.findings = nil
		for _, f := range s.feeds {
			for _, r := range f.rows {
				s.findings = append(s.findings, r.findings...)
			}
		}
		s.findings = report.Sort(s.findings)
	}
	return sum.objects || sum.findings
}

// Absent are the kinds that the API server does not serve, sorted, but for those
// that nobody misses. They are left out of the snapshots and come when they are served.
func (s *ClusterSource) Absent() []string {
	var out []string
	for _, f := range s.feeds {
		if f.absent() && !f.optional {
			out = append(out, f.gvk.Kind)
		}
	}
	slices.Sort(out)
	return out
}
