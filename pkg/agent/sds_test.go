package agent_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/meshd-io/meshd/internal/clock/clocktest"
	"github.com/meshd-io/meshd/pkg/agent"
	"github.com/meshd-io/meshd/pkg/ca"
	"github.com/meshd-io/meshd/pkg/ca/catest"
)

const secretType = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"

// dialSocket connects to the agent as Envoy does.
func dialSocket(t *testing.T, p *pod) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(p.socket(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// delta is a delta client that acknowledges what it gets.
type delta struct {
	t      *testing.T
	stream secretv3.SecretDiscoveryService_DeltaSecretsClient
}

func newDelta(t *testing.T, p *pod) *delta {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	s, err := secretv3.NewSecretDiscoveryServiceClient(dialSocket(t, p)).DeltaSecrets(ctx, grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
	return &delta{t: t, stream: s}
}

func (d *delta) send(req *discoveryv3.DeltaDiscoveryRequest) {
	d.t.Helper()
	req.TypeUrl = secretType
	if err := d.stream.Send(req); err != nil {
		d.t.Fatal(err)
	}
}

func (d *delta) subscribe(names ...string) {
	d.t.Helper()
	d.send(&discoveryv3.DeltaDiscoveryRequest{ResourceNamesSubscribe: names})
}

// recv gives the next response, acknowledged.
func (d *delta) recv() *discoveryv3.DeltaDiscoveryResponse {
	d.t.Helper()
	resp, err := d.stream.Recv()
	if err != nil {
		d.t.Fatal(err)
	}
	d.send(&discoveryv3.DeltaDiscoveryRequest{ResponseNonce: resp.GetNonce()})
	return resp
}

// want receives and compares the names.
func (d *delta) want(names ...string) *discoveryv3.DeltaDiscoveryResponse {
	d.t.Helper()
	resp := d.recv()
	var got []string
	for _, r := range resp.GetResources() {
		got = append(got, r.GetName())
	}
	if !slices.Equal(got, names) {
		d.t.Fatalf("got %v, want %v", got, names)
	}
	return resp
}

// nothingElse shows that no response was waiting: an unknown name is answered next.
func (d *delta) nothingElse() {
	d.t.Helper()
	d.subscribe("probe")
	resp := d.recv()
	if len(resp.GetResources()) != 0 || !slices.Equal(resp.GetRemovedResources(), []string{"probe"}) {
		d.t.Fatalf("something else came: %d resources, removed %v", len(resp.GetResources()), resp.GetRemovedResources())
	}
}

func secret(t *testing.T, body *anypb.Any) *tlsv3.Secret {
	t.Helper()
	var s tlsv3.Secret
	if err := body.UnmarshalTo(&s); err != nil {
		t.Fatal(err)
	}
	if err := s.ValidateAll(); err != nil {
		t.Error(err)
	}
	return &s
}

// pair checks that a secret's chain and key belong together, and gives the leaf.
func pair(t *testing.T, s *tlsv3.Secret) *x509.Certificate {
	t.Helper()
	c := s.GetTlsCertificate()
	p, err := tls.X509KeyPair(c.GetCertificateChain().GetInlineBytes(), c.GetPrivateKey().GetInlineBytes())
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Certificate) != 2 {
		t.Errorf("chain has %d certificates, want 2", len(p.Certificate))
	}
	return p.Leaf
}

// TestDelta follows one stream: secrets come when they are there, once, and
// again when they change or are asked for anew.
func TestDelta(t *testing.T) {
	clk := clocktest.New(time.Now().Truncate(time.Second))
	c := catest.New(t, ca.Lifetimes{}, clk)
	p := start(t, catest.Serve(t, c.Server(t, nil, slog.New(slog.DiscardHandler)), "127.0.0.1:0"), clk)
	p.idle(t)
	d := newDelta(t, p)
	d.subscribe(agent.Leaf, agent.Anchor)
	d.nothingElse()

	p.trust(t, c)
	p.pass(t, 5*time.Second)
	anchor := d.want(agent.Anchor)
	if got := secret(t, anchor.GetResources()[0].GetResource()).GetValidationContext().GetTrustedCa().GetInlineBytes(); string(got) != c.Authority.Bundle() {
		t.Errorf("trust anchor is %q", got)
	}
	p.token(t, c)
	p.pass(t, 10*time.Second)
	first := d.want(agent.Leaf).GetResources()[0]
	leaf := pair(t, secret(t, first.GetResource()))
	d.nothingElse()

	p.pass(t, 31*time.Minute)
	second := d.want(agent.Leaf).GetResources()[0]
	if second.GetVersion() == first.GetVersion() || pair(t, secret(t, second.GetResource())).SerialNumber.Cmp(leaf.SerialNumber) == 0 {
		t.Error("the renewed certificate is the old one")
	}

	d.subscribe(agent.Leaf)
	if again := d.want(agent.Leaf).GetResources()[0]; again.GetVersion() != second.GetVersion() {
		t.Error("an unchanged secret has another version")
	}

	// A second root: only the anchor changes.
	other := catest.New(t, ca.Lifetimes{}, clk)
	catest.WriteFile(t, p.path("ca.crt"), c.Authority.Bundle()+other.Authority.Bundle())
	p.pass(t, 5*time.Second)
	d.want(agent.Anchor)
	// A broken file changes nothing.
	catest.WriteFile(t, p.path("ca.crt"), "nonsense")
	p.pass(t, 5*time.Second)
	d.nothingElse()
	p.wantLog(t, "trust anchor is not read")

	d.send(&discoveryv3.DeltaDiscoveryRequest{ResourceNamesUnsubscribe: []string{agent.Anchor}})
	p.trust(t, c)
	p.pass(t, 5*time.Second)
	d.send(&discoveryv3.DeltaDiscoveryRequest{ResourceNamesSubscribe: []string{agent.Anchor}})
	d.want(agent.Anchor)
}

// TestDeltaResume: after a reconnect nothing that Envoy still holds is sent again.
func TestDeltaResume(t *testing.T) {
	p, _ := running(t)
	d := newDelta(t, p)
	d.subscribe(agent.Leaf, agent.Anchor)
	held := map[string]string{}
	for len(held) < 2 {
		for _, r := range d.recv().GetResources() {
			held[r.GetName()] = r.GetVersion()
		}
	}
	e := newDelta(t, p)
	e.send(&discoveryv3.DeltaDiscoveryRequest{ResourceNamesSubscribe: []string{agent.Leaf, agent.Anchor}, InitialResourceVersions: held})
	e.nothingElse()
	held[agent.Leaf] = "stale"
	f := newDelta(t, p)
	f.send(&discoveryv3.DeltaDiscoveryRequest{ResourceNamesSubscribe: []string{agent.Leaf, agent.Anchor}, InitialResourceVersions: held})
	f.want(agent.Leaf)
}

// TestNackDoesNotLoop: what Envoy refuses is logged in its words and not sent again as it is.
func TestNackDoesNotLoop(t *testing.T) {
	p, _ := running(t)
	d := newDelta(t, p)
	d.subscribe(agent.Leaf)
	resp, err := d.stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	d.send(&discoveryv3.DeltaDiscoveryRequest{ResponseNonce: resp.GetNonce(), ErrorDetail: &status.Status{Code: 13, Message: "key does not match"}})
	d.nothingElse()
	p.wantLog(t, "envoy refused a secret", "key does not match")
}

func TestWrongType(t *testing.T) {
	p, _ := running(t)
	d := newDelta(t, p)
	if err := d.stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: "type.googleapis.com/envoy.config.cluster.v3.Cluster"}); err != nil {
		t.Fatal(err)
	}
	if _, err := d.stream.Recv(); grpcstatus.Code(err) != codes.InvalidArgument {
		t.Errorf("got %v", err)
	}
}

