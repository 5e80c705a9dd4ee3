package peer_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
	"github.com/meshd-io/meshd/pkg/authn"
	"github.com/meshd-io/meshd/pkg/ca"
	"github.com/meshd-io/meshd/pkg/ca/catest"
	"github.com/meshd-io/meshd/pkg/identity"
	"github.com/meshd-io/meshd/pkg/peer"
	"github.com/meshd-io/meshd/pkg/peer/peerv1"
	"github.com/meshd-io/meshd/pkg/report"
	meshstatus "github.com/meshd-io/meshd/pkg/status"
	"github.com/meshd-io/meshd/pkg/xds/demand"
	"github.com/meshd-io/meshd/pkg/xds/scope"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 30 * time.Second

var policy = report.Object{Kind: "TrafficPolicy", Namespace: "shop", Name: "a"}

// replica is a meshd that tells what the test says.
type replica struct {
	ca     *catest.CA
	addr   string
	srv    *grpc.Server
	demand *demand.Book

	mu      sync.Mutex
	report  peer.Report
	unknown bool
	changed chan struct{}
}

func newReplica(t *testing.T, c *catest.CA, address string) *replica {
	t.Helper()
	r := &replica{ca: c, changed: make(chan struct{}), demand: demand.New(demand.Config{})}
	r.srv = c.Server(t, authn.Rules{
		peerv1.PeerService_Watch_FullMethodName: authn.Certificate, peerv1.PeerService_Demand_FullMethodName: authn.Certificate,
	}, slog.New(slog.DiscardHandler))
	peer.NewServer(peer.ServerConfig{
		Self: catest.MeshdID(t), Report: r.Report, Changed: r.Changed, Demand: r.demand, Log: slog.New(slog.DiscardHandler),
	}).Register(r.srv)
	r.addr = catest.Serve(t, r.srv, address)
	return r
}

func (r *replica) Report() (peer.Report, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.report, !r.unknown
}

func (r *replica) Changed() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.changed
}

func (r *replica) set(report peer.Report) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report = report
	close(r.changed)
	r.changed = make(chan struct{})
}

// watching is a Watcher of some replicas.
type watching struct {
	*peer.Watcher
	told   chan struct{}
	demand *demand.Book // learns

	mu      sync.Mutex
	peers   []peer.Peer
	changed chan struct{}
}

