package compile

import (
	"maps"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshd-io/meshd/pkg/compile/object"
	"github.com/meshd-io/meshd/pkg/crds"
	"github.com/meshd-io/meshd/pkg/model"
)

// shuffles per case; the seeds are fixed.
const shuffles = 5

// shuffled gives a snapshot with every list of objects in another order.
func shuffled(snap *crds.Snapshot, r *rand.Rand) *crds.Snapshot {
	out := *snap
	v := reflect.ValueOf(&out).Elem()
	for i := range v.NumField() {
		list := v.Field(i)
		if !isObjects(list) {
			continue
		}
		other := reflect.MakeSlice(list.Type(), list.Len(), list.Len())
		for to, from := range r.Perm(list.Len()) {
			other.Index(to).Set(list.Index(from))
		}
		list.Set(other)
	}
	return &out
}

// isObjects tells the fields of a snapshot that hold objects.
func isObjects(v reflect.Value) bool {
	return v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Pointer
}

// flat is a Mesh with Go's maps.
type flat struct {
	Settings          model.Settings
	Trust             model.Trust
	Workloads         map[model.WorkloadKey]*model.Workload
	Pods              map[model.Name]*model.Pod
	PodsByAddress     map[netip.Addr]*model.Pod
	Services          map[model.Name]*model.Service
	ServicesByAddress map[netip.Addr]*model.Service
	Gateways          map[model.WorkloadKey]*model.Gateway
	Routings          map[model.RoutingKey]*model.Routing
	Consumed          map[string]*model.Consumed
}

func flatten(m *model.Mesh) flat {
	return flat{
		m.Settings, m.Trust, maps.Collect(m.Workloads.All()), maps.Collect(m.Pods.All()), maps.Collect(m.PodsByAddress.All()),
		maps.Collect(m.Services.All()), maps.Collect(m.ServicesByAddress.All()), maps.Collect(m.Gateways.All()),
		maps.Collect(m.Routings.All()), maps.Collect(m.Consumed.All()),
	}
}

func sameValue() cmp.Option {
	return cmp.Options{
		cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{}),
		cmpopts.EquateEmpty(),
	}
}

// checkOrder compiles the states with their objects in other orders.
func checkOrder(t *testing.T, snaps []*crds.Snapshot, config Config) {
	t.Helper()
	want, wantFindings := compileAll(snaps, config)
	for seed := range uint64(shuffles) {
		r := rand.New(rand.NewPCG(seed, 1))
		var other []*crds.Snapshot
		for _, s := range snaps {
			other = append(other, shuffled(s, r))
		}
		got, findings := compileAll(other, config)
		if d := cmp.Diff(flatten(want), flatten(got), sameValue()); d != "" {
			t.Fatalf("in the order of seed %d the model differs:\n%s", seed, d)
		}
		if d := cmp.Diff(wantFindings, findings); d != "" {
			t.Fatalf("in the order of seed %d the findings differ:\n%s", seed, d)
		}
	}
}

// united is the objects of all snapshots; of one name the first.
func united(snaps []*crds.Snapshot) *crds.Snapshot {
	type key struct {
		field int
		name  model.Name
	}
	all := &crds.Snapshot{}
	target := reflect.ValueOf(all).Elem()
	seen := map[key]bool{}
	for _, snap := range snaps {
		from := reflect.ValueOf(snap).Elem()
		for i := range from.NumField() {
			if !isObjects(from.Field(i)) {
				continue
			}
			for j := range from.Field(i).Len() {
				obj := from.Field(i).Index(j)
				k := key{i, object.Name(obj.Interface().(metav1.Object))}
				if !seen[k] {
					seen[k] = true
					target.Field(i).Set(reflect.Append(target.Field(i), obj))
				}
			}
		}
	}
	return all
}
