package cache

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/meshd-io/meshd/pkg/report"
	"github.com/meshd-io/meshd/pkg/xds/acks"
	"github.com/meshd-io/meshd/pkg/xds/envoy"
	"github.com/meshd-io/meshd/pkg/xds/scope"
)

func key(sa string) scope.Key { return scope.Key{Namespace: "shop", ServiceAccount: sa} }

func origins(name string, generation int64) []report.Origin {
	return []report.Origin{{Object: report.Object{Kind: "HTTPRoute", Namespace: "shop", Name: name}, Generation: generation}}
}

// route is a RouteConfiguration with a regex; another regex is another version.
func route(name, regex string, generation int64) envoy.Resource {
	return envoy.Resource{Name: name, Origins: origins(name, generation), Proto: &routev3.RouteConfiguration{
		Name: name, VirtualHosts: []*routev3.VirtualHost{{Name: "all", Domains: []string{"*"}, Routes: []*routev3.Route{{
			Match:  &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: regex}}},
			Action: &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{Status: 404}},
		}}}},
	}}
}

func cluster(name string, seconds int64) envoy.Resource {
	return envoy.Resource{Name: name, Origins: origins(name, 1), Proto: &clusterv3.Cluster{
		Name: name, ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
		ConnectTimeout:   &durationpb.Duration{Seconds: seconds},
		EdsClusterConfig: &clusterv3.Cluster_EdsClusterConfig{EdsConfig: ads()},
	}}
}

func endpoints(name, ip string) envoy.Resource {
	return envoy.Resource{Name: name, Origins: origins(name, 1), Proto: &endpointv3.ClusterLoadAssignment{
		ClusterName: name, Endpoints: []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{{
			HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: &corev3.Address{
				Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
					Address: ip, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: 80}}}}}},
		}}}},
	}}
}

func ads() *corev3.ConfigSource {
	return &corev3.ConfigSource{ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}}}
}

// listener packs a filter deep into a listener.
func listener(t *testing.T, filter proto.Message) envoy.Resource {
	t.Helper()
	packed, err := anypb.New(filter)
	if err != nil {
		t.Fatal(err)
	}
	return envoy.Resource{Name: "a", Origins: origins("a", 1), Proto: &listenerv3.Listener{
		Name: "a", FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{{
			Name: "hcm", ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: packed}}}}},
	}}
}

// versions gives what is served of a type, by name.
func (c *Cache) versions(k scope.Key, t envoy.Type) map[string]string {
	out := map[string]string{}
	for _, it := range c.Snapshot(k).Set(t).Items() {
		out[it.Name] = it.Version
	}
	return out
}

func TestGateNamesTheObjectAndKeepsTheLastGoodVersion(t *testing.T) {
	c := New()
	good := envoy.Resources{envoy.RouteType: {route("a", "/a", 1), route("b", "/b", 1)}}
	if fs := c.Publish(key("x"), good); len(fs) != 0 {
		t.Fatalf("findings %+v", fs)
	}
	before := c.versions(key("x"), envoy.RouteType)
	fs := c.Publish(key("x"), envoy.Resources{envoy.RouteType: {route("a", "/a(", 2), route("b", "/c", 2)}})
	if len(fs) != 1 || fs[0].Object.Name != "a" || fs[0].Generation != 2 || fs[0].Reason != report.Invalid || !strings.Contains(fs[0].Message, "/a(") {
		t.Errorf("findings %+v", fs)
	}
	after := c.versions(key("x"), envoy.RouteType)
	if after["a"] != before["a"] || after["b"] == before["b"] {
		t.Errorf("before %v, after %v", before, after)
	}
	if fs := c.Publish(key("x"), good); len(fs) != 0 || len(c.Findings()) != 0 {
		t.Errorf("findings %+v remain", fs)
	}
	if got := c.versions(key("x"), envoy.RouteType); got["b"] != before["b"] {
		t.Errorf("%v, want %v", got, before)
	}
}

