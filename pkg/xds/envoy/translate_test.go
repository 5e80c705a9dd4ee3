package envoy_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"testing"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"sigs.k8s.io/yaml"

	"github.com/meshd-io/meshd/internal/envoytest"
	"github.com/meshd-io/meshd/internal/golden"
	"github.com/meshd-io/meshd/pkg/report"
	"github.com/meshd-io/meshd/pkg/xds/envoy"
)

// TestGolden compares what each case is translated to with its file. The base
// case's file is whole; the others' have what differs from their base, down to
// the filter chains of listeners, so that a file shows its idea.
func TestGolden(t *testing.T) {
	all := cases()
	for name, c := range all {
		t.Run(name, func(t *testing.T) {
			got, findings := envoy.Translate(c.view())
			var from envoy.Resources
			if c.base != "" {
				from, _ = envoy.Translate(all[c.base].view())
			}
			golden.Check(t, "testdata/translate/"+name+".yaml", render(t, from, got, findings))
		})
	}
}

// TestRealEnvoyLoads has a stock Envoy load every case.
func TestRealEnvoyLoads(t *testing.T) {
	all := map[string]envoy.Resources{}
	for name, c := range cases() {
		all[name], _ = envoy.Translate(c.view())
	}
	static, err := envoytest.Static(withRealCertificates(t, all))
	if err != nil {
		t.Fatal(err)
	}
	envoytest.Validate(t, withRealFiles(t, static))
}

func TestResourcesAreValid(t *testing.T) {
	for name, c := range cases() {
		rs, _ := envoy.Translate(c.view())
		for typ, list := range rs {
			if !slices.IsSortedFunc(list, func(a, b envoy.Resource) int { return bytes.Compare([]byte(a.Name), []byte(b.Name)) }) {
				t.Errorf("%s: %s is not sorted", name, typ)
			}
			for i, r := range list {
				if i > 0 && list[i-1].Name == r.Name {
					t.Errorf("%s: %s %s is there twice", name, typ, r.Name)
				}
				if v, ok := r.Proto.(interface{ ValidateAll() error }); !ok || v.ValidateAll() != nil {
					t.Errorf("%s: %s: %v", name, r.Name, v.ValidateAll())
				}
				for _, ref := range r.After {
					if !slices.ContainsFunc(rs[ref.Type], func(o envoy.Resource) bool { return o.Name == ref.Name }) {
						t.Errorf("%s: %s waits for %v, which does not exist", name, r.Name, ref)
					}
				}
			}
		}
	}
}

// TestSameViewSameBytes: translation twice, of Views that were made apart.
func TestSameViewSameBytes(t *testing.T) {
	first, second := cases(), cases()
	for name := range first {
		a, b := marshal(t, first[name]), marshal(t, second[name])
		if !bytes.Equal(a, b) {
			t.Errorf("%s: equal views give other bytes", name)
		}
	}
}

func marshal(t *testing.T, c testCase) []byte {
	t.Helper()
	rs, _ := envoy.Translate(c.view())
	var out []byte
	for _, typ := range slices.Sorted(maps.Keys(rs)) {
		for _, r := range rs[typ] {
			b, err := proto.MarshalOptions{Deterministic: true}.Marshal(r.Proto)
			if err != nil {
				t.Fatal(err)
			}
			out = append(append(out, r.Name...), b...)
		}
	}
	return out
}

// rendered is a resource as its golden file has it.
type rendered struct {
	Name    string          `json:"name"`
	Origins []report.Origin `json:"origins,omitempty"`
	After   []string        `json:"after,omitempty"`
	// Same are the filter chains that are left out here because the base has them too.
	Same     []string `json:"same,omitempty"`
	Resource any      `json:"resource"`
}

func render(t *testing.T, from, got envoy.Resources, findings []report.Finding) []byte {
	t.Helper()
	out := map[string]any{}
	var gone []string
	for typ, list := range got {
		var some []rendered
		for _, r := range list {
			if same(from[typ], r) {
				continue
			}
			some = append(some, renderOne(t, find(from[typ], r.Name), r))
		}
		if len(some) > 0 {
			out[string(typ)] = some
		}
	}
	for typ, list := range from {
		for _, r := range list {
			if find(got[typ], r.Name) == nil {
				gone = append(gone, string(typ)+" "+r.Name)
			}
		}
	}
	slices.Sort(gone)
	if len(gone) > 0 {
		out["gone"] = gone
	}
	if len(findings) > 0 {
		out["findings"] = findings
	}
	b, err := yaml.Marshal(out)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func renderOne(t *testing.T, base *envoy.Resource, r envoy.Resource) rendered {
	t.Helper()
	one := rendered{Name: r.Name, Origins: r.Origins}
	m := r.Proto
	if l, ok := m.(*listenerv3.Listener); ok && base != nil {
		m, one.Same = withoutSame(base.Proto.(*listenerv3.Listener), l)
	}
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &one.Resource); err != nil {
		t.Fatal(err)
	}
	for _, ref := range r.After {
		one.After = append(one.After, string(ref.Type)+" "+ref.Name)
	}
	return one
}

// withoutSame leaves out the filter chains that base has too.
func withoutSame(base, l *listenerv3.Listener) (*listenerv3.Listener, []string) {
	out := proto.CloneOf(l)
	out.FilterChains = nil
	var same []string
	for _, c := range l.GetFilterChains() {
		if slices.ContainsFunc(base.GetFilterChains(), func(b *listenerv3.FilterChain) bool { return proto.Equal(b, c) }) {
			same = append(same, c.GetName())
		} else {
			out.FilterChains = append(out.FilterChains, c)
		}
	}
	return out, same
}

func find(list []envoy.Resource, name string) *envoy.Resource {
	for i := range list {
		if list[i].Name == name {
			return &list[i]
		}
	}
	return nil
}

func same(list []envoy.Resource, r envoy.Resource) bool {
	o := find(list, r.Name)
	return o != nil && proto.Equal(o.Proto, r.Proto) && slices.Equal(o.Origins, r.Origins)
}

func BenchmarkTranslate(b *testing.B) {
	m := shop()
	var demand []string
	const services = 100
	for i := range services {
		name, ip := benchService(i)
		addService(m, service(name, ip, loansPort, 1))
		demand = append(demand, ip+":8090")
	}
	v := accounts(m, demand...).view()
	b.ReportAllocs()
	for b.Loop() {
		envoy.Translate(v)
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/services, "us/service")
}
