package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
	"github.com/meshd-io/meshd/internal/kubetest"
	"github.com/meshd-io/meshd/pkg/authn"
	"github.com/meshd-io/meshd/pkg/ca"
	"github.com/meshd-io/meshd/pkg/identity"
	"github.com/meshd-io/meshd/pkg/peer"
	"github.com/meshd-io/meshd/pkg/peer/peerv1"
	"github.com/meshd-io/meshd/pkg/report"
	meshstatus "github.com/meshd-io/meshd/pkg/status"
	"github.com/meshd-io/meshd/pkg/xds/demand"
	"github.com/meshd-io/meshd/pkg/xds/envoy"
)

// fakeProxy is an Envoy as far as meshd sees it: it asks for listeners and
// clusters, and answers when and as it is told.
type fakeProxy struct {
	stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient

	mu      sync.Mutex
	holding bool
	refuse  string
	held    []*discoveryv3.DeltaDiscoveryResponse // not answered yet
}

// connectProxy comes as a pod of the service account "app".
func connectProxy(t *testing.T, a *ca.Authority, address, namespace, pod string) *fakeProxy {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{certificateOf(t, a, namespace, "app")}, InsecureSkipVerify: true, // meshd is not under test here
	})))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	p := &fakeProxy{stream: stream}
	for _, typ := range []envoy.Type{envoy.ClusterType, envoy.ListenerType} {
		p.send(t, &discoveryv3.DeltaDiscoveryRequest{
			TypeUrl: string(typ), ResourceNamesSubscribe: []string{"*"},
			Node: &corev3.Node{Id: "sidecar~" + namespace + "/" + pod, Cluster: namespace + "/app"},
		})
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			m, err := stream.Recv()
			if err != nil {
				if ctx.Err() == nil && t.Context().Err() == nil && !errors.Is(err, io.EOF) { // meshd may be stopped first
					t.Errorf("the stream has ended: %v", err)
				}
				return
			}
			p.take(t, m)
		}
	}()
	t.Cleanup(func() { cancel(); <-done; _ = conn.Close() })
	return p
}

func (p *fakeProxy) take(t *testing.T, m *discoveryv3.DeltaDiscoveryResponse) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.holding {
		p.held = append(p.held, m)
		return
	}
	p.answer(t, m)
}

func (p *fakeProxy) answer(t *testing.T, m *discoveryv3.DeltaDiscoveryResponse) {
	r := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: m.TypeUrl, ResponseNonce: m.Nonce}
	if p.refuse != "" {
		r.ErrorDetail = &status.Status{Code: 3, Message: p.refuse}
	}
	p.send(t, r)
}

func (p *fakeProxy) send(t *testing.T, r *discoveryv3.DeltaDiscoveryRequest) {
	if err := p.stream.Send(r); err != nil && !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

// behave has it answer what is held and what comes, or hold it.
func (p *fakeProxy) behave(t *testing.T, hold bool, refuse string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.holding, p.refuse = hold, refuse
	for !hold && len(p.held) > 0 {
		p.answer(t, p.held[0])
		p.held = p.held[1:]
	}
}

// fixedRoot is a store with the root of the cluster's Secret.
type fixedRoot ca.Pair

func (r fixedRoot) Root(func() (ca.Pair, error)) (ca.Pair, error) { return ca.Pair(r), nil }

// authorityOf signs with the root that a meshd has put into the cluster.
func authorityOf(t *testing.T, k client.Client) *ca.Authority {
	t.Helper()
	var s corev1.Secret
	if err := k.Get(t.Context(), client.ObjectKey{Namespace: "meshd-system", Name: "meshd-root"}, &s); err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(s.Data["tls.crt"], s.Data["tls.key"])
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(s.Data["tls.crt"])
	root, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	a, err := ca.New(ca.Config{TrustDomain: "cluster.local", Store: fixedRoot{root, pair.PrivateKey.(*ecdsa.PrivateKey)}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func certificateOf(t *testing.T, a *ca.Authority, namespace, account string) tls.Certificate {
	t.Helper()
	id, err := identity.New("cluster.local", namespace, account)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := a.ServerCertificate(id)
	if err != nil {
		t.Fatal(err)
	}
	return *cert
}

// otherReplica is meshd's second replica, which tells what the test says.
type otherReplica struct {
	demand *demand.Book

	mu      sync.Mutex
	report  peer.Report
	changed broadcast
}

func (r *otherReplica) tell(o peer.Object) {
	r.mu.Lock()
	r.report.Objects = []peer.Object{o}
	r.mu.Unlock()
	r.changed.raise()
}

func startReplica(t *testing.T, k client.Client, a *ca.Authority) *otherReplica {
	t.Helper()
	self, err := identity.New("cluster.local", "meshd-system", "meshd")
	if err != nil {
		t.Fatal(err)
	}
	config, err := a.ServerTLS(self)
	if err != nil {
		t.Fatal(err)
	}
	layer, err := authn.New(authn.Config{TrustDomain: "cluster.local", Rules: authn.Rules{
		peerv1.PeerService_Watch_FullMethodName: authn.Certificate, peerv1.PeerService_Demand_FullMethodName: authn.Certificate,
	}})
	if err != nil {
		t.Fatal(err)
	}
	r := &otherReplica{demand: demand.New(demand.Config{})}
	srv := grpc.NewServer(grpc.Creds(credentials.NewTLS(config)), grpc.StreamInterceptor(layer.Stream()))
	peer.NewServer(peer.ServerConfig{Self: self, Changed: r.changed.wait, Demand: r.demand,
		Report: func() (peer.Report, bool) { r.mu.Lock(); defer r.mu.Unlock(); return r.report, true }}).Register(srv)
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.2:15012")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = srv.Serve(listener) }()
	t.Cleanup(srv.Stop)
	readyPod(t, k, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "meshd-system", Name: "meshd-other", Labels: map[string]string{
			"app.kubernetes.io/name": "meshd", "app.kubernetes.io/component": "control-plane"}},
		Spec: corev1.PodSpec{ServiceAccountName: "meshd", Containers: []corev1.Container{{Name: "meshd", Image: "meshd:test"}}},
	}, "127.0.0.2")
	return r
}

// readyPod creates a pod and has it be ready at an address.
func readyPod(t *testing.T, k client.Client, p *corev1.Pod, ip string) {
	t.Helper()
	create(t, k, p)
	p.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}},
		Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}
	if err := k.Status().Update(t.Context(), p); err != nil {
		t.Fatal(err)
	}
}

