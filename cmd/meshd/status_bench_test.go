package main

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
	"github.com/meshd-io/meshd/pkg/crds"
	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/peer"
	"github.com/meshd-io/meshd/pkg/report"
	"github.com/meshd-io/meshd/pkg/xds/acks"
	"github.com/meshd-io/meshd/pkg/xds/cache"
	"github.com/meshd-io/meshd/pkg/xds/envoy"
)

// BenchmarkStatuses looks at 1000 policies after 1000 proxies have acknowledged
// something: all of one workload, which uses what every policy is about, or of
// 100 and 1000 workloads that use 20 of them.
func BenchmarkStatuses(b *testing.B) {
	const objects, proxies = 1000, 1000
	for _, tt := range []struct{ keys, used int }{{1, objects}, {100, 20}, {1000, 20}} {
		b.Run(fmt.Sprintf("keys=%d,used=%d", tt.keys, tt.used), func(b *testing.B) {
			bench, snapshot := newStatusBench(), &crds.Snapshot{}
			for i := range objects {
				snapshot.TrafficPolicies = append(snapshot.TrafficPolicies, &meshv1a1.TrafficPolicy{
					ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: policyName(i), UID: types.UID(policyName(i)), Generation: 1},
				})
			}
			for k := range tt.keys {
				var rs []envoy.Resource
				for i := range tt.used {
					name := policyName((k*tt.used + i) % objects)
					rs = append(rs, envoy.Resource{
						Name: name, Proto: &routev3.RouteConfiguration{Name: name},
						Origins: []report.Origin{{Object: report.Object{Kind: "TrafficPolicy", Namespace: "shop", Name: name}, Generation: 1}},
					})
				}
				bench.cache.Publish(keyOf(strconv.Itoa(k)), envoy.Resources{envoy.RouteType: rs})
			}
			acknowledge := func(typ envoy.Type) {
				for i := range proxies {
					p := numbered(i, tt.keys)
					bench.book.Record(acks.Event{Kind: acks.Acknowledged, Proxy: p, Type: typ, Held: allOf{bench.cache.Snapshot(p.Key).Set(typ)}})
				}
			}
			for i := range proxies {
				bench.book.Record(acks.Event{Kind: acks.Connected, At: time.Unix(1, 0), Proxy: numbered(i, tt.keys)})
			}
			acknowledge(envoy.ListenerType)
			acknowledge(envoy.RouteType)
			mesh := &model.Mesh{}
			bench.state.pipeline.current.snapshot = snapshot
			bench.state.pipeline.mesh.Store(mesh)
			l := &leader{stater: bench.state, peers: func() []peer.State { return nil }}
			none := func(report.Object, types.UID) []metav1.Condition { return nil }
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				acknowledge(envoy.EndpointType)
				b.StartTimer()
				if all, ok := l.Desired(none); !ok || len(all) != objects {
					b.Fatal(len(all), ok)
				}
			}
		})
	}
}

func policyName(i int) string { return fmt.Sprintf("policy-%04d", i) }

func numbered(i, keys int) acks.Proxy {
	return acks.Proxy{Name: fmt.Sprintf("shop/pod-%04d", i), Key: keyOf(strconv.Itoa(i % keys))}
}

// allOf a set is held.
type allOf struct{ *cache.Set }

func (a allOf) Version(name string) (string, bool) {
	it := a.Get(name)
	if it == nil {
		return "", false
	}
	return it.Version, true
}
