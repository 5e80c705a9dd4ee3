package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/meshd-io/meshd/internal/clock"
)

// usage is CPU, meshd's and the simulated proxies', and traffic, up to a point in time.
type usage struct {
	cpu, clients time.Duration
	answer
}

func (r *scaleRun) usage(c *child) (usage, error) {
	cpu, err := cpuTime(r.daemon.cmd.Process.Pid)
	if err != nil {
		return usage{}, err
	}
	clients, err := cpuTime(c.cmd.Process.Pid)
	if err != nil {
		return usage{}, err
	}
	a, err := c.do(order{Do: "count"})
	return usage{cpu, clients, a}, err
}

// changes of endpoints, in turn with rounds of the floor.
func (r *scaleRun) changes(ctx context.Context, c *child) error {
	if _, err := r.series(ctx, c, 1); err != nil { // the first one warms up
		return err
	}
	var all series
	var floor []time.Duration
	var cpu, clients, floorCPU time.Duration
	var f *floorRun
	var down, up, wire int64
	for range scaleChanges / scaleBlock {
		before, err := r.usage(c)
		if err != nil {
			return err
		}
		some, err := r.series(ctx, c, scaleBlock)
		if err != nil {
			return err
		}
		all.write, all.event, all.spread = append(all.write, some.write...), append(all.event, some.event...), append(all.spread, some.spread...)
		end, err := r.usage(c)
		if err != nil {
			return err
		}
		cpu, clients = cpu+end.cpu-before.cpu, clients+end.clients-before.clients
		wire += end.WireIn - before.WireIn
		down, up = down+end.PlainIn-before.PlainIn, up+end.PlainOut-before.PlainOut
		if f == nil {
			n := int64(scaleBlock * r.proxies)
			server, err := r.startFloor(ctx, c, order{Do: "floor", Proxies: r.proxies, Down: int(down / n), Up: int(up / n)})
			if err != nil {
				return err
			}
			defer server.end()
			f = &floorRun{server}
		}
		list, used, err := f.rounds(c, scaleBlock)
		if err != nil {
			return err
		}
		floor, floorCPU = append(floor, list...), floorCPU+used
	}
	n := int64(scaleChanges * r.proxies)
	each := milliseconds(cpu) / scaleChanges
	r.addSeries("a change", all)
	r.add("a change, from the first proxy to the last of one change, slowest", quantile(1, all.spread), "ms", "")
	r.add("a change, CPU of meshd", each, "ms", fmt.Sprintf("%d changes", scaleChanges))
	r.add("a change, CPU of the simulated proxies", milliseconds(clients)/scaleChanges, "ms", "on the same cores")
	r.add("a change, bytes received by each proxy", float64(wire)/float64(n), "", fmt.Sprintf("TLS included; %d before TLS; it answers with %d", down/n, up/n))
	r.out = append(r.out, quantiles(r.group, "floor, from the order to each connection", floor, "plain TLS, the same bytes and answers")...)
	least := milliseconds(floorCPU) / scaleChanges
	r.add("floor, CPU of the writer", least, "ms", fmt.Sprintf("%d rounds, in turn with the changes", scaleChanges))
	if least > 0 {
		r.add("a change, CPU of meshd to the floor's", each/least, "", "")
	}
	return nil
}

// floorRun is a floor with its connections open.
type floorRun struct{ server *child }

// startFloor starts a floor's server, the program that the order names, and has the crowd connect to it.
func (r *scaleRun) startFloor(ctx context.Context, c *child, o order) (*child, error) {
	server, err := startChild(ctx, o.Do, r.certificates[0])
	if err != nil {
		return nil, err
	}
	var at floorReady
	err = errors.Join(server.out.Decode(&at), server.in.Encode(o))
	if err == nil {
		o.Address = at.Address
		_, err = c.do(o)
	}
	if err == nil {
		err = server.out.Decode(&at) // it has accepted all
	}
	if err != nil {
		server.end()
		return nil, err
	}
	return server, nil
}

func (f *floorRun) rounds(c *child, count int) (list []time.Duration, cpu time.Duration, err error) {
	before, err := cpuTime(f.server.cmd.Process.Pid)
	if err != nil {
		return nil, 0, err
	}
	for range count {
		began := now()
		if err := f.server.in.Encode(order{Do: "write"}); err != nil {
			return nil, 0, err
		}
		a, err := c.do(order{Do: "floor-await"})
		if err != nil {
			return nil, 0, err
		}
		var done floorReady
		if err := f.server.out.Decode(&done); err != nil {
			return nil, 0, err
		}
		for _, at := range a.At {
			list = append(list, time.Duration(at-began))
		}
	}
	after, err := cpuTime(f.server.cmd.Process.Pid)
	return list, after - before, err
}

