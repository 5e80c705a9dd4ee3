package main

import (
	"context"
	"fmt"
	"net"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/meshd-io/meshd/pkg/crds"
	"github.com/meshd-io/meshd/pkg/gateway"
	"github.com/meshd-io/meshd/pkg/identity"
	"github.com/meshd-io/meshd/pkg/injector"
	"github.com/meshd-io/meshd/pkg/peer"
	"github.com/meshd-io/meshd/pkg/status"
)

// peerServer tells the other replicas what this one knows.
func (d *daemon) peerServer(self identity.ID) *peer.Server {
	return peer.NewServer(peer.ServerConfig{Self: self, Report: d.state.Report, Changed: d.pipeline.Changed, Log: d.log})
}

// telling is what the leader writes to the cluster beside trust and certificates.
type telling struct {
	config *rest.Config
	// ownPod is this replica's name.
	ownPod string
	// gatewayReplicas until somebody else scales the gateway.
	gatewayReplicas int32
	// injector gives what a gateway's pods are made from.
	injector func(*crds.Snapshot) injector.Config
}

// tellingParts run while this replica leads: what the other replicas know,
// statuses, Events and the gateways' objects.
func (d *daemon) tellingParts(t telling) ([]part, error) {
	self, err := identity.New(d.authority.TrustDomain(), d.flags.namespace, "meshd")
	if err != nil {
		return nil, fmt.Errorf("own identity: %w", err)
	}
	_, port, err := net.SplitHostPort(d.flags.grpcAddress)
	if err != nil {
		return nil, fmt.Errorf("--grpc-address: %w", err)
	}
	server, err := status.NewServer(t.config)
	if err != nil {
		return nil, err
	}
	objects, err := dynamic.NewForConfig(t.config)
	if err != nil {
		return nil, fmt.Errorf("client for gateways: %w", err)
	}
	clients, err := kubernetes.NewForConfig(t.config)
	if err != nil {
		return nil, fmt.Errorf("client for Events: %w", err)
	}
	peers := func() []peer.Peer {
		if snapshot := d.pipeline.compiled(); snapshot != nil {
			return replicas(snapshot, d.flags.namespace, t.ownPod, port)
		}
		return nil
	}
	watcher := peer.NewWatcher(peer.WatcherConfig{
		Self: self, Authority: d.authority, Peers: peers, Changed: d.pipeline.Changed, Told: d.pipeline.announce, Log: d.log,
	})
	return []part{
		{"replicas", func(ctx context.Context) error { watcher.Run(ctx); return nil }},
		{"statuses", func(ctx context.Context) error {
			l := newLeader(d.state, watcher.States, d.ingressStatus)
			status.NewWriter(status.WriterConfig{Applier: server, Desired: l.Desired, Changed: d.pipeline.Changed, Log: d.log}).Run(ctx)
			return nil
		}},
		{"events", func(ctx context.Context) error {
			l := newLeader(d.state, watcher.States, nil)
			return status.NewEvents(status.EventsConfig{Client: clients, Findings: l.Findings, Changed: d.pipeline.Changed, Log: d.log}).Run(ctx)
		}},
		{"gateways", func(ctx context.Context) error {
			return gateway.NewApplier(gateway.ApplierConfig{
				Client: objects, Namespace: d.flags.namespace, Replicas: t.gatewayReplicas, Log: d.log, Changed: d.pipeline.Changed,
				Wanted: func() (gateway.Wanted, bool) {
					snapshot := d.pipeline.compiled()
					if snapshot == nil {
						return gateway.Wanted{}, false
					}
					needed := gateway.Needed(snapshot.Ingresses, snapshot.IngressClasses)
					return gateway.Wanted{Ingress: needed, Config: t.injector(snapshot)}, true
				},
			}).Run(ctx)
		}},
	}, nil
}

func (d *daemon) ingressStatus(snapshot *crds.Snapshot) func(*networkingv1.Ingress) *networkingv1.IngressStatus {
	return gateway.IngressStatus(snapshot, d.flags.namespace)
}
