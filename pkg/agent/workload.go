package agent

import (
	"context"
	"crypto/x509"
	"fmt"
	"strings"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// workloadAPI is the SPIFFE Workload API's X.509 part. The JWT methods are not
// offered: meshd issues no JWTs.
type workloadAPI struct {
	workload.UnimplementedSpiffeWorkloadAPIServer
	board *board
	stop  <-chan struct{}
}

const (
	workloadMethods = "/SpiffeWorkloadAPI/"
	// workloadHeader guards against requests that somebody else's browser or proxy was made to
	// send (SPIFFE Workload Endpoint, 5.1).
	workloadHeader = "workload.spiffe.io"
)

func checkHeader(ctx context.Context, method string) error {
	if !strings.HasPrefix(method, workloadMethods) {
		return nil
	}
	if v := metadata.ValueFromIncomingContext(ctx, workloadHeader); len(v) != 1 || v[0] != "true" {
		return status.Error(codes.InvalidArgument, `the metadata "workload.spiffe.io: true" is missing`)
	}
	return nil
}

func workloadUnary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if err := checkHeader(ctx, info.FullMethod); err != nil {
		return nil, err
	}
	return handler(ctx, req)
}

func workloadStream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if err := checkHeader(ss.Context(), info.FullMethod); err != nil {
		return err
	}
	return handler(srv, ss)
}

// FetchX509SVID sends the certificate and key, and again at each renewal.
func (w *workloadAPI) FetchX509SVID(_ *workload.X509SVIDRequest, stream workload.SpiffeWorkloadAPI_FetchX509SVIDServer) error {
	return w.follow(stream.Context(), func(s *SVID) error {
		key, err := x509.MarshalPKCS8PrivateKey(s.Key)
		if err != nil {
			return status.Error(codes.Internal, fmt.Sprintf("key: %v", err))
		}
		return stream.Send(&workload.X509SVIDResponse{Svids: []*workload.X509SVID{{
			SpiffeId: s.ID.String(), X509Svid: concat(s.Chain), X509SvidKey: key, Bundle: concat(s.Roots),
		}}})
	})
}

// FetchX509Bundles sends the roots of the trust domain, and again when they change.
func (w *workloadAPI) FetchX509Bundles(_ *workload.X509BundlesRequest, stream workload.SpiffeWorkloadAPI_FetchX509BundlesServer) error {
	last := ""
	return w.follow(stream.Context(), func(s *SVID) error {
		roots := concat(s.Roots)
		if string(roots) == last {
			return nil
		}
		last = string(roots)
		return stream.Send(&workload.X509BundlesResponse{
			Bundles: map[string][]byte{s.ID.TrustDomain().IDString(): roots},
		})
	})
}

// follow calls send with each SVID, the first as soon as there is one.
func (w *workloadAPI) follow(ctx context.Context, send func(*SVID) error) error {
	var last *SVID
	for {
		secrets, changed := w.board.get()
		if secrets.SVID != last {
			last = secrets.SVID
			if err := send(last); err != nil {
				return err
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		case <-w.stop:
			return errStopping
		}
	}
}

func concat(certs []*x509.Certificate) []byte {
	var out []byte
	for _, c := range certs {
		out = append(out, c.Raw...)
	}
	return out
}
