package compile

import (
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/meshd-io/meshd/internal/golden"
	"github.com/meshd-io/meshd/pkg/crds"
)

// shuffles per case; the seeds are fixed.
const shuffles = 5

// shuffled gives a snapshot with every list of objects in another order.
func shuffled(snap *crds.Snapshot, r *rand.Rand) *crds.Snapshot {
	out := *snap
	v := reflect.ValueOf(&out).Elem()
	for i := range v.NumField() {
		list := v.Field(i)
		other := reflect.MakeSlice(list.Type(), list.Len(), list.Len())
		for to, from := range r.Perm(list.Len()) {
			other.Index(to).Set(list.Index(from))
		}
		list.Set(other)
	}
	return &out
}

func sameValue() cmp.Option {
	return cmp.Options{
		cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{}),
		cmpopts.EquateEmpty(),
	}
}

// TestOrderOfInputDoesNotMatter shuffles the whole corpus.
func TestOrderOfInputDoesNotMatter(t *testing.T) {
	for _, in := range golden.Inputs(t, "testdata/*.in.yaml") {
		t.Run(strings.TrimSuffix(filepath.Base(in), ".in.yaml"), func(t *testing.T) {
			c := readCase(t, in)
			snaps, _ := c.snapshots(t)
			want, wantFindings := compileAll(snaps, c.config)
			for seed := range uint64(shuffles) {
				r := rand.New(rand.NewPCG(seed, 1))
				var other []*crds.Snapshot
				for _, s := range snaps {
					other = append(other, shuffled(s, r))
				}
				got, findings := compileAll(other, c.config)
				if d := cmp.Diff(want, got, sameValue()); d != "" {
					t.Fatalf("seed %d: the model differs:\n%s", seed, d)
				}
				if d := cmp.Diff(wantFindings, findings); d != "" {
					t.Fatalf("seed %d: the findings differ:\n%s", seed, d)
				}
			}
		})
	}
}

// TestInputIsLeftAlone: snapshots are shared, and immutable.
func TestInputIsLeftAlone(t *testing.T) {
	for _, in := range golden.Inputs(t, "testdata/*.in.yaml") {
		c := readCase(t, in)
		before, _ := c.snapshots(t)
		after, _ := c.snapshots(t)
		compileAll(after, c.config)
		if !reflect.DeepEqual(before, after) {
			t.Errorf("%s: compilation changed its input:\n%s", in, cmp.Diff(before, after))
		}
	}
}

// TestAllAtOnce compiles the whole corpus as one mesh: cases must not break
// each other in ways that panic, and the order must not matter there either.
func TestAllAtOnce(t *testing.T) {
	all := &crds.Snapshot{}
	target := reflect.ValueOf(all).Elem()
	seen := map[any]bool{}
	for _, in := range golden.Inputs(t, "testdata/*.in.yaml") {
		snaps, _ := readCase(t, in).snapshots(t)
		from := reflect.ValueOf(snaps[len(snaps)-1]).Elem()
		for i := range from.NumField() {
			for j := range from.Field(i).Len() {
				obj := from.Field(i).Index(j)
				name := obj.Elem().FieldByName("Namespace").String() + "/" + obj.Elem().FieldByName("Name").String()
				key := [2]any{i, name}
				if !seen[key] {
					seen[key] = true
					target.Field(i).Set(reflect.Append(target.Field(i), obj))
				}
			}
		}
	}
	want, wantFindings := Compile(all, Config{})
	for seed := range uint64(shuffles) {
		got, findings := Compile(shuffled(all, rand.New(rand.NewPCG(seed, 2))), Config{})
		if d := cmp.Diff(want, got, sameValue()); d != "" {
			t.Fatalf("seed %d: the model differs:\n%s", seed, d)
		}
		if d := cmp.Diff(wantFindings, findings); d != "" {
			t.Fatalf("seed %d: the findings differ:\n%s", seed, d)
		}
	}
}
