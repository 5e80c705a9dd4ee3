package acks

import (
	"fmt"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/meshd-io/meshd/pkg/xds/envoy"
	"github.com/meshd-io/meshd/pkg/xds/scope"
)

// replicas is how many proxies of the benchmarks have one workload.
const replicas = 10

var benchSizes = []int{1000, 3000}

var allTypes = []envoy.Type{
	envoy.SecretType, envoy.ClusterType, envoy.EndpointType, envoy.ExtensionType,
	envoy.ScopedRouteType, envoy.RouteType, envoy.ListenerType, envoy.OnDemandType,
}

// one is a set of one resource, r.
type one string

func (o one) Version(name string) (string, bool) { return string(o), name == "r" }

func benchProxies(n int) []Proxy {
	out := make([]Proxy, n)
	for i := range out {
		account := fmt.Sprintf("account-%d", i/replicas)
		out[i] = Proxy{
			Name: fmt.Sprintf("shop/%s-7d4b9c-%d", account, i), Kind: "sidecar", Identity: "spiffe://cluster.local/ns/shop/sa/" + account,
			Key: scope.Key{Namespace: "shop", ServiceAccount: account},
		}
	}
	return out
}

func benchBook(proxies []Proxy) *Book {
	b := NewBook()
	for _, p := range proxies {
		b.Record(Event{Kind: Published, Key: p.Key, Sets: []Set{{Type: envoy.ListenerType, Version: "0", Resources: 1}}})
		b.Record(Event{Kind: Connected, At: time.Unix(1, 0), Proxy: p})
		for _, t := range allTypes {
			b.Record(Event{Kind: Acknowledged, Proxy: p, Type: t, Version: "0", Resources: 1, Held: one("0")})
		}
	}
	return b
}

func sized(b *testing.B, run func(*testing.B, []Proxy)) {
	for _, n := range benchSizes {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			b.ReportAllocs()
			run(b, benchProxies(n))
		})
	}
}

// BenchmarkRecord is an acknowledgement among many proxies, which a reader looks at after each change.
func BenchmarkRecord(b *testing.B) {
	sized(b, func(b *testing.B, proxies []Proxy) {
		book, i, version := benchBook(proxies), 0, ""
		for b.Loop() {
			if i%len(proxies) == 0 {
				book.Ledger()
				version = strconv.Itoa(i)
			}
			book.Record(Event{Kind: Acknowledged, Proxy: proxies[i%len(proxies)], Type: envoy.EndpointType, Version: version, Resources: 1, Held: one(version)})
			i++
		}
	})
}

// BenchmarkFold is the same with a Ledger for each event.
func BenchmarkFold(b *testing.B) {
	sized(b, func(b *testing.B, proxies []Proxy) {
		l, i, version := benchBook(proxies).Ledger(), 0, ""
		for b.Loop() {
			if i%len(proxies) == 0 {
				version = strconv.Itoa(i)
			}
			l = Fold(l, Event{Kind: Acknowledged, Proxy: proxies[i%len(proxies)], Type: envoy.EndpointType, Version: version, Resources: 1, Held: one(version)})
			i++
		}
	})
}

// BenchmarkPublished is another set for one key of many.
func BenchmarkPublished(b *testing.B) {
	sized(b, func(b *testing.B, proxies []Proxy) {
		book, i := benchBook(proxies), 0
		sets := []Set{{Type: envoy.ListenerType, Version: "1", Resources: 1}}
		for b.Loop() {
			book.Record(Event{Kind: Published, Key: proxies[i%len(proxies)].Key, Sets: sets})
			i++
		}
	})
}

// BenchmarkProgressOf is one object that concerns all, asked for again and again
// while nothing changes, and after each change of one proxy.
func BenchmarkProgressOf(b *testing.B) {
	resources := []Resource{{Type: envoy.RouteType, Name: "r", Version: "0", Generation: 1}, {Type: envoy.ListenerType, Name: "r", Version: "0", Generation: 1}}
	concerned := func(scope.Key) []Resource { return resources }
	b.Run("unchanged", func(b *testing.B) {
		sized(b, func(b *testing.B, proxies []Proxy) {
			book := benchBook(proxies)
			for b.Loop() {
				if p := ProgressOf(book.Ledger(), concerned, 1); p.Acknowledged != len(proxies) {
					b.Fatalf("%+v", p)
				}
			}
		})
	})
	b.Run("changed", func(b *testing.B) {
		sized(b, func(b *testing.B, proxies []Proxy) {
			book, i := benchBook(proxies), 0
			for b.Loop() {
				book.Record(Event{Kind: Acknowledged, Proxy: proxies[0], Type: envoy.EndpointType, Held: one(strconv.Itoa(i))})
				if p := ProgressOf(book.Ledger(), concerned, 1); p.Acknowledged != len(proxies) {
					b.Fatalf("%+v", p)
				}
				i++
			}
		})
	})
}

// BenchmarkMemory tells what the Ledger keeps of a proxy.
func BenchmarkMemory(b *testing.B) {
	sized(b, func(b *testing.B, proxies []Proxy) {
		for b.Loop() {
			before := heap()
			book := benchBook(proxies)
			b.ReportMetric(float64(heap()-before)/float64(len(proxies)), "B/proxy")
			runtime.KeepAlive(book)
		}
		runtime.KeepAlive(proxies)
	})
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
