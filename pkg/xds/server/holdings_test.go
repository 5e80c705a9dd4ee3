package server

import (
	"runtime"
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/meshd-io/meshd/pkg/xds/envoy"
)

func TestHoldingsAreShared(t *testing.T) {
	var h holdings
	first := h.set(envoy.ClusterType, map[string]string{"a": "1", "b": "2"})
	if again := h.set(envoy.ClusterType, map[string]string{"b": "2", "a": "1"}); again != first {
		t.Error("equal holdings are two sets")
	}
	for name, other := range map[string]struct {
		typ      envoy.Type
		versions map[string]string
	}{
		"type":     {envoy.EndpointType, map[string]string{"a": "1", "b": "2"}},
		"version":  {envoy.ClusterType, map[string]string{"a": "1", "b": "3"}},
		"fewer":    {envoy.ClusterType, map[string]string{"a": "1"}},
		"run on":   {envoy.ClusterType, map[string]string{"a": "1b2"}},
		"run on 2": {envoy.ClusterType, map[string]string{"a1": "", "b": "2"}},
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
		if err := s.request(&discoveryv3.DeltaDiscoveryRequest{
			TypeUrl: string(envoy.ClusterType), InitialResourceVersions: map[string]string{"a": "1", "b": "2"},
		}); err != nil {
			t.Fatal(err)
		}
		return s
	}
	one, two := session().lanes[clusterLane], session().lanes[clusterLane]
	if one.held != two.held || one.heldSub != two.heldSub || one.diff != nil || two.diff != nil {
		t.Error("each has its own")
	}
}
