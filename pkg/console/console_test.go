package console

import (
	"context"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

type fakeSource struct{ settled bool }

func (f *fakeSource) State() State { return State{Ready: true, Synced: f.settled} }
func (f *fakeSource) Settle(context.Context) error {
	f.settled = true
	return nil
}

func serveFake(t *testing.T) *Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "admin.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: Handler(&fakeSource{})}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close() })
	return NewClient(path)
}

func TestStateWaits(t *testing.T) {
	c := serveFake(t)
	got, err := c.State(t.Context(), 0)
	if err != nil || got.Synced || !got.Ready {
		t.Fatalf("%+v, %v", got, err)
	}
	got, err = c.State(t.Context(), time.Second)
	if err != nil || !got.Synced {
		t.Fatalf("%+v, %v", got, err)
	}
}

func TestBadWaitIsRefused(t *testing.T) {
	c := serveFake(t)
	if _, err := c.State(t.Context(), 24*time.Hour); err == nil || !strings.Contains(err.Error(), "at most 5m0s") {
		t.Errorf("%v", err)
	}
}

func TestNobodyListens(t *testing.T) {
	_, err := NewClient("/nowhere/admin.sock").State(t.Context(), 0)
	if err == nil || !strings.Contains(err.Error(), "/nowhere/admin.sock") {
		t.Errorf("%v", err)
	}
}