func TestGate(t *testing.T) {
	for name, tt := range map[string]struct {
		rs   envoy.Resources
		want string // in the message; of object "a"
	}{
		"proto validation": {envoy.Resources{envoy.RouteType: {{Name: "a", Origins: origins("a", 1), Proto: &routev3.RouteConfiguration{
			Name: "a", VirtualHosts: []*routev3.VirtualHost{{Name: "v"}}}}}}, "Domains"},
		"a regex of another language": {envoy.Resources{envoy.RouteType: {route("a", `(?=x)`, 1)}}, "(?="},
		"an address that is none":     {envoy.Resources{envoy.EndpointType: {endpoints("a", "example.com")}}, `"example.com" is not an IP`},
		"no assignment":               {envoy.Resources{envoy.ClusterType: {cluster("a", 1)}}, `names endpoint "a"`},
		"a name inside that differs":  {envoy.Resources{envoy.EndpointType: {{Name: "b", Origins: origins("a", 1), Proto: endpoints("a", "::1").Proto}}}, `calls itself "a"`},
		"another type":                {envoy.Resources{envoy.ListenerType: {cluster("a", 1)}}, "is a type.googleapis.com/envoy.config.cluster"},
		"no content":                  {envoy.Resources{envoy.RouteType: {{Name: "a", Origins: origins("a", 1)}}}, "without a name or content"},
		"a name twice":                {envoy.Resources{envoy.RouteType: {route("a", "/", 1), route("a", "/x", 1)}}, "two resources"},
		"after what is not there": {envoy.Resources{envoy.OnDemandType: {{Name: "a", Origins: origins("a", 1),
			After: []envoy.Ref{{Type: envoy.ScopedRouteType, Name: "s"}}, Proto: &clusterv3.Cluster{Name: "a"}}}}, `names scope "s"`},
		"a scope without its routes": {envoy.Resources{envoy.ScopedRouteType: {{Name: "a", Origins: origins("a", 1),
			Proto: &routev3.ScopedRouteConfiguration{Name: "a", RouteConfigurationName: "r", Key: &routev3.ScopedRouteConfiguration_Key{
				Fragments: []*routev3.ScopedRouteConfiguration_Key_Fragment{{Type: &routev3.ScopedRouteConfiguration_Key_Fragment_StringKey{StringKey: "k"}}}}}}}}, `names route "r"`},
		"a listener without its routes": {envoy.Resources{envoy.ListenerType: {listener(t, &hcmv3.HttpConnectionManager{
			StatPrefix: "a", RouteSpecifier: &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{RouteConfigName: "r", ConfigSource: ads()}}})}}, `names route "r"`},
		"a listener without its extension": {envoy.Resources{envoy.ListenerType: {listener(t, &hcmv3.HttpConnectionManager{
			StatPrefix: "a", RouteSpecifier: &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: &routev3.RouteConfiguration{}},
			HttpFilters: []*hcmv3.HttpFilter{{Name: "rbac", ConfigType: &hcmv3.HttpFilter_ConfigDiscovery{ConfigDiscovery: &corev3.ExtensionConfigSource{
				ConfigSource: ads(), TypeUrls: []string{"x"}}}}}})}}, `names extension "rbac"`},
		"an assignment that is put aside": {envoy.Resources{
			envoy.ClusterType: {cluster("a", 1)}, envoy.EndpointType: {endpoints("a", "nowhere")}}, `names endpoint "a"`},
	} {
		t.Run(name, func(t *testing.T) {
			c := New()
			fs := c.Publish(key("x"), tt.rs)
			if !slices.ContainsFunc(fs, func(f report.Finding) bool { return f.Object.Name == "a" && strings.Contains(f.Message, tt.want) }) {
				t.Errorf("findings %+v", fs)
			}
		})
	}
}

