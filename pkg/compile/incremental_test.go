package compile

import (
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/meshd-io/meshd/internal/chaos"
	"github.com/meshd-io/meshd/pkg/crds"
)

// TestIncremental makes random changes of every kind and holds each result to a
// compilation from nothing that remembers the same.
func TestIncremental(t *testing.T) {
	changes := 200
	if testing.Short() {
		changes = 50
	}
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			c := chaos.New(seed)
			config := Config{CIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
			if seed == 3 {
				config.CIDRs = nil
			}
			for range 60 {
				c.Change()
			}
			compiler := NewCompiler()
			for i := range changes {
				for range 1 + i%3 {
					c.Change()
				}
				fresh := NewCompiler()
				fresh.memory = clone(compiler.memory)
				got, findings := compiler.Compile(c.Snapshot, config)
				want, wantFindings := fresh.Compile(c.Snapshot, config)
				if a, b := flatten(want), flatten(got); !reflect.DeepEqual(a, b) {
					t.Fatalf("after %d changes (last: %s) the model differs from one that is built from nothing:\n%s", i, c.Last, cmp.Diff(a, b, sameValue()))
				}
				if !slices.Equal(wantFindings, findings) {
					t.Fatalf("after %d changes (last: %s) the findings differ from those of a compilation from nothing:\n%s", i, c.Last, cmp.Diff(wantFindings, findings))
				}
				if !reflect.DeepEqual(fresh.memory, compiler.memory) {
					t.Fatalf("after %d changes (last: %s) something else is remembered", i, c.Last)
				}
			}
		})
	}
}

func clone(m memory) memory {
	return memory{
		maps.Clone(m.meshConfigs), maps.Clone(m.peerAuthentications), maps.Clone(m.authorizationPolicies), maps.Clone(m.trafficPolicies),
	}
}

// TestUnrelatedChangesShare: what a change does not concern is the same pointer, and an
// annotation concerns nothing.
func TestUnrelatedChangesShare(t *testing.T) {
	snap := chaos.Big(20)
	c := NewCompiler()
	config := Config{CIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	before, _ := c.Compile(snap, config)
	count := func(after *crds.Snapshot) int {
		mesh, _ := c.Compile(after, config)
		n := 0
		for range mesh.Services.Changes(before.Services) {
			n++
		}
		for range mesh.ServicesByAddress.Changes(before.ServicesByAddress) {
			n++
		}
		for range mesh.Pods.Changes(before.Pods) {
			n++
		}
		for range mesh.PodsByAddress.Changes(before.PodsByAddress) {
			n++
		}
		for range mesh.Workloads.Changes(before.Workloads) {
			n++
		}
		before = mesh
		return n
	}
	annotated := *snap
	annotated.Services = slices.Clone(snap.Services)
	annotated.Services[3] = snap.Services[3].DeepCopy()
	annotated.Services[3].Annotations = map[string]string{"a": "b"}
	annotated.Pods = slices.Clone(snap.Pods)
	annotated.Pods[3] = snap.Pods[3].DeepCopy()
	annotated.Pods[3].Annotations = map[string]string{"a": "b"}
	if n := count(&annotated); n != 0 {
		t.Errorf("an annotation changes %d values", n)
	}
	moved := annotated
	moved.EndpointSlices = slices.Clone(snap.EndpointSlices)
	moved.EndpointSlices[5] = snap.EndpointSlices[5].DeepCopy()
	moved.EndpointSlices[5].Endpoints[0].Conditions.Ready = new(false)
	if n := count(&moved); n != 2 {
		t.Errorf("an endpoint changes %d values, want its Service by name and by address", n)
	}
	slower := moved
	slower.TrafficPolicies = slices.Clone(snap.TrafficPolicies)
	slower.TrafficPolicies[7] = snap.TrafficPolicies[7].DeepCopy()
	slower.TrafficPolicies[7].Spec.Timeout.Request = "6s"
	if n := count(&slower); n != 2 {
		t.Errorf("a policy of how a Service is called changes %d values, want the Service by name and by address, and not its pods", n)
	}
}
