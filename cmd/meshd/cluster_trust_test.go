package main

import (
	"context"
	"log/slog"
	"testing"

	"github.com/meshd-io/meshd/pkg/compile"
	"github.com/meshd-io/meshd/pkg/crds"
	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/peer"
	"github.com/meshd-io/meshd/pkg/xds/acks"
	"github.com/meshd-io/meshd/pkg/xds/cache"
)

// A bundle is trusted when this replica has published it and every other one
// says the same of its proxies; one that is not known yet holds it up.
func TestTrustedByEveryReplica(t *testing.T) {
	p := newPipeline(compile.Config{}, cache.New(), acks.NewBook(), nil, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go p.Run(ctx)
	p.Offer(input{snapshot: &crds.Snapshot{}, trust: model.Trust{Bundle: "new"}})
	p.Work()

	waits := func(others ...peer.State) bool {
		done, stop := context.WithCancel(ctx)
		asked := 0
		err := trustedBy(done, p, func() []peer.State {
			if asked++; asked > 1 || p.trusted() != "" {
				stop()
			}
			return others
		}, "new")
		return err != nil
	}
	known := func(bundle string) peer.State { return peer.State{Name: "b", Known: true, Trust: fingerprint(bundle)} }
	if err := trustedBy(ctx, p, func() []peer.State { return []peer.State{known("new")} }, "new"); err != nil {
		t.Fatal(err)
	}
	for name, other := range map[string]peer.State{
		"not known": {Name: "b"}, "of the old bundle": known("old"), "not acknowledged": {Name: "b", Known: true},
	} {
		if !waits(known("new"), other) {
			t.Errorf("a replica that is %s did not hold it up", name)
		}
	}
}