func TestEndpointsAloneTouchOnlyThem(t *testing.T) {
	c := New()
	var published int
	c.Watch(func(scope.Key) { published++ })
	rs := func(ip string) envoy.Resources {
		return envoy.Resources{envoy.ClusterType: {cluster("a", 1)}, envoy.EndpointType: {endpoints("a", ip)}}
	}
	c.Publish(key("x"), rs("10.0.0.1"))
	before := c.Snapshot(key("x"))
	c.Publish(key("x"), rs("10.0.0.1"))
	if published != 1 {
		t.Errorf("an equal translation was published: %d", published)
	}
	c.Publish(key("x"), rs("10.0.0.2"))
	after := c.Snapshot(key("x"))
	if published != 2 || after.Set(envoy.ClusterType).ID != before.Set(envoy.ClusterType).ID ||
		after.Set(envoy.EndpointType).ID == before.Set(envoy.EndpointType).ID {
		t.Errorf("published %d, %+v then %+v", published, before.Sets(), after.Sets())
	}
}

func TestEqualResourcesOfKeysAreOne(t *testing.T) {
	c := New()
	for _, sa := range []string{"x", "y"} {
		c.Publish(key(sa), envoy.Resources{envoy.RouteType: {route("a", "/a", 1)}})
	}
	x, y := c.Snapshot(key("x")).Set(envoy.RouteType), c.Snapshot(key("y")).Set(envoy.RouteType)
	if x.Get("a").Encoded != y.Get("a").Encoded || x.ID != y.ID {
		t.Error("equal bytes are kept twice")
	}
	c.Remove(key("x"))
	c.Publish(key("y"), nil)
	if len(c.intern) != 0 || len(c.ids) != 0 {
		t.Errorf("%d bytes and %d sets are kept for nobody", len(c.intern), len(c.ids))
	}
}

func TestRejectedIsReplacedUntilItChanges(t *testing.T) {
	c := New()
	publish := func(regex string) *Item {
		c.Publish(key("x"), envoy.Resources{envoy.RouteType: {route("a", regex, 1)}})
		return c.Snapshot(key("x")).Set(envoy.RouteType).Get("a")
	}
	reject := func(it *Item) {
		c.Reject(key("x"), Refusal{Type: envoy.RouteType, Name: "a", Version: it.Version, Message: "no"})
	}
	served := func() string { return c.versions(key("x"), envoy.RouteType)["a"] }

	good := publish("/good")
	c.Accept(key("x"), []*Item{good})
	publish("/skipped") // never seen by an Envoy
	bad := publish("/bad")
	reject(bad)
	if served() != good.Version {
		t.Errorf("%s is served, want the version that was acknowledged", served())
	}
	if got := publish("/bad"); got.Version != good.Version {
		t.Error("the same bad version is back")
	}
	fs := c.Findings()
	if len(fs) != 1 || fs[0].Reason != report.Rejected || !strings.Contains(fs[0].Message, "no") {
		t.Errorf("findings %+v", fs)
	}
	mended := publish("/mended")
	if served() != mended.Version || served() == good.Version || len(c.Findings()) != 0 {
		t.Error("a mended version is not served")
	}
	// One proxy takes it, another refuses it.
	c.Accept(key("x"), []*Item{mended})
	reject(mended)
	if served() != good.Version {
		t.Error("the good version before is lost")
	}
	reject(&Item{Encoded: &Encoded{Version: "unknown"}}) // late: it changes nothing
	if served() != good.Version {
		t.Error("a refusal of a version that is history counts")
	}
}

func TestWithheldIsNeitherThereNorGone(t *testing.T) {
	c := New()
	c.Publish(key("x"), envoy.Resources{envoy.RouteType: {route("a", "/a", 1)}})
	set := c.Snapshot(key("x")).Set(envoy.RouteType)
	c.Reject(key("x"), Refusal{Type: envoy.RouteType, Name: "a", Version: set.Get("a").Version, Message: "no"})
	set = c.Snapshot(key("x")).Set(envoy.RouteType)
	if set.Get("a") != nil || !set.Withheld("a") || !slices.Equal(set.WithheldNames(), []string{"a"}) {
		t.Errorf("%+v", set)
	}
	got := c.Concerned(key("x"), origins("a", 1)[0].Object)
	if len(got) != 1 || got[0].Refused != "no" {
		t.Errorf("concerned %+v", got)
	}
	// Another workload is not touched by what this one's proxies say.
	c.Publish(key("y"), envoy.Resources{envoy.RouteType: {route("a", "/a", 1)}})
	if c.versions(key("y"), envoy.RouteType)["a"] == "" {
		t.Error("another key lost the resource")
	}
}

