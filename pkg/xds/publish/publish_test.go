package publish_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/meshd-io/meshd/internal/chaos"
	"github.com/meshd-io/meshd/pkg/compile"
	"github.com/meshd-io/meshd/pkg/crds"
	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/report"
	"github.com/meshd-io/meshd/pkg/xds/cache"
	"github.com/meshd-io/meshd/pkg/xds/envoy"
	"github.com/meshd-io/meshd/pkg/xds/publish"
	"github.com/meshd-io/meshd/pkg/xds/scope"
)

// types that are served.
func types() []envoy.Type {
	return []envoy.Type{
		envoy.SecretType, envoy.ClusterType, envoy.EndpointType, envoy.ExtensionType,
		envoy.ScopedRouteType, envoy.RouteType, envoy.ListenerType, envoy.OnDemandType,
	}
}

// TestPublished changes a mesh and what is demanded of it at random, and holds
// what is published to the whole functions' result, byte for byte.
func TestPublished(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 1))
			c := chaos.New(seed)
			compiler, live := compile.NewCompiler(), cache.New()
			p := publish.New(live)
			config := compile.Config{CIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Trust: model.Trust{Bundle: "roots"}}
			wanted := map[scope.Key]scope.Demand{}
			var first scope.Demand // of each key
			for i := range int(seed) % 4 * 25 {
				first = first.With(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i%4 + 1)}), uint16(80+i/4)))
			}
			for i := range 120 {
				c.Change()
				mesh, _ := compiler.Compile(c.Snapshot, config)
				other := *mesh
				other.Settings.ScopeAll = seed == 1 && i/20%2 == 1
				if i%40 == 39 {
					config.Trust.Bundle += "."
				}
				p.Mesh(&other)
				changeDemand(r, p, &other, first, wanted)
				p.Publish()
				if i%6 == 5 {
					compare(t, fmt.Sprintf("after %d changes (last: %s)", i, c.Last), live, p, &other, wanted)
				}
			}
		})
	}
}

// changeDemand has a key come, go or ask for more.
func changeDemand(r *rand.Rand, p *publish.Publisher, mesh *model.Mesh, first scope.Demand, wanted map[scope.Key]scope.Demand) {
	for key := range mesh.Workloads.All() {
		if r.IntN(4) > 0 {
			continue
		}
		d, known := wanted[key]
		if !known {
			d = first
		}
		ip := []string{"10.0.0.1", "10.0.0.2", "10.0.0.3", "10.1.0.1", "10.1.0.2", "10.1.0.3", "10.9.9.9", "192.0.2.1"}[r.IntN(8)]
		d = d.With(netip.AddrPortFrom(netip.MustParseAddr(ip), []uint16{80, 81, 8080, 15006}[r.IntN(4)]))
		if r.IntN(3) == 0 {
			d, _ = d.Promote()
		}
		wanted[key] = d
		p.Want(key, d)
	}
	for key := range wanted {
		if r.IntN(60) == 0 {
			delete(wanted, key)
			p.Drop(key)
		}
	}
}

func compare(t *testing.T, when string, live *cache.Cache, p *publish.Publisher, mesh *model.Mesh, wanted map[scope.Key]scope.Demand) {
	t.Helper()
	fresh := cache.New()
	var findings []report.Finding
	for key, d := range wanted {
		resources, fs := envoy.Translate(scope.Of(mesh, key, d))
		findings = append(findings, fs...)
		if faults := fresh.Publish(key, resources); len(faults) > 0 {
			t.Fatalf("%s: %v", when, faults)
		}
		got, want := live.Snapshot(key), fresh.Snapshot(key)
		if !reflect.DeepEqual(got.Sets(), want.Sets()) {
			t.Fatalf("%s: %v is served\n%+v, from nothing it would be\n%+v", when, key, got.Sets(), want.Sets())
		}
		for _, typ := range types() {
			a, b := got.Set(typ).Items(), want.Set(typ).Items()
			for i := range a {
				if a[i].Name != b[i].Name || !slices.Equal(a[i].Segment, b[i].Segment) || !slices.Equal(a[i].Origins, b[i].Origins) || !slices.Equal(a[i].After, b[i].After) {
					t.Fatalf("%s: %v has %+v, from nothing it would be %+v", when, key, a[i], b[i])
				}
			}
		}
	}
	if findings = report.Sort(findings); !slices.Equal(findings, p.Findings()) {
		t.Fatalf("%s: findings %v, from nothing they would be %v", when, p.Findings(), findings)
	}
}

