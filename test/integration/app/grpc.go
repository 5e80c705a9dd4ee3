package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/peer"
)

// pingPong answers every message of a stream at once, with who the peer is.
type pingPong struct {
	testpb.UnimplementedTestServiceServer
}

func (pingPong) FullDuplexCall(stream testpb.TestService_FullDuplexCallServer) error {
	from, _ := peer.FromContext(stream.Context())
	for {
		in, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		body := fmt.Sprintf("%s %s", in.GetPayload().GetBody(), from.Addr)
		if err := stream.Send(&testpb.StreamingOutputCallResponse{Payload: &testpb.Payload{Body: []byte(body)}}); err != nil {
			return err
		}
	}
}

func serveGRPC(l net.Listener) error {
	s := grpc.NewServer()
	healthv1.RegisterHealthServer(s, health.NewServer())
	testpb.RegisterTestServiceServer(s, pingPong{})
	return s.Serve(l)
}

type grpcAnswer struct {
	Check string   `json:"check"`
	Watch string   `json:"watch"`
	Pongs []string `json:"pongs"`
	Error string   `json:"error"`
}

func callGRPC(args []string) error {
	if len(args) != 1 {
		return errors.New("usage: app grpc HOST:PORT")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	// passthrough: the address as it is, as other languages' clients have it.
	conn, err := grpc.NewClient("passthrough:///"+args[0], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	out := grpcAnswer{}
	out.Error = text(out.ask(ctx, conn))
	return printJSON(out)
}

func (a *grpcAnswer) ask(ctx context.Context, conn *grpc.ClientConn) error {
	checked, err := healthv1.NewHealthClient(conn).Check(ctx, &healthv1.HealthCheckRequest{}, grpc.WaitForReady(true))
	if err != nil {
		return fmt.Errorf("check: %w", err)
	}
	a.Check = checked.GetStatus().String()
	watch, err := healthv1.NewHealthClient(conn).Watch(ctx, &healthv1.HealthCheckRequest{})
	if err != nil {
		return fmt.Errorf("watch: %w", err)
	}
	watched, err := watch.Recv()
	if err != nil {
		return fmt.Errorf("watch: %w", err)
	}
	a.Watch = watched.GetStatus().String()
	both, err := testpb.NewTestServiceClient(conn).FullDuplexCall(ctx)
	if err != nil {
		return fmt.Errorf("stream: %w", err)
	}
	for i := range 3 {
		// The next message goes out only when the answer to the last one is here.
		if err := both.Send(&testpb.StreamingOutputCallRequest{Payload: &testpb.Payload{Body: fmt.Appendf(nil, "ping %d", i)}}); err != nil {
			return fmt.Errorf("stream: %w", err)
		}
		got, err := both.Recv()
		if err != nil {
			return fmt.Errorf("stream: %w", err)
		}
		a.Pongs = append(a.Pongs, string(got.GetPayload().GetBody()))
	}
	if err := both.CloseSend(); err != nil {
		return err
	}
	if _, err := both.Recv(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("stream does not end in order: %w", err)
	}
	return nil
}
