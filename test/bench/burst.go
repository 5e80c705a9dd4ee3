package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/meshd-io/meshd/internal/clock"
)

const (
	burstPace    = 5 * time.Millisecond // 200 changes a second
	burstChanges = 1000
	// burstWriters write at a time, each to services of its own: what one writes arrives in order.
	burstWriters = 4
)

// bursts of changes, of one service and of all that some workload uses. After
// each every proxy must have what the source has.
func (r *scaleRun) bursts(ctx context.Context, c *child) error {
	if err := r.world.quiet(ctx); err != nil {
		return err
	}
	if err := r.burst(ctx, c, "of one service", []int{0}); err != nil {
		return err
	}
	used := map[int]bool{}
	for w := range r.world.workloads {
		for _, s := range r.uses(w) {
			used[s] = true
		}
	}
	var services []int
	for s := range used {
		services = append(services, s)
	}
	slices.Sort(services)
	return r.burst(ctx, c, fmt.Sprintf("of %d services", len(services)), services)
}

func (r *scaleRun) burst(ctx context.Context, c *child, what string, services []int) error {
	if _, err := c.do(order{Do: "burst"}); err != nil {
		return err
	}
	before, err := r.usage(c)
	if err != nil {
		return err
	}
	began := time.Now()
	changes, err := r.writeAll(ctx, services)
	took := time.Since(began)
	if err != nil {
		return err
	}
	a, err := c.do(order{Do: "burst-end", Burst: &burst{Changes: changes, State: r.world.state()}})
	if err != nil {
		return err
	}
	exact := time.Since(began) - took
	after, err := r.usage(c)
	if err != nil {
		return err
	}
	what = "burst " + what
	l, n := a.Latency, float64(r.proxies)
	r.add(what+", changes a second", burstChanges/took.Seconds(), "", fmt.Sprintf("%d changes", burstChanges))
	r.add(what+", from the event to each proxy, p50", l.P50, "ms", fmt.Sprintf("%d samples: a proxy has a change, or a later one of its service", l.Samples))
	r.add(what+", from the event to each proxy, p99", l.P99, "ms", fmt.Sprintf("at most %.0f ms; until the first proxy has it %.0f", l.Max, l.First))
	r.add(what+", after its last write every proxy has the exact state", milliseconds(exact), "ms", "at the latest")
	r.add(what+", messages to a proxy", float64(after.Messages-before.Messages)/n, "", fmt.Sprintf("with %.0f resources", float64(after.Resources-before.Resources)/n))
	r.add(what+", CPU of meshd", 100*(after.cpu-before.cpu).Seconds()/(took+exact).Seconds(), "% of a core", "")
	messages := after.Messages - before.Messages
	return r.still(c, func() error {
		return r.leastBurst(ctx, c, what, services, int((after.PlainIn-before.PlainIn)/messages), int((after.PlainOut-before.PlainOut)/messages))
	})
}

// still does something while meshd stands still; afterwards every proxy gets what it has missed.
func (r *scaleRun) still(c *child, do func() error) error {
	if _, err := c.do(order{Do: "burst"}); err != nil {
		return err
	}
	if err := r.daemon.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	err := errors.Join(do(), r.daemon.signal(syscall.SIGCONT))
	if err != nil {
		return err
	}
	_, err = c.do(order{Do: "burst-end", Burst: &burst{State: r.world.state()}})
	return err
}

// writeAll makes the changes, and says when the source told of each.
func (r *scaleRun) writeAll(ctx context.Context, services []int) ([]change, error) {
	changes, err := r.write(ctx, services)
	if err != nil {
		return nil, err
	}
	r.change += burstChanges
	for i := range changes {
		if changes[i].At, err = r.world.tidings().of(changes[i].Number); err != nil {
			return nil, err
		}
	}
	return changes, nil
}

// write makes the changes, each when its time has come or, where the source is slower, as soon as it can be.
func (r *scaleRun) write(ctx context.Context, services []int) ([]change, error) {
	changes := make([]change, burstChanges)
	for i := range changes {
		changes[i] = change{Number: r.change + 1 + i, Service: services[i%len(services)]}
	}
	writers := min(burstWriters, len(services))
	errs := make([]error, writers)
	began := time.Now()
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			for i := 0; i < burstChanges && errs[w] == nil; i++ {
				if i%len(services)%writers != w {
					continue
				}
				if !clock.Pause(ctx, time.Until(began.Add(time.Duration(i)*burstPace))) {
					errs[w] = ctx.Err()
					return
				}
				errs[w] = r.world.mark(ctx, changes[i].Service, changes[i].Number)
			}
		})
	}
	group.Wait()
	return changes, errors.Join(errs...)
}
