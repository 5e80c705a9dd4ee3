package main

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// The times of the Lease: those that Kubernetes' own controllers have.
const (
	leaseDuration = 15 * time.Second
	renewDeadline = 10 * time.Second
	retryPeriod   = 2 * time.Second
)

// stand is one candidacy: it waits to be elected, does the work while it leads,
// and returns when both have ended. Work that fails ends the leadership, so that
// nobody leads who does nothing.
func stand(ctx context.Context, lock resourcelock.Interface, log *slog.Logger, work func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var t term
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: lock, LeaseDuration: leaseDuration, RenewDeadline: renewDeadline, RetryPeriod: retryPeriod, ReleaseOnCancel: true,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(ctx context.Context) {
				t.begin(func() error { return work(ctx) })
				cancel()
			},
			OnStoppedLeading: func() {},
			OnNewLeader:      func(who string) { log.Info("leader", "replica", who) },
		},
	})
	if err != nil {
		return fmt.Errorf("lease: %w", err)
	}
	elector.Run(ctx)
	return t.end()
}

// term is the work of one leadership. The elector begins it in a goroutine of
// its own, which may come to run when the leadership has already ended.
type term struct {
	mu   sync.Mutex
	over bool
	done chan struct{} // nil before it has begun
	err  error
}

// begin works, unless the term is over.
func (t *term) begin(work func() error) {
	t.mu.Lock()
	if t.over {
		t.mu.Unlock()
		return
	}
	t.done = make(chan struct{})
	t.mu.Unlock()
	t.err = work()
	close(t.done)
}

// end lets no work begin any more, and waits for what has begun.
func (t *term) end() error {
	t.mu.Lock()
	t.over = true
	t.mu.Unlock()
	if t.done == nil {
		return nil
	}
	<-t.done
	return t.err
}
