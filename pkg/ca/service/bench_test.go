package service_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/meshd-io/meshd/pkg/ca"
	"github.com/meshd-io/meshd/pkg/ca/catest"
	"github.com/meshd-io/meshd/pkg/ca/cav1"
	"github.com/meshd-io/meshd/pkg/xds/wire"
)

// BenchmarkSign is the CPU of one signing over gRPC with meshd's own options
// and audit log, token included. The client is a process of its own, so that
// cpu-us/op is the server's alone; client-cpu-us/op has no key and no CSR in
// it. On a new connection the handshake is in both. A client that shows a
// certificate brings a token nevertheless.
func BenchmarkSign(b *testing.B) {
	for _, kind := range []struct {
		name              string
		mutual, reconnect bool
	}{
		{"open", false, false}, {"open-mutual", true, false}, {"new", false, true}, {"new-mutual", true, true},
	} {
		b.Run(kind.name, func(b *testing.B) {
			c := catest.New(b, ca.Lifetimes{}, nil)
			srv := c.Server(b, nil, slog.New(slog.NewJSONHandler(io.Discard, nil)), wire.OtherOptions()...)
			order := clientOrder{
				Address: catest.Serve(b, srv, "127.0.0.1:0"), Token: c.Tokens.Token(b, "shop", "accounts", time.Now()), Reconnect: kind.reconnect,
			}
			for _, r := range c.Authority.Roots() {
				order.Roots = append(order.Roots, r.Raw)
			}
			_, order.CSR = catest.CSR(b, &x509.CertificateRequest{})
			if kind.mutual {
				cert := c.Certificate(b, "shop", "accounts")
				key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
				if err != nil {
					b.Fatal(err)
				}
				order.Chain, order.Key = cert.Certificate, key
			}
			p := startClient(b, order)
			p.sign(b, 1)
			before := catest.CPUTime()
			b.ResetTimer()
			client := p.sign(b, b.N)
			b.ReportMetric(perOp(catest.CPUTime()-before, b.N), "cpu-us/op")
			b.ReportMetric(perOp(client, b.N), "client-cpu-us/op")
		})
	}
}

func perOp(d time.Duration, n int) float64 { return float64(d.Microseconds()) / float64(n) }

// clientOrder is what the client's process is told.
type clientOrder struct {
	Address, Token string
	Roots, Chain   [][]byte
	Key, CSR       []byte
	Reconnect      bool
}

// clientVariable makes the test's binary the client.
const clientVariable = "MESHD_TEST_SIGNING_CLIENT"

// clientProcess takes counts on its input, signs so often, and answers with its CPU time.
type clientProcess struct {
	in  io.Writer
	out *bufio.Reader
}

func startClient(b *testing.B, order clientOrder) *clientProcess {
	b.Helper()
	raw, err := json.Marshal(order)
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), clientVariable+"="+string(raw))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			b.Error(err)
		}
	})
	return &clientProcess{in: in, out: bufio.NewReader(out)}
}

func (p *clientProcess) sign(b *testing.B, n int) time.Duration {
	b.Helper()
	fmt.Fprintln(p.in, n)
	var cpu time.Duration
	if _, err := fmt.Fscanln(p.out, &cpu); err != nil {
		b.Fatal(err)
	}
	return cpu
}

// runClient is the client's process.
func runClient(raw string) error {
	var o clientOrder
	if err := json.Unmarshal([]byte(raw), &o); err != nil {
		return err
	}
	config, err := o.tls()
	if err != nil {
		return err
	}
	var conn *grpc.ClientConn
	var n int
	for {
		if _, err := fmt.Fscanln(os.Stdin, &n); err != nil {
			return nil //nolint:nilerr // the end of the benchmark
		}
		before := catest.CPUTime()
		for range n {
			if conn == nil {
				if conn, err = grpc.NewClient(o.Address, grpc.WithTransportCredentials(credentials.NewTLS(config)),
					grpc.WithReadBufferSize(0), grpc.WithWriteBufferSize(4<<10)); err != nil {
					return err
				}
			}
			if _, err := sign(cav1.NewCertificateServiceClient(conn), attempt{metadata: []string{"Bearer " + o.Token}, csr: o.CSR}); err != nil {
				return err
			}
			if o.Reconnect {
				conn.Close()
				conn = nil
			}
		}
		fmt.Println(int64(catest.CPUTime() - before))
	}
}

// tls is the agent's: meshd's SPIFFE ID by the roots, no name.
func (o clientOrder) tls() (*tls.Config, error) {
	var roots []*x509.Certificate
	for _, der := range o.Roots {
		r, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		roots = append(roots, r)
	}
	td := spiffeid.RequireTrustDomainFromString(catest.TrustDomain)
	config := tlsconfig.TLSClientConfig(x509bundle.FromX509Authorities(td, roots), tlsconfig.AuthorizeMemberOf(td))
	config.MinVersion = tls.VersionTLS13
	if len(o.Chain) == 0 {
		return config, nil
	}
	key, err := x509.ParsePKCS8PrivateKey(o.Key)
	if err != nil {
		return nil, err
	}
	config.Certificates = []tls.Certificate{{Certificate: o.Chain, PrivateKey: key}}
	return config, nil
}
