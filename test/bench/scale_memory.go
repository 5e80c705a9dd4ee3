package main

import (
	"context"
	"fmt"
	"time"

	"github.com/meshd-io/meshd/internal/clock"
)

// memory of meshd as it stands, the most that it has been, and as it is after a collection.
func (r *scaleRun) memory(ctx context.Context, when string) error {
	rss, err := r.resident()
	if err != nil {
		return err
	}
	peak, err := peakOf(r.daemon.cmd.Process.Pid)
	if err != nil {
		return err
	}
	own, err := r.daemon.goMemory()
	if err != nil {
		return err
	}
	after, err := r.residentAfterGC(ctx)
	if err != nil {
		return err
	}
	left, err := r.daemon.goMemory()
	if err != nil {
		return err
	}
	each := func(mb float64) float64 { return mb * 1024 / float64(r.proxies) }
	r.add("RSS of meshd, "+when, rss, "MB", fmt.Sprintf("peak %.0f MB, %.1f times", peak, peak/rss))
	r.add("Go's heap and stacks in use, "+when, own.heap+own.stacks, "MB", fmt.Sprintf("stacks %.0f MB", own.stacks))
	r.add("RSS per proxy, "+when, each(rss-r.alone), "KB", fmt.Sprintf("above meshd with one proxy; %.0f KB with all of meshd", each(rss)))
	r.add("RSS of meshd, "+when+", after GC", after, "MB", fmt.Sprintf("peak %.1f times; %.0f MB of it is free, but kept by Go for its next cycle", peak/after, left.free))
	r.add("RSS per proxy, "+when+", after GC", each(after-r.collected), "KB", fmt.Sprintf("above meshd with one proxy; %.0f KB with all of meshd, %.0f of it free", each(after), each(left.free)))
	return nil
}

func (r *scaleRun) resident() (float64, error) {
	m, err := memoryOf(r.daemon.cmd.Process.Pid)
	return m.rss, err
}

// scavenged is how long Go may take to give back what a collection has freed.
const scavenged = 5 * time.Second

// residentAfterGC leaves out the pages of the program's own file that its heap
// profile reads: the profile is only a way to ask for a collection.
func (r *scaleRun) residentAfterGC(ctx context.Context) (float64, error) {
	before, err := memoryOf(r.daemon.cmd.Process.Pid)
	if err != nil {
		return 0, err
	}
	if err := r.daemon.collect(ctx); err != nil {
		return 0, err
	}
	if !clock.Pause(ctx, scavenged) {
		return 0, ctx.Err()
	}
	after, err := memoryOf(r.daemon.cmd.Process.Pid)
	return before.rss - before.anonymous + after.anonymous, err
}

// calm waits until meshd has nothing to do, for two minutes at the most: after
// its start it writes statuses, and learns of the proxies' answers.
func (r *scaleRun) calm(ctx context.Context) error {
	began, quiet := time.Now(), 0
	before, err := cpuTime(r.daemon.cmd.Process.Pid)
	for err == nil && quiet < 2 && time.Since(began) < 2*time.Minute {
		if !clock.Pause(ctx, time.Second) {
			return ctx.Err()
		}
		var after time.Duration
		if after, err = cpuTime(r.daemon.cmd.Process.Pid); after-before <= 20*time.Millisecond {
			quiet++
		} else {
			quiet = 0
		}
		before = after
	}
	return err
}
