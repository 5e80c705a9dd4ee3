package server

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"

	"github.com/meshd-io/meshd/pkg/xds/envoy"
)

// What it costs to hear from a proxy that comes back what it holds.
func BenchmarkResume(b *testing.B) {
	const resources = 1000
	r := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: string(envoy.EndpointType), InitialResourceVersions: map[string]string{}}
	for i := range resources {
		var version [16]byte
		_, _ = rand.Read(version[:]) // never fails
		name := fmt.Sprintf("out|shop/service-%d|80", i)
		r.InitialResourceVersions[name] = hex.EncodeToString(version[:])
		r.ResourceNamesSubscribe = append(r.ResourceNamesSubscribe, name)
	}
	raw, err := proto.Marshal(r)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := decode(raw, Limits{}.withDefaults()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("request", func(b *testing.B) {
		var with shared
		decoded := requestOf(r)
		b.ReportAllocs()
		for b.Loop() {
			s := newSession(Limits{}.withDefaults(), &with, false)
			if err := s.request(decoded); err != nil {
				b.Fatal(err)
			}
		}
	})
}
