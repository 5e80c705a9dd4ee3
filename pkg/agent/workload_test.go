package agent_test

import (
	"testing"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// TestHeader: without the header of the standard nothing is served.
func TestHeader(t *testing.T) {
	p, _ := running(t)
	client := workload.NewSpiffeWorkloadAPIClient(dialSocket(t, p))
	for _, header := range []metadata.MD{nil, metadata.Pairs("workload.spiffe.io", "false"), metadata.Pairs("workload.spiffe.io", "true", "workload.spiffe.io", "true")} {
		ctx := metadata.NewOutgoingContext(timeout(t), header)
		svids, err := client.FetchX509SVID(ctx, &workload.X509SVIDRequest{})
		if err == nil {
			_, err = svids.Recv()
		}
		if status.Code(err) != codes.InvalidArgument {
			t.Errorf("%v: %v", header, err)
		}
		if _, err := client.FetchJWTSVID(ctx, &workload.JWTSVIDRequest{}); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%v: unary: %v", header, err)
		}
	}
	ctx := metadata.NewOutgoingContext(timeout(t), metadata.Pairs("workload.spiffe.io", "true"))
	if _, err := client.FetchJWTSVID(ctx, &workload.JWTSVIDRequest{}); status.Code(err) != codes.Unimplemented {
		t.Errorf("JWT: %v", err)
	}
}

// TestBundles: go-spiffe's source has the roots that the leaf chains to.
func TestBundles(t *testing.T) {
	p, c := running(t)
	bundle, err := p.source(t).GetX509BundleForTrustDomain(spiffeid.RequireTrustDomainFromString("cluster.local"))
	if err != nil {
		t.Fatal(err)
	}
	if roots := bundle.X509Authorities(); len(roots) != 1 || !roots[0].Equal(c.Authority.Roots()[0]) {
		t.Errorf("bundle has %d roots", len(roots))
	}
	ctx := metadata.NewOutgoingContext(timeout(t), metadata.Pairs("workload.spiffe.io", "true"))
	s, err := workload.NewSpiffeWorkloadAPIClient(dialSocket(t, p)).FetchX509Bundles(ctx, &workload.X509BundlesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.Recv()
	if err != nil {
		t.Fatal(err)
	}
	if string(resp.GetBundles()["spiffe://cluster.local"]) != string(c.Authority.Roots()[0].Raw) {
		t.Errorf("bundles are of %d trust domains", len(resp.GetBundles()))
	}
}
