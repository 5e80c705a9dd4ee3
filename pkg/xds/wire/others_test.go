package wire

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	grpcpeer "google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// calls is the grpc.Server behind a Server.
type calls struct {
	healthv1.UnimplementedHealthServer
	*grpc.Server

	mu   sync.Mutex
	from []string // addresses of clients
}

func (f *served) calls(t testing.TB) *calls {
	t.Helper()
	c := &calls{Server: grpc.NewServer(append(OtherOptions(), grpc.Creds(Credentials()))...)}
	healthv1.RegisterHealthServer(c, c)
	ended := make(chan error, 1)
	go func() { ended <- c.Serve(f.Others()) }()
	t.Cleanup(func() {
		c.Stop()
		if err := <-ended; err != nil && !errors.Is(err, net.ErrClosed) {
			t.Errorf("Serve: %v", err)
		}
	})
	return c
}

// Check answers with the status SERVING for who has shown a certificate, and gives the metadata back.
func (c *calls) Check(ctx context.Context, r *healthv1.HealthCheckRequest) (*healthv1.HealthCheckResponse, error) {
	p, _ := grpcpeer.FromContext(ctx)
	c.mu.Lock()
	c.from = append(c.from, p.Addr.String())
	c.mu.Unlock()
	md, _ := metadata.FromIncomingContext(ctx)
	if err := grpc.SetHeader(ctx, metadata.Pairs("back", strings.Join(md.Get("x"), ","))); err != nil {
		return nil, err
	}
	if r.GetService() == "fail" {
		return nil, status.Error(codes.NotFound, "größer")
	}
	s := healthv1.HealthCheckResponse_NOT_SERVING
	if info, ok := p.AuthInfo.(credentials.TLSInfo); ok && info.SecurityLevel == credentials.PrivacyAndIntegrity &&
		len(info.State.PeerCertificates) == 1 && info.State.PeerCertificates[0].Subject.CommonName == "proxy" {
		s = healthv1.HealthCheckResponse_SERVING
	}
	return &healthv1.HealthCheckResponse{Status: s}, nil
}

// Watch sends some, and ends with the client.
func (c *calls) Watch(_ *healthv1.HealthCheckRequest, s grpc.ServerStreamingServer[healthv1.HealthCheckResponse]) error {
	for range 3 {
		if err := s.Send(&healthv1.HealthCheckResponse{}); err != nil {
			return err
		}
	}
	<-s.Context().Done()
	return s.Context().Err()
}

func TestOtherCalls(t *testing.T) {
	for name, secret := range map[string]bool{"plaintext": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			f, want := serve(t, Config{}, nil), healthv1.HealthCheckResponse_NOT_SERVING
			if secret {
				f, want = serveTLS(t, Config{}), healthv1.HealthCheckResponse_SERVING
			}
			calls := f.calls(t)
			conn := f.dial(t)
			client := healthv1.NewHealthClient(conn)
			for _, x := range []string{"1", strings.Repeat("2", 5000), "3"} {
				var md metadata.MD
				r, err := client.Check(metadata.AppendToOutgoingContext(shortly(t), "x", x), &healthv1.HealthCheckRequest{}, grpc.Header(&md))
				if err != nil || r.GetStatus() != want || strings.Join(md.Get("back"), "") != x {
					t.Fatalf("%v of %v, %v", r, md, err)
				}
			}
			_, err := client.Check(shortly(t), &healthv1.HealthCheckRequest{Service: "fail"})
			if s := status.Convert(err); s.Code() != codes.NotFound || s.Message() != "größer" {
				t.Errorf("%v", err)
			}
			ctx, cancel := context.WithCancel(shortly(t))
			w, err := client.Watch(ctx, &healthv1.HealthCheckRequest{})
			if err != nil {
				t.Fatal(err)
			}
			for range 3 {
				if _, err := w.Recv(); err != nil {
					t.Fatal(err)
				}
			}
			cancel()
			if _, err := w.Recv(); status.Code(err) != codes.Canceled {
				t.Errorf("%v", err)
			}
			// A stream of the Server's own is not for this connection.
			if err := conn.stream(shortly(t), echoMethod).RecvMsg(new([]byte)); status.Code(err) != codes.Unimplemented {
				t.Errorf("a stream behind a call: %v", err)
			}
			calls.mu.Lock()
			defer calls.mu.Unlock()
			for _, from := range calls.from {
				if from != calls.from[0] {
					t.Errorf("%s called, and %s", from, calls.from[0])
				}
			}
		})
	}
}

