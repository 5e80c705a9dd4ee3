package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"

	"github.com/meshd-io/meshd/pkg/identity"
	"github.com/meshd-io/meshd/pkg/peer"
)

// watchReplicas has every replica know the others: a CA that waits may sign
// when the proxies of all of them trust it, and a workload's next proxy starts
// with what its others use, wherever they are connected.
func (c *cluster) watchReplicas(d *daemon) error {
	self, err := identity.New(d.authority.TrustDomain(), c.flags.namespace, "meshd")
	if err != nil {
		return err
	}
	c.watcher = peer.NewWatcher(peer.WatcherConfig{
		Self: self, Authority: d.authority, Changed: d.snapshots.wait, Told: d.pipeline.announce, Learn: d.pipeline.Learn, Log: c.log,
		Peers: func() []peer.Peer {
			if s := d.snapshot(); s != nil {
				return replicas(s, c.flags.namespace, c.pod, "15012")
			}
			return nil
		},
	})
	d.settled = func(ctx context.Context) error {
		return trustedBy(ctx, d.pipeline, c.watcher.States, d.authority.Bundle())
	}
	return nil
}

// trustedBy waits until every proxy of this replica and of the others has
// acknowledged the bundle, or ctx ends.
func trustedBy(ctx context.Context, p *pipeline, others func() []peer.State, bundle string) error {
	want := fingerprint(bundle)
	for {
		changed := p.Changed()
		pending := slices.ContainsFunc(others(), func(s peer.State) bool { return !s.Known || s.Trust != want })
		if !pending && p.trusted() == want {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// trusted is the fingerprint of the bundle that every proxy of this replica has
// acknowledged; "" while one has not.
func (p *pipeline) trusted() string {
	if idle, _ := p.idle(); !idle || !p.synced() {
		return ""
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return fingerprint(p.current.trust.Bundle)
}

func fingerprint(bundle string) string {
	sum := sha256.Sum256([]byte(bundle))
	return hex.EncodeToString(sum[:])
}
