package compile

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/meshd-io/meshd/internal/chaos"
)

var benchConfig = Config{CIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}

// BenchmarkCompile compiles from nothing.
func BenchmarkCompile(b *testing.B) {
	for _, n := range []int{100, 1000, 10000} {
		b.Run(fmt.Sprintf("%d-services", n), func(b *testing.B) {
			snap := chaos.Big(n)
			b.ReportAllocs()
			for b.Loop() {
				Compile(snap, benchConfig)
			}
		})
	}
}

// BenchmarkChange compiles after one object has changed.
func BenchmarkChange(b *testing.B) {
	for _, n := range []int{100, 1000, 10000} {
		c := NewCompiler()
		snap := chaos.Big(n)
		c.Compile(snap, benchConfig)
		for _, kind := range chaos.Kinds() {
			b.Run(fmt.Sprintf("%s/%d-services", kind.Name, n), func(b *testing.B) {
				b.ReportAllocs()
				turn := 0
				for b.Loop() {
					b.StopTimer()
					next := *snap
					kind.Make(&next, turn%n)
					snap = &next
					turn++
					b.StartTimer()
					c.Compile(snap, benchConfig)
				}
			})
		}
	}
}