// TestOthersAtOnce: what a client has said before the hand-over is not lost.
func TestOthersAtOnce(t *testing.T) {
	f := serve(t, Config{}, nil)
	f.calls(t)
	c := f.connect(t)
	c.together(func() {
		c.bytes(http2.ClientPreface)
		c.do(c.WriteSettings(initialWindow(1 << 20)))
		c.do(c.WriteWindowUpdate(0, 1<<20))
		c.open(1, healthv1.Health_Check_FullMethodName)
		c.do(c.WriteData(1, true, []byte(framed(""))))
		c.open(3, healthv1.Health_Check_FullMethodName)
		c.do(c.WriteData(3, true, []byte(framed(""))[:2]))
	})
	c.expect(1, "\x08\x02") // NOT_SERVING
	c.status(1, codes.OK)
}

// TestConnectionBeforeItsFirstCall: grpc-go connects, and calls later.
func TestConnectionBeforeItsFirstCall(t *testing.T) {
	f := serveTLS(t, Config{})
	f.calls(t)
	conn := f.dial(t)
	conn.Connect()
	for s := conn.GetState(); s != connectivity.Ready; s = conn.GetState() {
		if !conn.WaitForStateChange(shortly(t), s) {
			t.Fatal("the client is not ready")
		}
	}
	if _, err := healthv1.NewHealthClient(conn).Check(shortly(t), &healthv1.HealthCheckRequest{}); err != nil {
		t.Error(err)
	}
}

func TestOthersEndGracefully(t *testing.T) {
	f := serveTLS(t, Config{})
	calls := f.calls(t)
	conn := f.dial(t)
	client := healthv1.NewHealthClient(conn)
	ctx, cancel := context.WithCancel(shortly(t))
	w, err := client.Watch(ctx, &healthv1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Recv(); err != nil {
		t.Fatal(err)
	}
	stopped := inBackground(calls.GracefulStop)
	for s := conn.GetState(); s == connectivity.Ready; s = conn.GetState() { // it was told to go
		if !conn.WaitForStateChange(shortly(t), s) {
			t.Fatal("the client does not leave")
		}
	}
	if _, err := w.Recv(); err != nil {
		t.Errorf("a call that goes on: %v", err)
	}
	cancel()
	within(t, stopped, "the end of GracefulStop")
	// Streams are served on, calls are not.
	c := f.with(t)
	c.lives()
	if _, err := healthv1.NewHealthClient(f.dial(t)).Check(shortly(t), &healthv1.HealthCheckRequest{}); status.Code(err) != codes.Unavailable {
		t.Errorf("a call after the end: %v", err)
	}
}

// TestOthersOutliveStreams: the grpc.Server ends its connections itself.
func TestOthersOutliveStreams(t *testing.T) {
	f := serve(t, Config{}, nil)
	f.calls(t)
	client := healthv1.NewHealthClient(f.dial(t))
	for range 2 {
		if _, err := client.Check(shortly(t), &healthv1.HealthCheckRequest{}); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
}

// TestOthersThatNobodyTakes end with the Server.
func TestOthersThatNobodyTakes(t *testing.T) {
	f := serve(t, Config{}, nil)
	c := f.hello(t)
	c.open(1, healthv1.Health_Check_FullMethodName)
	f.Close()
	c.eof()
}

func TestTLSHandshakes(t *testing.T) {
	f := serveTLS(t, Config{})
	good := f.client
	for name, change := range map[string]func(*tls.Config){
		"no HTTP/2":        func(c *tls.Config) { c.NextProtos = nil },
		"another protocol": func(c *tls.Config) { c.NextProtos = []string{"http/1.1"} },
		"a stranger's identity": func(c *tls.Config) {
			c.Certificates = []tls.Certificate{newAuthority().leaf("proxy", time.Now().Add(time.Hour))}
		},
	} {
		t.Run(name, func(t *testing.T) {
			config := good.Clone()
			change(config)
			f.client = config
			f.connect(t).eof()
		})
	}
	f.client = nil
	t.Run("plaintext", func(t *testing.T) { f.hello(t).eof() })
	f.client = good.Clone()
	f.client.Certificates = nil
	t.Run("no certificate", func(t *testing.T) {
		f.with(t)
		if p := f.next(); p.tls == nil || len(p.tls.PeerCertificates) > 0 {
			t.Errorf("TLS %v", p.tls)
		}
	})
}

// TestCredentials are a server's, of connections that were handed over.
func TestCredentials(t *testing.T) {
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	if _, _, err := Credentials().ServerHandshake(near); err == nil {
		t.Error("a handshake with a connection that was not handed over")
	}
	if _, _, err := Credentials().Clone().ClientHandshake(t.Context(), "", near); err == nil {
		t.Error("a client's handshake")
	}
}
