package service_test

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/meshd-io/meshd/pkg/authn"
	"github.com/meshd-io/meshd/pkg/ca"
	"github.com/meshd-io/meshd/pkg/ca/catest"
	"github.com/meshd-io/meshd/pkg/ca/cav1"
	"github.com/meshd-io/meshd/pkg/ca/service"
	"github.com/meshd-io/meshd/pkg/identity"
)

// TestSign: what comes over the wire verifies by go-spiffe, and the audit log has it.
func TestSign(t *testing.T) {
	f := newForge(t)
	var audit lockedBuffer
	client := connect(t, f.ca, slog.New(slog.NewTextHandler(&audit, nil)))
	resp, err := sign(client, f.honest())
	if err != nil {
		t.Fatal(err)
	}
	chain, roots := parse(t, resp.GetChain()), parse(t, resp.GetRoots())
	td := spiffeid.RequireTrustDomainFromString(catest.TrustDomain)
	id, _, err := x509svid.Verify(chain, x509bundle.FromX509Authorities(td, roots))
	if err != nil {
		t.Fatal(err)
	}
	if id.String() != own {
		t.Errorf("ID is %s", id)
	}
	if !resp.GetNotAfter().AsTime().Equal(chain[0].NotAfter) {
		t.Errorf("not_after is %s, the leaf's %s", resp.GetNotAfter().AsTime(), chain[0].NotAfter)
	}
	if line := audit.String(); !strings.Contains(line, "certificate signed") || !strings.Contains(line, own) ||
		!strings.Contains(line, chain[0].SerialNumber.Text(16)) {
		t.Errorf("audit log: %q", line)
	}
}

func parse(t *testing.T, ders [][]byte) []*x509.Certificate {
	t.Helper()
	var out []*x509.Certificate
	for _, der := range ders {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, c)
	}
	return out
}

// slow is a signer that a test holds.
type slow struct {
	started, release chan struct{}
	err              error
}

func (s slow) Sign(identity.ID, []byte, time.Duration) (ca.Issued, error) {
	s.started <- struct{}{}
	<-s.release
	return ca.Issued{}, s.err
}

func peerContext(t *testing.T) context.Context {
	t.Helper()
	return authn.WithPeer(t.Context(), authn.Peer{Identity: catest.MeshdID(t)})
}

// observed tells when somebody begins to wait for the context's end.
type observed struct {
	context.Context
	once    *sync.Once
	waiting chan struct{}
}

func (o observed) Done() <-chan struct{} {
	o.once.Do(func() { close(o.waiting) })
	return o.Context.Done()
}

// TestBusy: one is signed, one waits, the third is told to come again at once;
// one that gives up waiting makes room.
func TestBusy(t *testing.T) {
	s := slow{started: make(chan struct{}, 3), release: make(chan struct{}), err: errors.New("secret disk failure")}
	srv := service.New(service.Config{Signer: s, Concurrency: 1, Queue: 1, Log: slog.New(slog.DiscardHandler)})
	errs := make(chan error, 2)
	call := func(ctx context.Context) { _, err := srv.Sign(ctx, &cav1.SignRequest{}); errs <- err }
	go call(peerContext(t))
	<-s.started
	ctx, giveUp := context.WithCancel(peerContext(t))
	second := observed{Context: ctx, once: &sync.Once{}, waiting: make(chan struct{})}
	go call(second)
	<-second.waiting // it has its place in the queue
	if _, err := srv.Sign(peerContext(t), &cav1.SignRequest{}); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("the third gets %v", err)
	}
	giveUp()
	if err := <-errs; status.Code(err) != codes.Canceled {
		t.Errorf("who gives up gets %v", err)
	}
	close(s.release)
	err := <-errs
	if status.Code(err) != codes.Internal || strings.Contains(err.Error(), "disk") {
		t.Errorf("the CA's own failure goes out as %v", err)
	}
}

func TestWithoutPeer(t *testing.T) {
	f := newForge(t)
	srv := service.New(service.Config{Signer: f.ca.Authority, Log: slog.New(slog.DiscardHandler)})
	_, err := srv.Sign(t.Context(), &cav1.SignRequest{Csr: f.honest().csr})
	if status.Code(err) != codes.Unauthenticated || !strings.Contains(err.Error(), "NoIdentity") {
		t.Errorf("got %v", err)
	}
}