// TestWhateverARouteSaysIsPublished: what an API server has taken under other
// rules than this meshd knows is judged by compile, so that the gate never has
// to put a Service's routes aside.
func TestWhateverARouteSaysIsPublished(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	text := func() string {
		const odd = "aB/.-*?#%:\\ \n\x00é[($1{"
		out := make([]rune, 1+r.IntN(5))
		for i := range out {
			out[i] = []rune(odd)[r.IntN(len([]rune(odd)))]
		}
		return []string{string(out), "/" + string(out), "", "*", "x.example", "/x"}[r.IntN(6)]
	}
	number := func() *int32 { return new([]int32{-1, 0, 1, 100, 1 << 30}[r.IntN(5)]) }
	headers := func() *gwv1.HTTPHeaderFilter {
		return &gwv1.HTTPHeaderFilter{
			Set: []gwv1.HTTPHeader{{Name: gwv1.HTTPHeaderName("x" + text()), Value: text()}}, Add: []gwv1.HTTPHeader{{Name: gwv1.HTTPHeaderName("y" + text()), Value: text()}}, Remove: []string{"z" + text()},
		}
	}
	path := func() *gwv1.HTTPPathModifier {
		return &gwv1.HTTPPathModifier{
			Type:            []gwv1.HTTPPathModifierType{gwv1.FullPathHTTPPathModifier, gwv1.PrefixMatchHTTPPathModifier, "Odd"}[r.IntN(3)],
			ReplaceFullPath: new(text()), ReplacePrefixMatch: new(text()),
		}
	}
	snap := chaos.Big(2)
	compiler, served := compile.NewCompiler(), cache.New()
	p := publish.New(served)
	key := scope.Key{Namespace: "shop", ServiceAccount: "app-00001", Labels: "app=app-00001"}
	inForce := 0
	for range 1000 {
		route := &gwv1.HTTPRoute{ObjectMeta: metav1.ObjectMeta{Name: "r", Namespace: "shop"}}
		route.Spec.ParentRefs = []gwv1.ParentReference{{Group: new(gwv1.Group("")), Kind: new(gwv1.Kind("Service")), Name: "app-00000"}}
		match := gwv1.HTTPRouteMatch{Path: &gwv1.HTTPPathMatch{Type: []*gwv1.PathMatchType{nil, new(gwv1.PathMatchExact), new(gwv1.PathMatchRegularExpression)}[r.IntN(3)], Value: new(text())}}
		rule := gwv1.HTTPRouteRule{Filters: []gwv1.HTTPRouteFilter{[]gwv1.HTTPRouteFilter{
			{Type: gwv1.HTTPRouteFilterRequestHeaderModifier, RequestHeaderModifier: headers()},
			{Type: gwv1.HTTPRouteFilterResponseHeaderModifier, ResponseHeaderModifier: headers()},
			{Type: gwv1.HTTPRouteFilterURLRewrite, URLRewrite: &gwv1.HTTPURLRewriteFilter{Hostname: new(gwv1.PreciseHostname(text())), Path: path()}},
			{Type: gwv1.HTTPRouteFilterRequestRedirect, RequestRedirect: &gwv1.HTTPRequestRedirectFilter{Hostname: new(gwv1.PreciseHostname(text())), Path: path(), Scheme: new(text()), Port: number()}},
			{Type: gwv1.HTTPRouteFilterRequestMirror, RequestMirror: &gwv1.HTTPRequestMirrorFilter{
				BackendRef: gwv1.BackendObjectReference{Name: "app-00001", Port: new(int32(80))}, Fraction: &gwv1.Fraction{Numerator: *number(), Denominator: number()}}},
			{Type: gwv1.HTTPRouteFilterType(text())},
		}[r.IntN(6)]}}
		switch r.IntN(4) {
		case 0:
			match.Method = new(gwv1.HTTPMethod(text()))
		case 1:
			match.Headers = []gwv1.HTTPHeaderMatch{{Name: gwv1.HTTPHeaderName(text()), Value: text()}, {Name: "h", Type: new(gwv1.HeaderMatchRegularExpression), Value: text()}}
		case 2:
			match.QueryParams = []gwv1.HTTPQueryParamMatch{{Name: gwv1.HTTPHeaderName(text()), Value: text()}}
		case 3:
			rule.Timeouts = &gwv1.HTTPRouteTimeouts{Request: new(gwv1.Duration(text())), BackendRequest: new(gwv1.Duration("99999h"))}
			rule.Retry = &gwv1.HTTPRouteRetry{Attempts: new(int(*number())), Backoff: new(gwv1.Duration("99999h"))}
		}
		rule.Matches = []gwv1.HTTPRouteMatch{match}
		for _, name := range []gwv1.ObjectName{"app-00000", "app-00001"} {
			ref := gwv1.HTTPBackendRef{Filters: []gwv1.HTTPRouteFilter{{Type: gwv1.HTTPRouteFilterRequestHeaderModifier, RequestHeaderModifier: headers()}}}
			ref.Name, ref.Port, ref.Weight = name, new(int32(80)), number()
			rule.BackendRefs = append(rule.BackendRefs, ref)
		}
		route.Spec.Rules = []gwv1.HTTPRouteRule{rule}
		next := *snap
		next.HTTPRoutes = []*gwv1.HTTPRoute{route}
		mesh, _ := compiler.Compile(&next, compile.Config{CIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}})
		p.Mesh(mesh)
		p.Want(key, scope.Demand{}.With(netip.MustParseAddrPort("10.96.0.1:80")))
		p.Publish()
		if fs := served.Findings(); len(fs) > 0 {
			text, _ := json.Marshal(route.Spec)
			t.Fatalf("%v\nof %s", fs, text)
		}
		inForce += mesh.Routings.Len()
	}
	if inForce < 100 {
		t.Errorf("%d of 1000 routes were in force: too few to show anything", inForce)
	}
}

