package integration

import (
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"

	"github.com/meshd-io/meshd/internal/envoytest"
	"github.com/meshd-io/meshd/pkg/xds/envoy"
)

// TestXDSDenied: a connection to a destination for which there is no room is
// refused at once. Envoy never asks for it again, and takes it when there is room.
func TestXDSDenied(t *testing.T) {
	port, a := envoytest.FreePort(t), backend(t, "a")
	denied := netip.MustParseAddrPort(fmt.Sprintf("127.0.0.3:%d", port))
	translate := gated(t, port, a, true)
	var full atomic.Bool
	full.Store(true)
	asked := make(chan struct{}, 100)
	p := newPlane(t, func(demanded []netip.AddrPort) envoy.Resources {
		var room []netip.AddrPort
		for _, d := range demanded {
			if d == denied && full.Load() {
				asked <- struct{}{}
			} else {
				room = append(room, d)
			}
		}
		return translate(room)
	})
	e := p.envoy()
	p.synced(e)
	answers(t, fmt.Sprintf("http://127.0.0.2:%d/", port), "200 a")
	refused := make(chan error, 1)
	go func() {
		_, err := call(t, "http://"+denied.String())
		refused <- err
	}()
	select {
	case <-asked:
	case err := <-refused:
		t.Fatalf("refused without having been asked for: %v", err)
	}
	p.server.Deny(accounts(), []netip.AddrPort{denied}, "no room")
	if err := <-refused; err == nil {
		t.Fatal("it was answered")
	}
	if ps := p.book.Ledger().Proxies(); len(ps) != 1 || ps[0].Refused != "no room" {
		t.Errorf("%+v", ps)
	}
	if n := e.Stat("tcp.gate.on_demand_cluster_missing"); n != 1 {
		t.Error("the connection waited in vain")
	}
	full.Store(false)
	p.publish()
	answers(t, "http://"+denied.String(), "200 a")
}
