package main

import (
	"context"
	"crypto/tls"
	"net/netip"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshd-io/meshd/internal/kubetest"
	"github.com/meshd-io/meshd/pkg/console"
	"github.com/meshd-io/meshd/pkg/peer/peerv1"
	"github.com/meshd-io/meshd/pkg/xds/scope"
)

// TestReplicasShareDemand: what a workload uses at another replica its proxies
// are given here, and this replica tells what it knows.
func TestReplicasShareDemand(t *testing.T) {
	c := kubetest.Start(t, kubetest.Options{})
	k := c.Client(t)
	create(t, k, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "meshd-system"}})
	shop := c.Namespace(t, nil)
	readyPod(t, k, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: shop, Name: "app-1"},
		Spec: corev1.PodSpec{ServiceAccountName: "app", Containers: []corev1.Container{
			{Name: "app", Image: "app:test"}, {Name: "meshd-proxy", Image: "proxy:test"}}},
	}, "10.0.0.1")
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: shop, Name: "b"},
		Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": "b"}, Ports: []corev1.ServicePort{{Name: "http", Port: 80}}},
	}
	create(t, k, service)
	s := startInCluster(t, c)
	authority := authorityOf(t, k)
	connectProxy(t, authority, s.flags.grpcAddress, shop, "app-1")
	admin := console.NewClient(s.flags.adminSocket)
	clusters := func(ctx context.Context) (n int, synced bool) {
		state, err := admin.State(ctx, 0)
		if err != nil || len(state.Proxies) != 1 {
			return 0, false
		}
		for _, typ := range state.Proxies[0].Types {
			if typ.Type == "Cluster" {
				n = typ.Resources
			}
		}
		return n, state.Proxies[0].Synced
	}
	before := 0
	until(t, "the proxy is in sync", func(ctx context.Context) (synced bool) { before, synced = clusters(ctx); return synced })

	used := netip.AddrPortFrom(netip.MustParseAddr(service.Spec.ClusterIP), 80)
	startReplica(t, k, authority).demand.Ask(scope.Key{Namespace: shop, ServiceAccount: "app"}, []netip.AddrPort{used}, false)
	until(t, "the proxy has more", func(ctx context.Context) bool { n, synced := clusters(ctx); return synced && n > before })

	conn, err := grpc.NewClient(s.flags.grpcAddress, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{certificateOf(t, authority, "meshd-system", "meshd")}, InsecureSkipVerify: true, // meshd is not under test here
	})))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), kubetest.Patience)
	defer cancel()
	stream, err := peerv1.NewPeerServiceClient(conn).Demand(ctx, &peerv1.DemandRequest{})
	if err != nil {
		t.Fatal(err)
	}
	m, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	if w := m.GetWorkloads(); len(w) != 1 || w[0].GetServiceAccount() != "app" || len(w[0].GetDestinations()) != 1 {
		t.Errorf("%v", m)
	}
}