// TestUnrelatedChangesPublishNothing: neither what no key uses nor what changes no byte is looked at again.
func TestUnrelatedChangesPublishNothing(t *testing.T) {
	b := newBig(t, 50, 0)
	turn := func(kind string, service int) int {
		t.Helper()
		b.change(kind, service)
		return b.settle()
	}
	for kind, want := range map[string]int{"endpoints": keys, "policy": keys, "annotation": 0, "pod": 0} {
		if n := turn(kind, 3); n != want {
			t.Errorf("%s of a Service that all keys use: %d keys were published, want %d", kind, n, want)
		}
		if n := turn(kind, 40); n != 0 {
			t.Errorf("%s of a Service that no key uses: %d keys were published", kind, n)
		}
	}
	b.change("service", 40)
	if n := b.settle(); n != 0 {
		t.Errorf("a Service that nobody uses: %d keys were published", n)
	}
}

// TestRouteChangesPublishToItsCallers: a route is looked at for those who call its Service, and for nobody else.
func TestRouteChangesPublishToItsCallers(t *testing.T) {
	b := newBig(t, 50, 40)
	for route, want := range map[int]int{3: keys, 30: 0} {
		b.next(func(s *crds.Snapshot) { chaos.ChangeRoute(s, route) })
		if n := b.settle(); n != want {
			t.Errorf("route %d: %d keys were published, want %d", route, n, want)
		}
	}
	b.next(func(s *crds.Snapshot) {
		s.HTTPRoutes = slices.Clone(s.HTTPRoutes)
		s.HTTPRoutes[3] = s.HTTPRoutes[3].DeepCopy()
		s.HTTPRoutes[3].Annotations = map[string]string{"a": "b"}
	})
	if n := b.settle(); n != 0 {
		t.Errorf("an annotation of a route: %d keys were published", n)
	}
}

// keys that are published, and Services that each of them uses.
const keys, uses = 20, 20

