package memo

import (
	"slices"

	"github.com/meshd-io/meshd/pkg/report"
)

// Graph is tables in the order in which they were made; each reads only those
// before it. It belongs to one goroutine.
type Graph struct {
	steps   []step
	run     uint64 // counts computations, to tell the reads of one from another's
	told    map[*node][]report.Finding
	retold  bool
	idle    []dropper // that may have lost their last reader
	scratch []*node   // for reads
}

// step is a table: it brings its values up to date.
type step interface{ step() }

// dropper is a value that is not kept for its own sake.
type dropper interface{ drop() }

// reader is a value that is computed from others.
type reader interface{ invalidate() }

// node is a value's place among the others.
type node struct {
	readers []*node
	seen    uint64  // the last run that has read it
	owner   dropper // and where it reads others, a reader
}

// NewGraph has no tables.
func NewGraph() *Graph { return &Graph{told: map[*node][]report.Finding{}} }

// Update brings every table up to date with the inputs.
func (g *Graph) Update() {
	for _, s := range g.steps {
		s.step()
	}
	for len(g.idle) > 0 {
		last := g.idle[len(g.idle)-1]
		g.idle = g.idle[:len(g.idle)-1]
		last.drop()
	}
}

// Findings are those of all values, in no order.
func (g *Graph) Findings() []report.Finding {
	g.retold = false
	var fs []report.Finding
	for _, some := range g.told {
		fs = append(fs, some...)
	}
	return fs
}

// Retold reports whether any has changed since the last time they were asked for.
func (g *Graph) Retold() bool { return g.retold }

func (g *Graph) tell(n *node, fs []report.Finding) {
	old := g.told[n]
	if slices.Equal(old, fs) {
		return
	}
	g.retold = true
	if len(fs) == 0 {
		delete(g.told, n)
	} else {
		g.told[n] = fs
	}
}

func (g *Graph) add(s step) int {
	g.steps = append(g.steps, s)
	return len(g.steps)
}

// Run is one computation of one value: all that its function may look at.
type Run struct {
	graph    *Graph
	rank     int
	id       uint64
	reads    []*node
	findings []report.Finding
}

// Tell adds what a user should know to the value's findings.
func (r *Run) Tell(fs ...report.Finding) { r.findings = append(r.findings, fs...) }

// note that a node was read, of a table of that rank.
func (r *Run) note(n *node, rank int) {
	if rank >= r.rank {
		panic("a table reads one that comes after it")
	}
	if n.seen != r.id {
		n.seen = r.id
		r.reads = append(r.reads, n)
	}
}

// relink makes a value the reader of what its last run has read, and of nothing else.
func (r *Run) relink(self *node, old []*node) []*node {
	g := r.graph
	g.run++ // runs inside of this one have left their marks too
	reads := r.reads[:0]
	for _, n := range r.reads {
		if n.seen != g.run {
			n.seen = g.run
			reads = append(reads, n)
		}
	}
	if slices.Equal(old, reads) {
		return old
	}
	g.run++ // marks what it has read before as well
	for _, n := range old {
		if n.seen == g.run-1 {
			n.seen = g.run
		} else {
			g.unlink(n, self)
		}
	}
	for _, n := range reads {
		if n.seen != g.run {
			n.readers = append(n.readers, self)
		}
	}
	return slices.Clone(reads)
}

func (g *Graph) unlink(n, self *node) {
	i := slices.Index(n.readers, self)
	last := len(n.readers) - 1
	n.readers[i] = n.readers[last]
	n.readers[last] = nil
	n.readers = n.readers[:last]
	if last == 0 {
		g.idle = append(g.idle, n.owner)
	}
}

func (n *node) changed() {
	for _, r := range n.readers {
		r.owner.(reader).invalidate()
	}
}
