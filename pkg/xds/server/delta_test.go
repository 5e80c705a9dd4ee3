package server

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/meshd-io/meshd/pkg/xds/cache"
	"github.com/meshd-io/meshd/pkg/xds/envoy"
)

// TestBetweenIsCompare for whoever wants what it has wanted before, whatever the two sets are.
func TestBetweenIsCompare(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	c := cache.New()
	shared := &shared{}
	s := newSession(Limits{}, shared, false)
	publish := func() *cache.Set {
		rs := envoy.Resources{}
		for i := range 8 {
			if r.IntN(3) > 0 {
				rs[envoy.EndpointType] = append(rs[envoy.EndpointType], endpointsOf(fmt.Sprintf("e%d", i), uint32(r.IntN(3))))
			}
		}
		c.Publish(accountsKey(), rs)
		set := c.Snapshot(accountsKey()).Set(envoy.EndpointType)
		if items := set.Items(); len(items) > 0 && r.IntN(2) == 0 {
			bad := items[r.IntN(len(items))]
			c.Reject(accountsKey(), cache.Refusal{Type: bad.Type, Name: bad.Name, Version: bad.Version, Message: "bad"})
			set = c.Snapshot(accountsKey()).Set(envoy.EndpointType)
		}
		return set
	}
	differ := 0
	held := publish()
	for range 5000 {
		cur := publish()
		var list []string
		for i := range 9 {
			if r.IntN(2) == 0 {
				list = append(list, fmt.Sprintf("e%d", i))
			}
		}
		sub := shared.intern.intern(r.IntN(4) == 0, list)
		l := &lane{typ: envoy.EndpointType, sub: sub, held: held, heldSub: sub}
		got, want := s.between(l, cur), s.compare(l, cur)
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("from %v to %v for %v: %v, want %v", held.Items(), cur.Items(), sub, got, want)
		}
		if len(got.add) > 0 && len(got.removed) > 0 {
			differ++
		}
		if r.IntN(2) == 0 {
			held = cur
		} else if r.IntN(10) == 0 {
			held = nil
		}
	}
	if differ < 100 {
		t.Errorf("%d deltas with something to add and to remove: too tame", differ)
	}
}
