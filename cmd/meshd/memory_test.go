package main

import (
	"runtime"
	"runtime/debug"
	"testing"
)

func TestMemoryIsGivenBackAfterAStorm(t *testing.T) {
	const mb = 1 << 20
	for name, c := range map[string]struct {
		steps []heap
		want  []bool
	}{
		"a storm is waited out":        {[]heap{{500 * mb, 60 * mb, 300 * mb}, {700 * mb, 60 * mb, 300 * mb}, {701 * mb, 60 * mb, 300 * mb}}, []bool{false, false, true}},
		"what is used is not worth it": {[]heap{{0, 200 * mb, 255 * mb}, {mb, 200 * mb, 255 * mb}}, []bool{false, false}},
		"nor is little":                {[]heap{{0, 4 * mb, 19 * mb}, {mb, 4 * mb, 19 * mb}}, []bool{false, false}},
	} {
		t.Run(name, func(t *testing.T) {
			var g giver
			for i, h := range c.steps {
				if got := g.worth(h); got != c.want[i] {
					t.Errorf("step %d: %v", i, got)
				}
			}
		})
	}
	t.Run("what was not freed is not tried again", func(t *testing.T) {
		g := giver{kept: 290 * mb}
		if g.worth(heap{mb, 60 * mb, 300 * mb}) {
			t.Error("tried again")
		}
		if !g.worth(heap{mb, 60 * mb, 310 * mb}) {
			t.Error("not tried though there is more")
		}
	})
}

func TestHeapIsRead(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	runtime.GC()
	before := readHeap()
	kept := make([]byte, 64<<20)
	after := readHeap()
	if after.allocated-before.allocated < 64<<20 || after.mapped < before.live+64<<20 || before.live == 0 {
		t.Errorf("before %+v, after %+v", before, after)
	}
	runtime.KeepAlive(kept)
}
