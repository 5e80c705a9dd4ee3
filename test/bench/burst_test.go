package main

import (
	"maps"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"
)

// A proxy that skips a change has it when it has a later one of the same service.
func TestLatenciesOfMergedChanges(t *testing.T) {
	ms := int64(time.Millisecond)
	changes := []change{
		{Number: 4, Service: 0, At: 30 * ms}, {Number: 1, Service: 0, At: 0}, {Number: 2, Service: 1, At: 10 * ms}, {Number: 3, Service: 0, At: 20 * ms},
	}
	var noted stamps
	for _, s := range []stamp{
		{move{service: 0, from: 0, to: 3}, 25 * ms},    // 1 after 25 ms, 3 after 5
		{move{service: 0, from: 3, to: 4}, 40 * ms},    // 4 after 10
		{move{service: 1, from: 0, to: 2}, 60 * ms},    // 2 after 50
		{move{service: 1, from: 0, to: 2}, 50 * ms},    // and at another proxy after 40
		{move{service: 0, from: 900, to: 4}, 400 * ms}, // no change
	} {
		noted.add(s)
	}
	got := latencies(changes, noted.all())
	if *got != (latency{Samples: 5, P50: 25, P99: 50, Max: 50, First: 40}) {
		t.Errorf("%+v", *got)
	}
}

// A floor has no change before the source has told of it: with several who write,
// a later one may be told first.
func TestFloorHasChangesInTheOrderOfTheirEvents(t *testing.T) {
	ms := int64(time.Millisecond)
	in, at := inOrder{last: 10, numbers: map[int]int{}}, map[int]int64{11: 30 * ms, 12: 0, 13: 20 * ms}
	var noted stamps
	before := 10
	for _, told := range []int{12, 13, 11} { // each arrives 5 ms after its event
		number := in.number(told)
		noted.add(stamp{move{from: before, to: number}, at[told] + 5*ms})
		before = number
	}
	var changes []change
	for number, at := range at {
		changes = append(changes, change{Number: in.numbers[number], At: at})
	}
	if got := latencies(changes, noted.all()); *got != (latency{Samples: 3, P50: 5, P99: 5, Max: 5, First: 5}) {
		t.Errorf("%+v", *got)
	}
}

func TestStateIsExact(t *testing.T) {
	of := func(addresses ...string) *held {
		e := table[assignment]{}.change()
		for i, a := range addresses {
			e.set("out|shop/"+serviceName(i)+"|80", assignment{addresses: a})
		}
		return &held{endpoints: e.table, settled: true}
	}
	state := []string{"10.0.0.1 10.0.0.2", "10.0.0.3"}
	for _, tc := range []struct {
		held  *held
		exact bool
	}{
		{of("10.0.0.1 10.0.0.2", "10.0.0.3"), true},
		{of("10.0.0.1 10.0.0.2"), true}, // uses one
		{of("10.0.0.1", "10.0.0.3"), false},
		{of("10.0.0.1 10.0.0.2", "10.0.0.3", "10.0.0.4"), false},
		{&held{}, false},
	} {
		if err := tc.held.differs(state); (err == nil) != tc.exact {
			t.Errorf("%v: %v", maps.Collect(tc.held.endpoints.all()), err)
		}
	}
}

// A table is like a map, and keeps what it was when another is made from it.
func TestTable(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	now, want := table[int]{}, map[string]int{}
	for range 300 {
		before, wanted := now, maps.Clone(want)
		e := now.change()
		for range 5 {
			name := strconv.Itoa(random.IntN(200))
			if random.IntN(3) == 0 {
				e.remove(name)
				delete(want, name)
			} else {
				v := random.Int()
				e.set(name, v)
				want[name] = v
			}
		}
		now = e.table
		for what, pair := range map[string]struct {
			table table[int]
			want  map[string]int
		}{"new": {now, want}, "old": {before, wanted}} {
			if !maps.Equal(maps.Collect(pair.table.all()), pair.want) || pair.table.size != len(pair.want) {
				t.Fatalf("the %s table has %d, want %d", what, pair.table.size, len(pair.want))
			}
		}
	}
}

// What is noted is all there, in its order, and stays where it is.
func TestStamps(t *testing.T) {
	var noted stamps
	noted.add(stamp{at: 0})
	first := &noted.parts[0][0]
	for i := range int64(2*stampsPart + 10) {
		noted.add(stamp{at: i + 1})
	}
	next := int64(0)
	for s := range noted.all() {
		if s.at != next {
			t.Fatalf("%d, want %d", s.at, next)
		}
		next++
	}
	if next != 2*stampsPart+11 || first != &noted.parts[0][0] {
		t.Errorf("%d are there; the first has moved: %t", next, first != &noted.parts[0][0])
	}
}
