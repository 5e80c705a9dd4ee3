package model_test

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/meshd-io/meshd/pkg/model"
)

// TestMap holds a Map to a Go map through random edits; every version of it
// must stay as it was, and know what sets it apart from every other one.
func TestMap(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	var versions []model.Map[int, int]
	var wants []map[int]int
	m, want := model.Map[int, int]{}, map[int]int{}
	for range 200 {
		e := m.Edit()
		for range r.IntN(60) {
			k := r.IntN(500)
			if r.IntN(3) == 0 {
				e.Delete(k)
				delete(want, k)
			} else {
				v := r.IntN(3)
				e.Set(k, v)
				want[k] = v
			}
		}
		m = e.Map()
		versions, wants = append(versions, m), append(wants, maps.Clone(want))
	}
	for i, m := range versions {
		if got := maps.Collect(m.All()); !maps.Equal(got, wants[i]) || m.Len() != len(got) {
			t.Fatalf("version %d: %v of length %d, want %v", i, got, m.Len(), wants[i])
		}
		for k := range 500 {
			v, ok := m.Get(k)
			if w, there := wants[i][k]; v != w || ok != there {
				t.Fatalf("version %d has %d, %v at %d, want %d, %v", i, v, ok, k, w, there)
			}
		}
		for _, j := range []int{0, max(0, i-1), i, r.IntN(len(versions))} {
			var differ []int
			for k := range 500 {
				a, inA := wants[i][k]
				b, inB := wants[j][k]
				if a != b || inA != inB {
					differ = append(differ, k)
				}
			}
			if got := slices.Sorted(m.Changes(versions[j])); !slices.Equal(got, differ) {
				t.Fatalf("versions %d and %d differ in %v, want %v", i, j, got, differ)
			}
		}
	}
}

func TestMapStopsWhenTold(t *testing.T) {
	e := model.Map[int, int]{}.Edit()
	for i := range 100 {
		e.Set(i, i)
	}
	m := e.Map()
	n := 0
	for range m.All() {
		if n++; n == 3 {
			break
		}
	}
	for range m.Changes(model.Map[int, int]{}) {
		if n++; n == 6 {
			break
		}
	}
	if n != 6 {
		t.Error(n)
	}
}

func BenchmarkMapSet(b *testing.B) {
	m := map[int]*int{}
	for i := range 10000 {
		m[i] = new(int)
	}
	from := model.MapOf(m)
	v := new(int)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		e := from.Edit()
		e.Set(i%10000, v)
		e.Map()
	}
}
