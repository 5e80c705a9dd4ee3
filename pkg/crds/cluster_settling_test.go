package crds

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// script answers one request after another: 0 is a connection that is refused.
type script struct{ statuses []int }

// RoundTrip implements http.RoundTripper.
func (s *script) RoundTrip(*http.Request) (*http.Response, error) {
	status := s.statuses[0]
	s.statuses = s.statuses[1:]
	if status == 0 {
		return nil, &net.OpError{Op: "dial", Err: errors.New("connection refused")}
	}
	return &http.Response{StatusCode: status, Body: io.NopCloser(strings.NewReader(""))}, nil
}

// An API server that has come back refuses, for a moment, what it grants: a
// watch that took that for an answer would pause, and its kind be older than others.
func TestAnAPIServerThatComesUpIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{}
		p := &patience{next: s, log: slog.New(slog.DiscardHandler)}
		ask := func(want int, answers ...int) {
			t.Helper()
			s.statuses = answers
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://api/api/v1/pods?watch=true", http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			r.Body = nil // as a client's without one
			response, err := p.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			if response.StatusCode != want || len(s.statuses) != 0 {
				t.Errorf("%d, and %v was not asked for; want %d", response.StatusCode, s.statuses, want)
			}
		}
		ask(http.StatusForbidden, http.StatusForbidden) // it was there all the time
		ask(http.StatusOK, 0, 0, http.StatusForbidden, http.StatusUnauthorized, http.StatusServiceUnavailable, http.StatusOK)
		ask(http.StatusOK, http.StatusForbidden, http.StatusOK) // another kind's watch
		ask(http.StatusGone, http.StatusGone)
		time.Sleep(settlingTime)
		ask(http.StatusForbidden, http.StatusForbidden)
	})
}