func watch(t *testing.T, c peer.Authority, self identity.ID, peers ...peer.Peer) *watching {
	t.Helper()
	w := &watching{told: make(chan struct{}, 1), demand: demand.New(demand.Config{}), peers: peers, changed: make(chan struct{})}
	w.Watcher = peer.NewWatcher(peer.WatcherConfig{
		Self: self, Authority: c, Log: slog.New(slog.DiscardHandler),
		Peers:   func() []peer.Peer { w.mu.Lock(); defer w.mu.Unlock(); return w.peers },
		Changed: func() <-chan struct{} { w.mu.Lock(); defer w.mu.Unlock(); return w.changed },
		Learn:   func(news []demand.Use) { w.demand.Learn(news) },
		Told: func() {
			select {
			case w.told <- struct{}{}:
			default:
			}
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.Run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-done })
	return w
}

func (w *watching) set(peers ...peer.Peer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.peers = peers
	close(w.changed)
	w.changed = make(chan struct{})
}

// until waits for the states to be as they should.
func (w *watching) until(t *testing.T, what string, is func([]peer.State) bool) {
	t.Helper()
	deadline := time.After(patience)
	for !is(w.States()) {
		select {
		case <-w.told:
		case <-deadline:
			t.Fatalf("%s: %+v", what, w.States())
		}
	}
}

func about(o report.Object, generation int64, p meshstatus.Progress, findings ...report.Finding) peer.Object {
	return peer.Object{Object: o, UID: "u", Generation: generation, Progress: p, Findings: findings}
}

// total is what Merge makes of the states for a policy's generation of which this replica has nothing.
func total(states []peer.State, generation int64) meshstatus.Progress {
	p, _ := peer.Merge(about(policy, generation, meshstatus.Progress{}), states)
	return p
}

func TestWatch(t *testing.T) {
	c := catest.New(t, ca.Lifetimes{}, nil)
	r := newReplica(t, c, "127.0.0.1:0")
	at := peer.Peer{Name: "meshd-b", Address: r.addr}
	w := watch(t, c.Authority, catest.MeshdID(t), at)
	finding := report.Finding{Object: policy, Condition: report.Accepted, Reason: report.Rejected, Field: "spec", Message: "no",
		By: report.Object{Kind: "X", Name: "y"}, Target: "spec.targetRefs[0]", Generation: 3}
	told := about(policy, 3, meshstatus.Progress{Total: 4, Acknowledged: 2, Rejected: 1, Laggards: []string{"shop/x", "shop/y"}, Messages: []string{"no"}}, finding)
	issuer := meshv1a1.CertificateStatus{Fingerprint: "ab", NotAfter: metav1.NewTime(time.Unix(1e9, 0).UTC())}
	r.set(peer.Report{Objects: []peer.Object{told}, Issuers: []meshv1a1.CertificateStatus{issuer}, Proxies: 4})
	w.until(t, "the report", func(s []peer.State) bool { return s[0].Known && s[0].Proxies == 4 })
	got := w.States()[0]
	p, fs := peer.Merge(about(policy, 3, meshstatus.Progress{}), w.States())
	if !reflect.DeepEqual(p, told.Progress) || !reflect.DeepEqual(fs, told.Findings) || !reflect.DeepEqual(got.Issuers, []meshv1a1.CertificateStatus{issuer}) {
		t.Errorf("%+v, %+v, %+v", p, fs, got.Issuers)
	}

	// What changes, comes and goes.
	told.Generation, told.Progress = 4, meshstatus.Progress{Total: 4, Acknowledged: 4}
	r.set(peer.Report{Objects: []peer.Object{told}, Proxies: 5})
	w.until(t, "a change", func(s []peer.State) bool { p := total(s, 4); return p.Acknowledged == 4 && len(p.Replicas) == 0 })
	r.set(peer.Report{})
	w.until(t, "gone", func(s []peer.State) bool { return len(total(s, 4).Replicas) == 1 })

	// What it has told stays while it is out of reach, and all comes again afterwards.
	r.set(peer.Report{Objects: []peer.Object{told}})
	w.until(t, "back", func(s []peer.State) bool { return len(total(s, 4).Replicas) == 0 })
	r.srv.Stop()
	if s := w.States(); !s[0].Known || len(total(s, 4).Replicas) != 0 || len(total(s, 5).Replicas) != 1 {
		t.Errorf("out of reach: %+v", s)
	}
	again := newReplica(t, c, r.addr)
	told.Generation = 5
	again.set(peer.Report{Objects: []peer.Object{told}})
	w.until(t, "again", func(s []peer.State) bool { return len(total(s, 5).Replicas) == 0 })

	// Who is gone does not count.
	w.set()
	if s := w.States(); len(s) != 0 {
		t.Errorf("%+v", s)
	}
	w.set(at, peer.Peer{Name: "meshd-a", Address: "127.0.0.1:1"})
	w.until(t, "one of two", func(s []peer.State) bool {
		return len(s) == 2 && !s[0].Known && s[1].Known && slices.Equal(total(s, 5).Replicas, []string{"meshd-a"})
	})
}

// TestManyObjects: a report that is larger than a message comes whole or not at all.
func TestManyObjects(t *testing.T) {
	c := catest.New(t, ca.Lifetimes{}, nil)
	r := newReplica(t, c, "127.0.0.1:0")
	var all peer.Report
	for i := range 3001 {
		o := report.Object{Kind: "TrafficPolicy", Namespace: "shop", Name: fmt.Sprint("p", i)}
		all.Objects = append(all.Objects, about(o, 1, meshstatus.Progress{Total: 1}))
	}
	r.set(all)
	w := watch(t, c.Authority, catest.MeshdID(t), peer.Peer{Name: "meshd-b", Address: r.addr})
	w.until(t, "all", func(s []peer.State) bool {
		if !s[0].Known {
			return false
		}
		for _, o := range all.Objects {
			if p, _ := peer.Merge(o, s); p.Total != 2 {
				t.Fatalf("%s: %+v", o.Name, p)
			}
		}
		return true
	})
}

// TestNobodyElse: neither a workload may ask, nor may another answer.
func TestNobodyElse(t *testing.T) {
	c := catest.New(t, ca.Lifetimes{}, nil)
	r := newReplica(t, c, "127.0.0.1:0")
	r.set(peer.Report{Proxies: 1})
	r.demand.Ask(scope.Key{Namespace: "shop", ServiceAccount: "accounts"}, []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:80")}, false)
	for name, want := range map[string]struct {
		certs []tls.Certificate
		code  codes.Code
	}{
		"a workload":                   {[]tls.Certificate{c.Certificate(t, "shop", "accounts")}, codes.PermissionDenied},
		"an account named as meshd's":  {[]tls.Certificate{c.Certificate(t, "shop", "meshd")}, codes.PermissionDenied},
		"another of meshd's namespace": {[]tls.Certificate{c.Certificate(t, "meshd-system", "meshd-ingress")}, codes.PermissionDenied},
		"nobody":                       {nil, codes.Unauthenticated},
		"meshd":                        {[]tls.Certificate{c.Certificate(t, "meshd-system", "meshd")}, codes.OK},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := grpc.NewClient(r.addr, grpc.WithTransportCredentials(credentials.NewTLS(c.ClientTLS(want.certs...))))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			client := peerv1.NewPeerServiceClient(conn)
			stream, err := client.Watch(ctx, &peerv1.WatchRequest{})
			if err == nil {
				_, err = stream.Recv()
			}
			if status.Code(err) != want.code {
				t.Errorf("Watch: %v, want %s", err, want.code)
			}
			uses, err := client.Demand(ctx, &peerv1.DemandRequest{})
			if err == nil {
				_, err = uses.Recv()
			}
			if status.Code(err) != want.code {
				t.Errorf("Demand: %v, want %s", err, want.code)
			}
		})
	}

	// A server of the mesh that is not meshd is not believed: its handshake fails.
	stranger, err := identity.New(catest.TrustDomain, "shop", "meshd")
	if err != nil {
		t.Fatal(err)
	}
	config, err := c.Authority.ServerTLS(stranger)
	if err != nil {
		t.Fatal(err)
	}
	refused := make(chan struct{})
	config.GetConfigForClient = tell(config.GetConfigForClient, refused)
	addr := catest.Serve(t, grpc.NewServer(grpc.Creds(credentials.NewTLS(config))), "127.0.0.1:0")
	w := watch(t, c.Authority, catest.MeshdID(t), peer.Peer{Name: "stranger", Address: addr})
	select {
	case <-refused: // a second handshake: the first has failed
	case <-time.After(patience):
		t.Fatal("nobody came")
	}
	if s := w.States(); s[0].Known {
		t.Errorf("%+v", s)
	}
}

// tell closes done at the second handshake.
func tell(get func(*tls.ClientHelloInfo) (*tls.Config, error), done chan struct{}) func(*tls.ClientHelloInfo) (*tls.Config, error) {
	var mu sync.Mutex
	n := 0
	return func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		mu.Lock()
		defer mu.Unlock()
		if n++; n == 2 {
			close(done)
		}
		return get(h)
	}
}