func TestGenerationWithoutBytesIsNoVersion(t *testing.T) {
	c := New()
	c.Publish(key("x"), envoy.Resources{envoy.RouteType: {route("a", "/a", 1)}})
	before := c.Snapshot(key("x")).Set(envoy.RouteType).ID
	c.Publish(key("x"), envoy.Resources{envoy.RouteType: {route("a", "/a", 2)}})
	set := c.Snapshot(key("x")).Set(envoy.RouteType)
	if set.ID != before {
		t.Error("a generation changed a version")
	}
	if got := c.Concerned(key("x"), origins("a", 1)[0].Object); len(got) != 1 || got[0].Generation != 2 {
		t.Errorf("concerned %+v", got)
	}
}

// TestObjectsAreAllThatOfKnows: of an object that is several times an origin of a resource, the newest generation counts.
func TestObjectsAreAllThatOfKnows(t *testing.T) {
	c := New()
	shared, other := route("a", "/a", 2), route("b", "/b", 5)
	shared.Origins = slices.Concat(origins("a", 3), origins("a", 2), origins("b", 5))
	c.Publish(key("x"), envoy.Resources{envoy.RouteType: {shared, other, route("c", "(", 7)}, envoy.EndpointType: {endpoints("e", "10.0.0.1")}})
	snapshot, got := c.Snapshot(key("x")), map[report.Object][]acks.Resource{}
	for o, rs := range snapshot.Objects() {
		got[o] = append(got[o], rs...)
	}
	for name, generations := range map[string][]int64{"a": {3}, "b": {5, 5}, "c": {7}, "e": {1}} {
		o := origins(name, 1)[0].Object
		var has []int64
		for _, r := range got[o] {
			has = append(has, r.Generation)
		}
		if !slices.Equal(has, generations) || !slices.Equal(got[o], snapshot.Of(o)) {
			t.Errorf("%s: %+v, alone %+v", name, got[o], snapshot.Of(o))
		}
		delete(got, o)
	}
	if len(got) > 0 {
		t.Errorf("nobody's: %+v", got)
	}
	for range (*Snapshot)(nil).Objects() {
		t.Error("nothing has objects")
	}
}

// BenchmarkPublishOfOneChange is a translation of 1000 services of which one assignment has changed.
func BenchmarkPublishOfOneChange(b *testing.B) {
	c := New()
	translate := func(ip string) envoy.Resources {
		rs := envoy.Resources{}
		for i := range 1000 {
			name := fmt.Sprintf("out|shop/%d|80", i)
			rs[envoy.ClusterType] = append(rs[envoy.ClusterType], cluster(name, 1))
			rs[envoy.EndpointType] = append(rs[envoy.EndpointType], endpoints(name, "10.0.0.1"))
		}
		rs[envoy.EndpointType][7] = endpoints("out|shop/7|80", ip)
		return rs
	}
	two := []envoy.Resources{translate("10.0.0.2"), translate("10.0.0.3")}
	c.Publish(key("x"), two[0])
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		c.Publish(key("x"), two[i%2])
	}
}

// BenchmarkPublishPartsOfOneChange is of 1000 parts of which one has another assignment.
func BenchmarkPublishPartsOfOneChange(b *testing.B) {
	c := New()
	part := func(i int, ip string) *Translation {
		name := fmt.Sprintf("out|shop/%04d|80", i)
		t := c.Check(envoy.Resources{envoy.ClusterType: {cluster(name, 1)}, envoy.EndpointType: {endpoints(name, ip)}})
		return &t
	}
	var parts []*Translation
	for i := range 1000 {
		parts = append(parts, part(i, "10.0.0.1"))
	}
	two := []*Translation{part(7, "10.0.0.2"), part(7, "10.0.0.3")}
	c.PublishParts(key("x"), parts)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		parts = slices.Clone(parts)
		parts[7] = two[i%2]
		c.PublishParts(key("x"), parts)
	}
}