// TestStateOfTheWorld serves clients that know no delta.
func TestStateOfTheWorld(t *testing.T) {
	p, c := running(t)
	client := secretv3.NewSecretDiscoveryServiceClient(dialSocket(t, p))
	open := func(version string) secretv3.SecretDiscoveryService_StreamSecretsClient {
		s, err := client.StreamSecrets(timeout(t))
		if err != nil {
			t.Fatal(err)
		}
		request(t, s, &discoveryv3.DiscoveryRequest{VersionInfo: version, ResourceNames: []string{agent.Leaf}})
		return s
	}
	s := open("")
	first := answer(t, s)
	leaf := pair(t, secret(t, first.GetResources()[0]))
	request(t, s, &discoveryv3.DiscoveryRequest{
		VersionInfo: first.GetVersionInfo(), ResponseNonce: first.GetNonce(), ResourceNames: []string{agent.Leaf},
	})
	p.pass(t, 31*time.Minute)
	second := answer(t, s)
	if pair(t, secret(t, second.GetResources()[0])).SerialNumber.Cmp(leaf.SerialNumber) == 0 {
		t.Error("the renewed certificate is the old one")
	}
	// More names: both are sent. A stale nonce before it is ignored.
	request(t, s, &discoveryv3.DiscoveryRequest{ResponseNonce: first.GetNonce(), ResourceNames: []string{"stale"}})
	request(t, s, &discoveryv3.DiscoveryRequest{
		VersionInfo: second.GetVersionInfo(), ResponseNonce: second.GetNonce(), ResourceNames: []string{agent.Leaf, agent.Anchor},
	})
	if both := answer(t, s); len(both.GetResources()) != 2 {
		t.Errorf("got %d secrets, want 2", len(both.GetResources()))
	}
	// Who comes back with the version that is in force gets nothing until it changes.
	back := open(second.GetVersionInfo())
	p.token(t, c)
	p.pass(t, 31*time.Minute)
	if third := answer(t, back); third.GetVersionInfo() == second.GetVersionInfo() {
		t.Error("an unchanged secret was sent again")
	}
}

func request(t *testing.T, s secretv3.SecretDiscoveryService_StreamSecretsClient, req *discoveryv3.DiscoveryRequest) {
	t.Helper()
	req.TypeUrl = secretType
	if err := s.Send(req); err != nil {
		t.Fatal(err)
	}
}

func answer(t *testing.T, s secretv3.SecretDiscoveryService_StreamSecretsClient) *discoveryv3.DiscoveryResponse {
	t.Helper()
	resp, err := s.Recv()
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// TestAnchorIsPEM: the anchor is served as its file has it.
func TestAnchorIsPEM(t *testing.T) {
	p, _ := running(t)
	d := newDelta(t, p)
	d.subscribe(agent.Anchor)
	raw := secret(t, d.want(agent.Anchor).GetResources()[0].GetResource()).GetValidationContext().GetTrustedCa().GetInlineBytes()
	if block, rest := pem.Decode(raw); block == nil || strings.TrimSpace(string(rest)) != "" {
		t.Errorf("anchor is %q", raw)
	}
}
