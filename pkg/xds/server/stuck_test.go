package server

import (
	"fmt"
	"io"
	"log/slog"
	"sync"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/meshd-io/meshd/pkg/identity"
	"github.com/meshd-io/meshd/pkg/xds/acks"
	"github.com/meshd-io/meshd/pkg/xds/cache"
	"github.com/meshd-io/meshd/pkg/xds/envoy"
	"github.com/meshd-io/meshd/pkg/xds/scope"
)

// stuck is a client that asks and does not read, until it is released.
type stuck struct{ sending, released chan struct{} }

func (s stuck) Recv() (*discoveryv3.DeltaDiscoveryRequest, error) {
	<-s.released
	return nil, io.EOF
}

func (s stuck) Send(message) error {
	s.sending <- struct{}{}
	<-s.released
	return io.EOF
}

// Three times as many as there are slots for big responses do not read.
func TestClientsThatDoNotReadHoldUpNobody(t *testing.T) {
	rs := envoy.Resources{}
	for i := range 600 {
		name := fmt.Sprintf("out|shop/%d|80", i)
		rs[envoy.ClusterType] = append(rs[envoy.ClusterType], clusterOf(name, 1))
		rs[envoy.EndpointType] = append(rs[envoy.EndpointType], endpointsOf(name, 1))
	}
	store, c := cache.New(), &crowd{Book: acks.NewBook()}
	store.Publish(accountsKey(), rs)
	s := New(Config{Cache: store, Keyer: c, Demander: c, Recorder: c, Log: slog.New(slog.DiscardHandler)})
	id, err := identity.New("mesh.local", "shop", "accounts")
	if err != nil {
		t.Fatal(err)
	}
	var streams sync.WaitGroup
	open := func(tx talker, node string) {
		st := newStream(tx, scope.Node{ID: node, Identity: id}, false, acks.Proxy{Name: node, Key: accountsKey()})
		streams.Go(func() {
			_ = drive(s, st, &discoveryv3.DeltaDiscoveryRequest{TypeUrl: string(envoy.ClusterType)}, tx.Recv)
		})
	}
	idle := stuck{make(chan struct{}, 3*bulkSlots), make(chan struct{})}
	for i := range 3 * bulkSlots {
		open(idle, fmt.Sprintf("shop/stuck-%d", i))
	}
	for range bulkSlots {
		<-idle.sending
	}
	good := obedient{make(chan *discoveryv3.DeltaDiscoveryRequest, 16)}
	open(good, "shop/good")
	held := func() bool {
		for _, p := range c.Ledger().Proxies() {
			if p.Name == "shop/good" && len(p.Types) > 0 && p.Types[0].Acknowledged != "" {
				return true
			}
		}
		return false
	}
	for deadline := time.Now().Add(wait); !held(); <-time.After(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Error("the client that reads has nothing")
			break
		}
	}
	close(idle.released)
	close(good.requests)
	streams.Wait()
	s.Close()
}
