package main

import (
	"context"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshd-io/meshd/internal/clock/clocktest"
	"github.com/meshd-io/meshd/internal/kubetest"
	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/xds/scope"
)

// demanded is what a server.Demander has been told.
type demanded struct {
	key       scope.Key
	addresses []netip.AddrPort
	held      bool
}

type demands chan demanded

// Demand implements server.Demander.
func (d demands) Demand(key scope.Key, addresses []netip.AddrPort, held bool) {
	d <- demanded{key, addresses, held}
}

func (d demands) next(t *testing.T) demanded {
	t.Helper()
	select {
	case got := <-d:
		return got
	case <-time.After(kubetest.Patience):
		t.Fatal("nothing was passed on in time")
		return demanded{}
	}
}

func (d demands) none(t *testing.T, when string) {
	t.Helper()
	select {
	case got := <-d:
		t.Errorf("%s: %v", when, got)
	default:
	}
}

// A sidecar may ask for a Service's address before this replica has heard of the
// Service. The first answer is not that nobody is there: that would send the
// caller past the mesh.
func TestUnknownDestinationWaits(t *testing.T) {
	services, late, stranger := netip.MustParsePrefix("10.96.0.0/16"), at("10.96.0.7:80"), at("192.0.2.1:80")
	before := &model.Mesh{Settings: model.Settings{CIDRs: []netip.Prefix{services}}}
	after := *before
	after.ServicesByAddress = model.MapOf(map[netip.Addr]*model.Service{late.Addr(): {}})
	key := scope.Key{Namespace: "shop", ServiceAccount: "client"}

	var mesh atomic.Pointer[model.Mesh]
	mesh.Store(before)
	var changed broadcast
	clk, to := clocktest.New(time.Unix(0, 0)), make(demands, 10)
	h := newHesitant(to, mesh.Load, changed.wait, clk)
	ctx, cancel := context.WithTimeout(t.Context(), kubetest.Patience)
	ended := make(chan struct{})
	go func() { defer close(ended); h.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	expect := func(want demanded) {
		t.Helper()
		if got := to.next(t); got.key != want.key || got.held != want.held || !slices.Equal(got.addresses, want.addresses) {
			t.Errorf("passed on %v, want %v", got, want)
		}
	}
	waiting := func() {
		t.Helper()
		if _, err := clk.Next(ctx); err != nil {
			t.Fatal(err)
		}
	}

	// What is known, or none of the mesh's, does not wait; nor does who asks for nothing.
	h.Demand(key, []netip.AddrPort{stranger}, false)
	expect(demanded{key, []netip.AddrPort{stranger}, false})
	h.Demand(key, nil, false)
	expect(demanded{key, nil, false})

	h.Demand(key, []netip.AddrPort{late, stranger}, true)
	expect(demanded{key, []netip.AddrPort{stranger}, true})
	waiting()
	to.none(t, "nobody knows the address")
	changed.raise() // of something else
	clk.Advance(unknownWait - 1)
	to.none(t, "nobody knows the address yet")
	mesh.Store(&after)
	changed.raise()
	expect(demanded{key, []netip.AddrPort{late}, true})
	h.Demand(key, []netip.AddrPort{late}, false)
	expect(demanded{key, []netip.AddrPort{late}, false})

	// What stays unknown is answered all the same.
	nobody := at("10.96.0.8:80")
	h.Demand(key, []netip.AddrPort{nobody}, false)
	waiting()
	to.none(t, "nobody knows the address")
	clk.Advance(unknownWait)
	expect(demanded{key, []netip.AddrPort{nobody}, false})
}

func at(address string) netip.AddrPort { return netip.MustParseAddrPort(address) }
