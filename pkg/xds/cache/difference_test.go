package cache

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/meshd-io/meshd/pkg/report"
	"github.com/meshd-io/meshd/pkg/xds/envoy"
)

// everything has a cache look at all of a translation, as if nothing of it were known.
func (c *Cache) everything(rs envoy.Resources) []report.Finding {
	t := c.Check(rs)
	if e := c.keys[key("x")]; e != nil {
		before := Translation{}
		for typ, list := range e.translation {
			for _, r := range list {
				other := *r
				other.after = []envoy.Ref{{Name: "other"}}
				before[typ] = append(before[typ], &other)
			}
		}
		e.translation = before
	}
	c.PublishChecked(key("x"), t)
	return report.Sort(c.Findings())
}

// TestOnlyDifferencesAreLookedAt publishes translations at random, broken ones
// among them, and holds the result to that of a cache that looks at everything
// each time.
func TestOnlyDifferencesAreLookedAt(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 3))
	quick, slow := New(), New()
	former, checked := envoy.Resources{}, Translation{}
	for i := range 600 {
		rs := envoy.Resources{}
		for j := range 4 {
			name := fmt.Sprint("n", j)
			if r.IntN(4) > 0 {
				c := cluster(name, int64(1+r.IntN(2)))
				c.Origins = origins(name, int64(r.IntN(2)))
				rs[envoy.ClusterType] = append(rs[envoy.ClusterType], c)
			}
			if r.IntN(8) > 0 {
				rs[envoy.EndpointType] = append(rs[envoy.EndpointType], endpoints(name, []string{"10.0.0.1", "10.0.0.2", "nowhere"}[r.IntN(3)]))
			}
			if r.IntN(3) > 0 {
				rs[envoy.RouteType] = append(rs[envoy.RouteType], route(name, []string{"/a", "/b", "/c("}[r.IntN(3)], 1))
			}
		}
		if r.IntN(20) == 0 {
			rs[envoy.RouteType] = append(rs[envoy.RouteType], route("n0", "/twice", 1))
		}
		next := quick.Check(rs)
		for _, typ := range slices.Sorted(maps.Keys(former)) {
			if r.IntN(2) == 0 { // the very list of the last time
				rs[typ], next[typ] = former[typ], checked[typ]
			}
		}
		for _, typ := range slices.Sorted(maps.Keys(next)) { // or some of the very resources
			for i, c := range next[typ] {
				if j := slices.IndexFunc(checked[typ], c.same); j >= 0 && r.IntN(2) == 0 {
					next[typ][i] = checked[typ][j]
				}
			}
		}
		former, checked = rs, next
		quick.PublishChecked(key("x"), next)
		want := slow.everything(rs)
		if r.IntN(3) == 0 {
			for _, c := range []*Cache{quick, slow} {
				c.Accept(key("x"), c.Snapshot(key("x")).Set(envoy.ClusterType).Items())
			}
		}
		if got := report.Sort(quick.Findings()); !slices.Equal(got, want) {
			t.Fatalf("publication %d: findings %v, want %v", i, got, want)
		}
		a, b := quick.Snapshot(key("x")), slow.Snapshot(key("x"))
		if !reflect.DeepEqual(a.Sets(), b.Sets()) {
			t.Fatalf("publication %d: %+v, want %+v", i, a.Sets(), b.Sets())
		}
		for _, typ := range slices.Collect(maps.Keys(a.sets)) {
			if !slices.EqualFunc(a.Set(typ).Items(), b.Set(typ).Items(), func(x, y *Item) bool {
				return x.Version == y.Version && slices.Equal(x.Origins, y.Origins) && x.accepted.Load() == y.accepted.Load()
			}) {
				t.Fatalf("publication %d: other items of %s", i, typ)
			}
			if !slices.Equal(a.Set(typ).WithheldNames(), b.Set(typ).WithheldNames()) {
				t.Fatalf("publication %d: others are withheld of %s", i, typ)
			}
		}
		if len(quick.intern) != len(slow.intern) || len(quick.ids) != len(slow.ids) {
			t.Fatalf("publication %d: %d bytes and %d sets are kept, want %d and %d", i, len(quick.intern), len(quick.ids), len(slow.intern), len(slow.ids))
		}
	}
}

// TestPatchedSetIsAsMadeAnew changes some of many resources at a time, refuses
// some, and lets names come and go: each set is as one that is made of all slots.
func TestPatchedSetIsAsMadeAnew(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 5))
	c, patched := New(), 0
	ips := map[string]string{}
	for i := range 3*perSum + 5 {
		ips[fmt.Sprint("n", i)] = "10.0.0.1"
	}
	for i := range 500 {
		for range r.IntN(4) {
			name := fmt.Sprint("n", r.IntN(4*perSum))
			_, there := ips[name]
			switch {
			case r.IntN(10) == 0 && there:
				delete(ips, name)
			case there || r.IntN(10) == 0:
				ips[name] = fmt.Sprintf("10.0.0.%d", 1+r.IntN(200))
			}
			if r.IntN(100) == 0 && there {
				ips[name] = "nowhere"
			}
		}
		rs := envoy.Resources{}
		for name, ip := range ips {
			rs[envoy.EndpointType] = append(rs[envoy.EndpointType], endpoints(name, ip))
		}
		c.Publish(key("x"), rs)
		for name, ip := range ips {
			if ip == "nowhere" {
				ips[name] = "10.0.0.1"
			}
		}
		set := c.Snapshot(key("x")).Set(envoy.EndpointType)
		if r.IntN(20) == 0 {
			it := set.items[r.IntN(len(set.items))]
			c.Reject(key("x"), Refusal{Type: envoy.EndpointType, Name: it.Name, Version: it.Version, Message: "no"})
			set = c.Snapshot(key("x")).Set(envoy.EndpointType)
			ips[it.Name] = fmt.Sprintf("10.0.1.%d", i%250)
		}
		if len(set.aside) == 0 {
			patched++
		}
		want := c.newSet(envoy.EndpointType, c.keys[key("x")].sorted(envoy.EndpointType))
		c.name(want)
		c.releaseID(want.Version)
		if set.Version != want.Version || set.ID != want.ID || !slices.Equal(set.items, want.items) ||
			!slices.Equal(set.sums, want.sums) || !reflect.DeepEqual(set.aside, want.aside) || !slices.Equal(set.withheld, want.withheld) {
			t.Fatalf("publication %d: %s, want %s", i, set.Version, want.Version)
		}
	}
	if patched < 100 {
		t.Errorf("%d of 500 have nothing that is put aside", patched)
	}
}
