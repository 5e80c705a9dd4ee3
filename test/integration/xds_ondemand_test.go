package integration

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"

	"github.com/meshd-io/meshd/internal/envoytest"
	"github.com/meshd-io/meshd/pkg/xds/envoy"
)

// gated is the configuration of a gate: an answer for each address that is
// demanded, with an assignment of its own or one that another cluster has too.
func gated(t *testing.T, port, a int, shared bool) func([]netip.AddrPort) envoy.Resources {
	return func(demanded []netip.AddrPort) envoy.Resources {
		rs := envoy.Resources{
			envoy.ListenerType: {gateListener(t, port)},
			envoy.ClusterType:  {edsCluster(t, "base", "")},
			envoy.EndpointType: {assignment(t, "base", a)},
		}
		if len(demanded) > 0 {
			rs[envoy.ClusterType] = append([]envoy.Resource{edsCluster(t, "a", "")}, rs[envoy.ClusterType]...)
			rs[envoy.EndpointType] = append([]envoy.Resource{assignment(t, "a", a)}, rs[envoy.EndpointType]...)
		}
		for _, d := range demanded {
			name := "dst|" + d.String()
			eds := "a"
			if !shared {
				eds = name
				rs[envoy.EndpointType] = append(rs[envoy.EndpointType], assignment(t, name, a))
			}
			rs[envoy.OnDemandType] = append(rs[envoy.OnDemandType],
				gateCluster(t, name, eds, envoy.Ref{Type: envoy.ClusterType, Name: "a"}))
		}
		return rs
	}
}

func TestXDSOnDemand(t *testing.T) {
	port, a := envoytest.FreePort(t), backend(t, "a")
	p := newPlane(t, gated(t, port, a, true))
	e := p.envoy()
	p.synced(e)
	for i := 2; i <= 4; i++ {
		url := fmt.Sprintf("http://127.0.0.%d:%d/", i, port)
		if got, err := call(t, url); err != nil || got != "200 a" { // the first one, held at the gate
			t.Fatalf("%s: %q %v", url, got, err)
		}
	}
	p.synced(e)
	if ps := p.book.Ledger().Proxies(); ps[0].Destinations != 3 {
		t.Errorf("%+v", ps)
	}
	for i := 2; i <= 4; i++ {
		if n := e.Stat(fmt.Sprintf("cluster.dst.127.0.0.%d.*init_fetch_timeout", i)); n != 0 {
			t.Errorf("destination %d waited for its endpoints in vain", i)
		}
	}
}

// A connection is held while meshd is away, and answered when it is back.
func TestXDSRestartWhileAConnectionIsHeld(t *testing.T) {
	port, a := envoytest.FreePort(t), backend(t, "a")
	p := newPlane(t, gated(t, port, a, false))
	e := p.envoy()
	p.synced(e)
	used := fmt.Sprintf("http://127.0.0.2:%d/", port)
	answers(t, used, "200 a")
	p.stop()

	var held sync.WaitGroup
	held.Go(func() {
		if got, err := call(t, fmt.Sprintf("http://127.0.0.3:%d/", port)); err != nil || got != "200 a" {
			t.Errorf("the held connection: %q %v", got, err)
		}
	})
	answers(t, used, "200 a") // what was used before goes on
	rejected := e.Stat("cluster_manager.cds.update_rejected")
	p.start()
	held.Wait()
	answers(t, used, "200 a")
	p.synced(e)
	if n := e.Stat("cluster_manager.cluster_removed"); n != 0 {
		t.Errorf("%d clusters were removed", n)
	}
	if n := e.Stat("cluster_manager.cds.update_rejected"); n != rejected {
		t.Errorf("%d refusals", n)
	}
}

// What a proxy holds is not sent again when it comes back.
func TestXDSReconnectSendsNothing(t *testing.T) {
	port, a := envoytest.FreePort(t), backend(t, "a")
	p := newPlane(t, gated(t, port, a, false))
	e := p.envoy()
	p.synced(e)
	answers(t, fmt.Sprintf("http://127.0.0.2:%d/", port), "200 a")
	p.synced(e)
	before := updates(e)
	connected := p.book.Ledger().Proxies()[0].Connected
	p.stop()
	p.start()
	envoytest.Eventually(t, "reconnect", func() bool {
		ps := p.book.Ledger().Proxies()
		return len(ps) == 1 && ps[0].Synced && ps[0].Destinations == 1 && ps[0].Connected.After(connected)
	}, func() string { return fmt.Sprintf("%+v", p.book.Ledger().Proxies()) })
	if after := updates(e); after != before {
		t.Errorf("updates before %v, after %v", before, after)
	}
	if got := addrPort(t, fmt.Sprintf("127.0.0.2:%d", port)); len(p.demanded) != 1 || p.demanded[0] != got {
		t.Errorf("demanded %v", p.demanded)
	}
}

// updates counts what Envoy has been sent and has taken, by type.
func updates(e *envoytest.Envoy) [3]uint64 {
	return [3]uint64{
		e.Stat("cluster_manager.cds.update_success"), e.Stat("listener_manager.lds.update_success"),
		e.Stat("cluster.a.update_success"),
	}
}
