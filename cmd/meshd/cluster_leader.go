package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"github.com/meshd-io/meshd/pkg/ca/podcert"
	"github.com/meshd-io/meshd/pkg/ca/trust"
	"github.com/meshd-io/meshd/pkg/crds"
	"github.com/meshd-io/meshd/pkg/gateway"
	"github.com/meshd-io/meshd/pkg/injector"
	"github.com/meshd-io/meshd/pkg/status"
)

// leaseName is the Lease of the leader.
const leaseName = "meshd"

// lead is what one replica does for all: it writes to the API server.
type lead struct {
	*cluster
	d         *daemon
	statuses  *status.Server
	dynamic   dynamic.Interface
	publisher *trust.Publisher
	signer    *podcert.Signer // nil where the cluster has no such requests
}

func (c *cluster) newLead(d *daemon) (*lead, error) {
	l := &lead{cluster: c, d: d}
	var err error
	if l.statuses, err = status.NewServer(c.config); err != nil {
		return nil, err
	}
	if l.dynamic, err = dynamic.NewForConfig(c.config); err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	if l.publisher, err = trust.New(c.config, trust.Options{Authority: d.authority, Namespaces: l.trusting, Log: c.log}); err != nil {
		return nil, err
	}
	l.signer, err = podcert.New(c.config, podcert.Options{Authority: d.authority, Told: d.metrics.Answered, Log: c.log})
	if err != nil && !errors.Is(err, podcert.ErrNotServed) {
		return nil, err
	}
	return l, nil
}

// run stands for election until ctx ends, and leads while it is elected.
func (l *lead) run(ctx context.Context) error {
	lock := &resourcelock.LeaseLock{
		LeaseMeta: metav1.ObjectMeta{Namespace: l.flags.namespace, Name: leaseName},
		Client:    l.client.CoordinationV1(), LockConfig: resourcelock.ResourceLockConfig{Identity: l.pod},
	}
	for ctx.Err() == nil {
		if err := stand(ctx, lock, l.log, l.lead); err != nil {
			return err
		}
	}
	return nil
}

// lead runs what only the leader does.
func (l *lead) lead(ctx context.Context) error {
	l.d.metrics.Leads(true)
	defer l.d.metrics.Leads(false)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	g := &group{ctx: ctx, failed: make(chan error, 1)}
	for _, p := range l.parts(ctx) {
		g.start(p)
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-g.failed:
	}
	stop()
	g.wait.Wait()
	return err
}

func (l *lead) parts(ctx context.Context) []part {
	d, system := l.d, l.flags.namespace
	statuses := newLeader(d.state, l.watcher.States, func(s *crds.Snapshot) func(*networkingv1.Ingress) *networkingv1.IngressStatus {
		return gateway.IngressStatus(s, system)
	})
	writer := status.NewWriter(status.WriterConfig{Applier: l.statuses, Desired: statuses.Desired, Changed: d.pipeline.Changed, Log: l.log})
	events := status.NewEvents(status.EventsConfig{
		Client: l.client, Changed: d.pipeline.Changed, Log: l.log, Findings: statuses.Findings,
	})
	gateways := gateway.NewApplier(gateway.ApplierConfig{
		Client: l.dynamic, Namespace: system, Replicas: l.flags.cluster.gatewayReplicas, Changed: d.snapshots.wait, Log: l.log, Wanted: l.gateways,
	})
	registration := &injector.Registration{
		Client: l.client, Name: l.flags.cluster.webhookConfiguration, SystemNamespace: system,
		Bundle:  func() []byte { return []byte(d.authority.Bundle()) },
		OptOut:  func() bool { s := d.snapshot(); return s != nil && l.injectorConfig(s).Injection.Default == "OptOut" },
		Changed: pokes(ctx, d.authority.Changed, d.snapshots.wait), Log: l.log,
	}
	out := []part{
		{"statuses", func(ctx context.Context) error { writer.Run(ctx); return nil }},
		{"events", events.Run},
		{"gateways", gateways.Run},
		{"webhook registration", registration.Run},
		{"trust anchor", func(ctx context.Context) error { return l.publisher.Run(ctx, pokes(ctx, d.snapshots.wait)) }},
	}
	if l.signer != nil {
		out = append(out, part{"pod certificates", l.signer.Run})
	}
	return out
}

func (l *lead) gateways() (gateway.Wanted, bool) {
	s := l.d.snapshot()
	if s == nil {
		return gateway.Wanted{}, false
	}
	return gateway.Wanted{
		Ingress: gateway.Needed(s.Ingresses, s.IngressClasses), Config: l.injectorConfig(s), Owner: ownAccount(s, l.flags.namespace),
	}, true
}

// ownAccount owns what meshd makes for itself, so that an uninstall takes it away.
func ownAccount(s *crds.Snapshot, namespace string) *metav1.OwnerReference {
	for _, a := range s.ServiceAccounts {
		if a.Namespace == namespace && a.Name == "meshd" {
			return &metav1.OwnerReference{APIVersion: "v1", Kind: "ServiceAccount", Name: a.Name, UID: a.UID}
		}
	}
	return nil
}

// trusting are the namespaces whose pods may need the trust anchor.
func (l *lead) trusting() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.anchored)
}
