package demand

import (
	"fmt"
	"testing"
	"time"

	"github.com/meshd-io/meshd/pkg/xds/scope"
)

// large has a thousand proxies of a hundred workloads, each of which uses 20 destinations.
func large(b *testing.B) (*Book, Live) {
	b.Helper()
	book, live := New(Config{}), Live{Exists: func(string) bool { return true }}
	for i := range 1000 {
		key, _ := book.Seat(fmt.Sprint("sidecar~shop/", i), "", scope.Key{Namespace: "shop", ServiceAccount: fmt.Sprint("a", i%100)})
		p := Proxy{Node: fmt.Sprint("sidecar~shop/", i), Key: key, Destinations: addresses(i, i+20)}
		book.Ask(key, p.Destinations, false)
		live.Proxies = append(live.Proxies, p)
	}
	return book, live
}

func BenchmarkSweep(b *testing.B) {
	book, live := large(b)
	for b.Loop() {
		book.Sweep(live)
	}
}

// BenchmarkComeBack is one proxy's return with 1000 destinations.
func BenchmarkComeBack(b *testing.B) {
	book, key, held := New(Config{}), scope.Key{Namespace: "shop", ServiceAccount: "a"}, addresses(0, 1000)
	book.Ask(key, held, true)
	for b.Loop() {
		book.Ask(key, held, true)
	}
}

// BenchmarkFirstAsks is a workload that asks for 1000 destinations, one at a time.
func BenchmarkFirstAsks(b *testing.B) {
	key, all := scope.Key{Namespace: "shop", ServiceAccount: "a"}, addresses(0, 1000)
	for b.Loop() {
		book := New(Config{})
		for i := range all {
			book.Ask(key, all[i:i+1], false)
		}
	}
}

// BenchmarkExchange is all that a large mesh has in use, told to a replica that starts.
func BenchmarkExchange(b *testing.B) {
	book, _ := large(b)
	for b.Loop() {
		news, _ := book.News(0)
		New(Config{Now: time.Now}).Learn(news)
	}
}