// idle is what meshd does when nothing happens, and what it has when its collector has run.
func (r *scaleRun) idle(ctx context.Context, c *child) error {
	if err := r.memory(ctx, "after the changes"); err != nil {
		return err
	}
	if err := r.world.quiet(ctx); err != nil { // a thousand statuses take 20 s from the start on
		return err
	}
	before, err := r.usage(c)
	if err != nil {
		return err
	}
	took := max(scaleIdle, r.settle)
	if !clock.Pause(ctx, took) {
		return ctx.Err()
	}
	after, err := r.usage(c)
	if err != nil {
		return err
	}
	r.add("idle, CPU of meshd", 100*(after.cpu-before.cpu).Seconds()/took.Seconds(), "% of a core", fmt.Sprintf("over %s", took))
	objects, err := r.world.annotate(ctx, r.change)
	if err != nil {
		return err
	}
	if !clock.Pause(ctx, 3*time.Second) { // the slowest change took less
		return ctx.Err()
	}
	told, err := r.usage(c)
	if err != nil {
		return err
	}
	r.add("annotations change, messages sent", float64(told.Messages-after.Messages), "", fmt.Sprintf("of %d objects: Service, policy, pods, slice; within 3 s, to all proxies", objects))
	if r.settle == 0 {
		return nil
	}
	return r.memory(ctx, fmt.Sprintf("idle for %s", r.settle))
}

// restart kills meshd; while it is gone a change is made, by whose arrival a proxy is known to be in sync.
func (r *scaleRun) restart(ctx context.Context, c *child) error {
	before, err := r.usage(c)
	if err != nil {
		return err
	}
	r.daemon.kill()
	r.change++
	if err := r.world.mark(ctx, 0, r.change); err != nil {
		return err
	}
	began := now()
	if err := r.daemon.again(ctx); err != nil {
		return err
	}
	ready := now()
	a, err := c.do(order{Do: "await", Change: r.change})
	if err != nil {
		return err
	}
	last := a.At[len(a.At)-1]
	if !clock.Pause(ctx, 3*time.Second) { // whatever is resent after it
		return ctx.Err()
	}
	after, err := r.usage(c)
	if err != nil {
		return err
	}
	n := int64(r.proxies)
	held := float64(r.held * n)
	resent := float64(after.Resources - before.Resources - n)
	r.add("restart, from start of the process to the last proxy in sync", time.Duration(last-began).Seconds(), "s",
		fmt.Sprintf("ready after %.1f s; %.1f s later the last is", time.Duration(ready-began).Seconds(), time.Duration(last-ready).Seconds()))
	r.add("restart, resources resent", 100*resent/held, "% of those held", fmt.Sprintf("%.0f KB a proxy, TLS included", float64(after.WireIn-before.WireIn)/float64(n)/1024))
	r.add("restart, CPU of meshd, its start included", after.cpu.Seconds(), "s", "")
	return r.memory(ctx, "after the restart")
}

// stalled proxies ask for everything and never read; they are gone afterwards. Their share of meshd is
// told by what Go has in use: all of its RSS moves by more than fifty of them.
func (r *scaleRun) stalled(ctx context.Context, c *child) error {
	others, err := startChild(ctx, "crowd")
	if err != nil {
		return err
	}
	defer others.end()
	stall := func(first, proxies int) (heldUp, error) {
		if _, err := r.connect(others, "stall", first, proxies); err != nil {
			return heldUp{}, err
		}
		if err := r.calm(ctx); err != nil {
			return heldUp{}, err
		}
		return r.heldUp(ctx)
	}
	before, err := stall(r.proxies, 1) // by which all statuses say that they wait
	if err != nil {
		return err
	}
	after, err := stall(r.proxies+1, scaleStalled)
	if err != nil {
		return err
	}
	each := func(after, before float64) float64 { return (after - before) * 1024 / scaleStalled }
	own, sockets := each(after.inUse, before.inUse), each(after.sockets, before.sockets)
	r.add("a proxy that never reads, memory", own+sockets, "KB",
		fmt.Sprintf("%d of them; meshd's heap and stacks after GC %.0f (its RSS %.0f), sockets of the whole machine %.0f",
			scaleStalled, own, each(after.rss, before.rss), sockets))
	beside, err := r.series(ctx, c, scaleAfter)
	if err != nil {
		return err
	}
	r.addSeries("a change beside them", beside)
	began := time.Now()
	if _, err := r.connect(others, "connect", r.proxies+1+scaleStalled, 1); err != nil {
		return err
	}
	r.add("a new proxy beside them, until it has everything", time.Since(began).Seconds(), "s", "")
	others.end()
	if err := until(ctx, "meshd has let go of the others", func() bool { return r.daemon.proxies() == r.proxies }); err != nil {
		return err
	}
	return r.calm(ctx) // statuses had counted them
}

// socketMemory is what TCP has of the machine's memory, in KB.
func socketMemory() (float64, error) {
	const file = "/proc/net/sockstat"
	raw, err := os.ReadFile(filepath.Clean(file))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(raw)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "TCP:" && f[len(f)-2] == "mem" {
			pages, err := strconv.ParseFloat(f[len(f)-1], 64)
			return pages * float64(os.Getpagesize()) / 1024, err
		}
	}
	return 0, errors.New(file + " has no memory of TCP")
}

// heldUp is memory in MB: meshd's, after a collection, and the machine's sockets'.
type heldUp struct{ rss, inUse, sockets float64 }

func (r *scaleRun) heldUp(ctx context.Context) (heldUp, error) {
	rss, err := r.residentAfterGC(ctx)
	if err != nil {
		return heldUp{}, err
	}
	own, err := r.daemon.goMemory()
	if err != nil {
		return heldUp{}, err
	}
	kb, err := socketMemory()
	return heldUp{rss: rss, inUse: own.heap + own.stacks, sockets: kb / 1024}, err
}
