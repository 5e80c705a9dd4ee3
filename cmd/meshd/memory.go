package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// garbage is how much the heap may grow beyond what lives, in percent: what
	// lives is small and seldom changes, so that memory is dearer than the collector.
	garbage = 50
	// givePace is how often it is looked whether memory can be given back.
	givePace = 5 * time.Second
	// giveAt is how many bytes must be worth a collection.
	giveAt = 16 << 20
)

// setCollector makes the collector trade CPU for memory; GOGC in the environment wins.
func setCollector() {
	if _, said := os.LookupEnv("GOGC"); !said {
		debug.SetGCPercent(garbage)
	}
}

// heap is what the runtime says of its memory, in bytes.
type heap struct {
	allocated uint64 // ever
	live      uint64 // at the last collection
	mapped    uint64 // of the kernel's, for the heap
}

func readHeap() heap {
	samples := []metrics.Sample{
		{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/unused:bytes"}, {Name: "/memory/classes/heap/free:bytes"},
	}
	metrics.Read(samples)
	at := func(i int) uint64 { return samples[i].Value.Uint64() }
	return heap{allocated: at(0), live: at(1), mapped: at(2) + at(3) + at(4)}
}

// giver decides when a collection is worth its cost.
type giver struct {
	allocated uint64 // at the last look
	kept      uint64 // mapped after the last collection that was asked for
}

// worth reports whether a storm (a start, many proxies at once) is over, and
// has left memory that nothing uses. What a collection did not free is not tried again.
func (g *giver) worth(h heap) bool {
	quiet := h.allocated-g.allocated < giveAt
	g.allocated = h.allocated
	return quiet && h.mapped > h.live+h.live/4+giveAt && h.mapped > g.kept+giveAt
}

// giveBack returns memory to the kernel after storms; the runtime alone takes many minutes for it.
func giveBack(ctx context.Context) error {
	tick := time.NewTicker(givePace)
	defer tick.Stop()
	var g giver
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if g.worth(readHeap()) {
			debug.FreeOSMemory()
			g.kept = readHeap().mapped
		}
	}
}