// TestProgrammedIsExact: Programmed is true of a generation when every proxy of
// every replica has acknowledged it, and not before.
func TestProgrammedIsExact(t *testing.T) {
	c := kubetest.Start(t, kubetest.Options{})
	k := c.Client(t)
	create(t, k, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "meshd-system"}})
	shop := c.Namespace(t, nil)
	readyPod(t, k, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: shop, Name: "app-1"},
		Spec: corev1.PodSpec{ServiceAccountName: "app", Containers: []corev1.Container{
			{Name: "app", Image: "app:test"}, {Name: "meshd-proxy", Image: "proxy:test"}}},
	}, "10.0.0.1")
	policy := &meshv1a1.PeerAuthentication{ObjectMeta: metav1.ObjectMeta{Namespace: shop, Name: "p"}, Spec: meshv1a1.PeerAuthenticationSpec{Mode: meshv1a1.Strict}}
	create(t, k, policy)
	s := startInCluster(t, c)
	authority := authorityOf(t, k)
	proxy := connectProxy(t, authority, s.flags.grpcAddress, shop, "app-1")

	// is waits until the status speaks of the newest generation in these words. A
	// condition that is true too early fails the test.
	is := func(reason, message string, early bool) {
		t.Helper()
		until(t, reason+": "+message, func(ctx context.Context) bool {
			if err := k.Get(ctx, client.ObjectKeyFromObject(policy), policy); err != nil {
				return false // until it is too late
			}
			got := meta.FindStatusCondition(policy.Status.Conditions, "Programmed")
			if got == nil || got.ObservedGeneration != policy.Generation {
				return false
			}
			if early && got.Status == metav1.ConditionTrue {
				t.Fatalf("true too early: %+v", got)
			}
			return got.Reason == reason && strings.Contains(got.Message, message)
		})
	}
	change := func(mode meshv1a1.PeerAuthenticationMode) {
		t.Helper()
		policy.Spec.Mode = mode
		if err := k.Update(t.Context(), policy); err != nil {
			t.Fatal(err)
		}
	}
	is("Programmed", "", false)
	proxy.behave(t, true, "")
	change(meshv1a1.Permissive)
	is("Pending", shop+"/app-1", true)
	proxy.behave(t, false, "")
	is("Programmed", "", false)
	proxy.behave(t, false, "no such thing")
	change(meshv1a1.Disable) // whose bytes are asked for no more: what was refused stays refused
	is("Rejected", "no such thing", true)
	proxy.behave(t, false, "")
	change(meshv1a1.Permissive)
	is("Programmed", "", false)
	if p := policy.Status.Proxies; p.Total != 1 || p.Acknowledged != 1 {
		t.Errorf("%+v", p)
	}

	// Another replica comes, which has to tell first.
	replica := startReplica(t, k, authority)
	is("Pending", "meshd-other", false)
	tell := func(generation int64, p meshstatus.Progress) {
		replica.tell(peer.Object{Object: report.Object{Kind: "PeerAuthentication", Namespace: shop, Name: "p"},
			UID: string(policy.UID), Generation: generation, Progress: p})
	}
	tell(policy.Generation, meshstatus.Progress{Total: 2, Acknowledged: 2})
	is("Programmed", "", false)
	if p := policy.Status.Proxies; p.Total != 3 || p.Acknowledged != 3 {
		t.Errorf("%+v", p)
	}
	change(meshv1a1.Strict)
	is("Pending", "meshd-other", true)
	tell(policy.Generation, meshstatus.Progress{Total: 2, Acknowledged: 1, Laggards: []string{"far/away"}})
	is("Pending", "far/away", true)
	tell(policy.Generation, meshstatus.Progress{Total: 2, Acknowledged: 2})
	is("Programmed", "", false)
	change(meshv1a1.Permissive)
	is("Pending", "meshd-other", true)
	if err := k.Delete(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "meshd-system", Name: "meshd-other"}}, client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
	is("Programmed", "", false)
}
