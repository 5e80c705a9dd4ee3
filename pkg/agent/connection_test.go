package agent_test

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/stats"

	"github.com/meshd-io/meshd/internal/clock/clocktest"
	"github.com/meshd-io/meshd/pkg/ca"
	"github.com/meshd-io/meshd/pkg/ca/catest"
)

// connections tells when one begins ("+") and ends ("-"), and of the calls ("c").
type connections chan string

func (c connections) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (c connections) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

func (c connections) HandleRPC(_ context.Context, s stats.RPCStats) {
	if _, ok := s.(*stats.End); ok {
		c <- "c"
	}
}

func (c connections) HandleConn(_ context.Context, s stats.ConnStats) {
	switch s.(type) {
	case *stats.ConnBegin:
		c <- "+"
	case *stats.ConnEnd:
		c <- "-"
	}
}

// want reads so many events. Those of a call and of its connection's end come in any order.
func (c connections) want(t *testing.T, want string) {
	t.Helper()
	var got []string
	for deadline := timeout(t); len(got) < len(want); {
		select {
		case s := <-c:
			got = append(got, s)
		case <-deadline.Done():
			t.Fatalf("%q, want %q", got, want)
		}
	}
	slices.Sort(got)
	if s := strings.Join(got, ""); s != want {
		t.Errorf("%q, want %q", s, want)
	}
}

// TestConnection: it is kept where the next signing is near, and closed where it is not.
func TestConnection(t *testing.T) {
	for _, tc := range []struct {
		leaf          time.Duration
		first, second string
	}{
		{time.Minute, "+c", "c"},
		{time.Hour, "+-c", "+-c"},
	} {
		t.Run(tc.leaf.String(), func(t *testing.T) {
			clk := clocktest.New(time.Now().Truncate(time.Second))
			lifetimes := ca.DefaultLifetimes()
			lifetimes.Leaf = tc.leaf
			c := catest.New(t, lifetimes, clk)
			seen := make(connections, 16)
			srv := c.Server(t, nil, slog.New(slog.DiscardHandler), grpc.StatsHandler(seen))
			p := start(t, catest.Serve(t, srv, "127.0.0.1:0"), clk)
			p.trust(t, c)
			p.token(t, c)
			p.pass(t, 10*time.Second)
			seen.want(t, tc.first)
			p.pass(t, tc.leaf/2)
			seen.want(t, tc.second)
		})
	}
}
