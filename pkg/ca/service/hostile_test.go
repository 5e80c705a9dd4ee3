package service_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/meshd-io/meshd/pkg/ca/catest"
	"github.com/meshd-io/meshd/pkg/ca/cav1"
	"github.com/meshd-io/meshd/pkg/ca/refusal"
)

func TestMain(m *testing.M) {
	if order := os.Getenv(clientVariable); order != "" {
		if err := runClient(order); err != nil {
			fmt.Fprintln(os.Stderr, "signing client:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// attempt is one call of Sign, good unless a case spoils it: shop/accounts asks
// with its own token and an honest CSR.
type attempt struct {
	metadata []string
	csr      []byte
	ttl      *durationpb.Duration
}

// case of the table: what is spoiled, and the reason that it must be refused for.
type hostile struct {
	name  string
	want  refusal.Reason
	spoil func(f *forge, a *attempt)
}

// TestHostile sends every hostile token and CSR through the whole door: TLS,
// authentication, service. None may be signed; each has its reason, on the wire
// and in the audit log, and neither holds the token.
func TestHostile(t *testing.T) {
	f := newForge(t)
	cases := append(append(tokenCases(), csrCases()...), lifetimeCases()...)
	if len(cases) < 60 {
		t.Errorf("the table has %d cases, at least 60 are wanted", len(cases))
	}
	var audit lockedBuffer
	client := connect(t, f.ca, slog.New(slog.NewTextHandler(&audit, nil)))
	seen := map[string]bool{}
	for _, tc := range cases {
		if seen[tc.name] {
			t.Errorf("%q is there twice", tc.name)
		}
		seen[tc.name] = true
		t.Run(tc.name, func(t *testing.T) {
			a := f.honest()
			tc.spoil(f, &a)
			audit.reset()
			resp, err := sign(client, a)
			if err == nil {
				t.Fatalf("signed: %d certificates", len(resp.GetChain()))
			}
			got, _, _ := strings.Cut(status.Convert(err).Message(), ":")
			if got != string(tc.want) {
				t.Errorf("refused with %v, want %s", err, tc.want)
			}
			line := audit.String()
			if !strings.Contains(line, "reason="+string(tc.want)) {
				t.Errorf("audit log: %q", line)
			}
			for _, v := range a.metadata {
				if token, ok := strings.CutPrefix(v, "Bearer "); ok && len(token) > 20 &&
					(strings.Contains(line, token) || strings.Contains(err.Error(), token)) {
					t.Error("the token is in the log or on the wire")
				}
			}
		})
	}
	if _, err := sign(client, f.honest()); err != nil {
		t.Errorf("the honest attempt is refused: %v", err)
	}
}

func TestRefusalCodes(t *testing.T) {
	f := newForge(t)
	client := connect(t, f.ca, slog.New(slog.DiscardHandler))
	for _, tc := range []struct {
		name string
		want codes.Code
	}{
		{"no token", codes.Unauthenticated},
		{"CSR: empty", codes.InvalidArgument},
		{"CSR: URI of another account", codes.PermissionDenied},
	} {
		a := f.honest()
		for _, h := range append(tokenCases(), csrCases()...) {
			if h.name == tc.name {
				h.spoil(f, &a)
			}
		}
		if _, err := sign(client, a); status.Code(err) != tc.want {
			t.Errorf("%s: %v, want code %s", tc.name, err, tc.want)
		}
	}
}

// connect gives a client of a served CA.
func connect(t testing.TB, c *catest.CA, log *slog.Logger) cav1.CertificateServiceClient {
	t.Helper()
	addr := catest.Serve(t, c.Server(t, nil, log), "127.0.0.1:0")
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(credentials.NewTLS(c.ClientTLS())))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return cav1.NewCertificateServiceClient(conn)
}

func sign(client cav1.CertificateServiceClient, a attempt) (*cav1.SignResponse, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for _, v := range a.metadata {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", v)
	}
	return client.Sign(ctx, &cav1.SignRequest{Csr: a.csr, Ttl: a.ttl})
}

func lifetimeCases() []hostile {
	ttl := func(d *durationpb.Duration) func(*forge, *attempt) {
		return func(_ *forge, a *attempt) { a.ttl = d }
	}
	return []hostile{
		{"lifetime: zero", refusal.Lifetime, ttl(&durationpb.Duration{})},
		{"lifetime: negative", refusal.Lifetime, ttl(durationpb.New(-time.Hour))},
		{"lifetime: a nanosecond", refusal.Lifetime, ttl(durationpb.New(1))},
		{"lifetime: too long", refusal.Lifetime, ttl(durationpb.New(time.Hour + time.Second))},
		{"lifetime: a century", refusal.Lifetime, ttl(&durationpb.Duration{Seconds: 100 * 365 * 86400})},
		{"lifetime: overflow", refusal.Lifetime, ttl(&durationpb.Duration{Seconds: 1<<63 - 1})},
		{"lifetime: overflow below", refusal.Lifetime, ttl(&durationpb.Duration{Seconds: -1 << 63})},
		{"lifetime: nanos out of range", refusal.Lifetime, ttl(&durationpb.Duration{Seconds: 60, Nanos: 2_000_000_000})},
		{"lifetime: signs disagree", refusal.Lifetime, ttl(&durationpb.Duration{Seconds: 60, Nanos: -5})},
	}
}

// lockedBuffer is a log that the test reads while the server writes.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func (b *lockedBuffer) reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.buf.Reset()
}
