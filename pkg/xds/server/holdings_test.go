package server

import (
	"runtime"
	"testing"

	"github.com/meshd-io/meshd/pkg/xds/envoy"
)

func TestHoldingsAreShared(t *testing.T) {
	var h holdings
	first := h.set(envoy.ClusterType, versions{{"a", "1"}, {"b", "2"}})
	if again := h.set(envoy.ClusterType, versions{{"a", "1"}, {"b", "2"}}); again != first {
		t.Error("equal holdings are two sets")
	}
	for name, other := range map[string]struct {
		typ      envoy.Type
		versions versions
	}{
		"type":     {envoy.EndpointType, versions{{"a", "1"}, {"b", "2"}}},
		"version":  {envoy.ClusterType, versions{{"a", "1"}, {"b", "3"}}},
		"fewer":    {envoy.ClusterType, versions{{"a", "1"}}},
		"run on":   {envoy.ClusterType, versions{{"a", "1b2"}}},
		"run on 2": {envoy.ClusterType, versions{{"a1", ""}, {"b", "2"}}},
	} {
		if s := h.set(other.typ, other.versions); s == first || s.ID == first.ID {
			t.Errorf("%s: other holdings are the same set", name)
		}
	}
	if v := first.Get("b").Version; v != "2" {
		t.Errorf("version %q", v)
	}
	runtime.KeepAlive(first)
	for range 1000 { // cleanups run some time after a collection
		if h.sets.len() == 0 {
			return
		}
		runtime.GC()
		runtime.Gosched()
	}
	t.Errorf("%d sets that nobody has are kept", h.sets.len())
}

// Ten thousand replicas that come back together are one point to start from.
func TestResumedSessionsShareTheirState(t *testing.T) {
	var with shared
	session := func() *session {
		s := newSession(Limits{}.withDefaults(), &with, false)
		if err := s.request(&request{typeURL: []byte(envoy.ClusterType), initial: versions{{"a", "1"}, {"b", "2"}}}); err != nil {
			t.Fatal(err)
		}
		return s
	}
	one, two := session().lanes[clusterLane], session().lanes[clusterLane]
	if one.held != two.held || one.heldSub != two.heldSub || one.diff != nil || two.diff != nil {
		t.Error("each has its own")
	}
}