// big is a mesh with all stages from snapshots to the cache.
type big struct {
	snap     *crds.Snapshot
	compiler *compile.Compiler
	config   compile.Config
	p        *publish.Publisher
	turn     int
}

func newBig(tb testing.TB, services, routes int) *big {
	return newBigOf(tb, services, routes, keys, uses)
}

func newBigOf(tb testing.TB, services, routes, keys, uses int) *big {
	tb.Helper()
	snap := chaos.Big(services)
	chaos.AddRoutes(snap, routes)
	b := &big{
		snap: snap, compiler: compile.NewCompiler(), p: publish.New(cache.New()),
		config: compile.Config{CIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Trust: model.Trust{Bundle: "roots"}},
	}
	mesh, _ := b.compiler.Compile(b.snap, b.config)
	var d scope.Demand
	for i := range uses {
		s, _ := mesh.Services.Get(model.Name{Namespace: "shop", Name: fmt.Sprintf("app-%05d", i)})
		d = d.With(scope.Leads(s)...)
	}
	d, _ = d.Promote()
	b.p.Mesh(mesh)
	for i := range keys {
		app := fmt.Sprintf("app-%05d", services-1-i)
		b.p.Want(scope.Key{Namespace: "shop", ServiceAccount: app, Labels: "app=" + app}, d)
	}
	if n := b.p.Publish(); n != keys {
		tb.Fatalf("%d keys were published", n)
	}
	return b
}

func (b *big) change(kind string, service int) {
	i := slices.IndexFunc(chaos.Kinds(), func(k chaos.Kind) bool { return k.Name == kind })
	b.next(func(s *crds.Snapshot) { chaos.Kinds()[i].Make(s, service) })
}

func (b *big) next(change func(*crds.Snapshot)) {
	next := *b.snap
	change(&next)
	b.snap = &next
	b.turn++
}

func (b *big) settle() int {
	mesh, _ := b.compiler.Compile(b.snap, b.config)
	b.p.Mesh(mesh)
	return b.p.Publish()
}

// BenchmarkChange is compile, translate and publish after one object has
// changed: of a Service that all 20 keys use, or of one that none uses.
func BenchmarkChange(b *testing.B) {
	for _, n := range []int{100, 1000, 10000} {
		m := newBig(b, n, 0)
		for _, kind := range chaos.Kinds() {
			for name, first := range map[string]int{"used": 0, "unused": uses} {
				b.Run(fmt.Sprintf("%s-%s/%d-services", kind.Name, name, n), func(b *testing.B) {
					m.measure(b, func() { m.change(kind.Name, first+m.turn%uses) })
				})
			}
		}
	}
}

// BenchmarkChangeOfMany is the same for one key that uses all Services.
func BenchmarkChangeOfMany(b *testing.B) {
	for _, n := range []int{100, 1000} {
		m := newBigOf(b, n, 0, 1, n)
		b.Run(fmt.Sprintf("endpoints/%d-services", n), func(b *testing.B) {
			m.measure(b, func() { m.change("endpoints", m.turn%n) })
		})
	}
}

// BenchmarkRouteChange is the same for one HTTPRoute of 1000, dealt out to the
// Services in turn, so that with 100 Services each has ten.
func BenchmarkRouteChange(b *testing.B) {
	for _, n := range []int{100, 1000, 10000} {
		m := newBig(b, n, 1000)
		for name, first := range map[string]int{"used": 0, "unused": uses} {
			b.Run(fmt.Sprintf("route-%s/%d-services", name, n), func(b *testing.B) {
				m.measure(b, func() { m.next(func(s *crds.Snapshot) { chaos.ChangeRoute(s, first+m.turn%uses) }) })
			})
		}
	}
}

func (b *big) measure(tb *testing.B, change func()) {
	var cpu time.Duration
	for tb.Loop() {
		change()
		before := cpuTime()
		b.settle()
		cpu += cpuTime() - before
	}
	tb.ReportMetric(float64(cpu.Microseconds())/float64(tb.N), "cpu-us/op")
}

// cpuTime is the process' user and system time.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
