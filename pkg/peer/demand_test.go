package peer_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/meshd-io/meshd/pkg/ca"
	"github.com/meshd-io/meshd/pkg/ca/catest"
	"github.com/meshd-io/meshd/pkg/peer"
	"github.com/meshd-io/meshd/pkg/xds/demand"
	"github.com/meshd-io/meshd/pkg/xds/scope"
)

func destinations(from, to int) (out []netip.AddrPort) {
	for i := from; i < to; i++ {
		out = append(out, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 80))
	}
	return out
}

// untilEqual waits for two books to have the same.
func untilEqual(t *testing.T, from, to *demand.Book) {
	t.Helper()
	deadline := time.After(patience)
	for {
		changed := to.Changed()
		want, _ := from.News(0)
		got, _ := to.News(0)
		have := map[demand.Use]bool{}
		for _, u := range got {
			have[u] = true
		}
		missing := 0
		for _, u := range want {
			if !have[u] {
				missing++
			}
		}
		if missing == 0 && len(got) == len(want) {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("%d of %d are missing, there are %d", missing, len(want), len(got))
		}
	}
}

// TestDemand: what one replica knows to be in use the others know, at first all
// and then what is new, in as many messages as it takes, also after it was away.
func TestDemand(t *testing.T) {
	c := catest.New(t, ca.Lifetimes{}, nil)
	r := newReplica(t, c, "127.0.0.1:0")
	accounts := scope.Key{Namespace: "shop", ServiceAccount: "accounts", Labels: "app=accounts", PodCertificate: true}
	r.demand.Ask(accounts, destinations(0, 3001), false)
	for i := range 700 { // their names take more than one message
		r.demand.Ask(scope.Key{Namespace: "shop", ServiceAccount: fmt.Sprint("a", i), Labels: "app=" + fmt.Sprintf("%0200d", i)}, destinations(i, i+1), false)
	}
	w := watch(t, c.Authority, catest.MeshdID(t), peer.Peer{Name: "meshd-b", Address: r.addr})
	untilEqual(t, r.demand, w.demand)
	r.demand.Ask(accounts, []netip.AddrPort{netip.MustParseAddrPort("[fd00::1]:443")}, false)
	untilEqual(t, r.demand, w.demand)
	if !w.demand.Of(accounts).Has(netip.MustParseAddrPort("[fd00::1]:443")) {
		t.Error("the workload's next proxy would not start with it")
	}

	// A replica that starts anew has forgotten; the other one has not.
	r.srv.Stop()
	again := newReplica(t, c, r.addr)
	again.demand.Ask(accounts, destinations(4000, 4001), false)
	deadline := time.After(patience)
	for changed := w.demand.Changed(); !w.demand.Of(accounts).Has(destinations(4000, 4001)[0]); changed = w.demand.Changed() {
		select {
		case <-changed:
		case <-deadline:
			t.Fatal("never")
		}
	}
	if !w.demand.Of(accounts).Has(destinations(0, 1)[0]) {
		t.Error("forgotten")
	}
}
