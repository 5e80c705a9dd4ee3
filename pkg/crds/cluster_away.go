package crds

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/meshd-io/meshd/internal/clock"
)

const (
	// reconnectInterval is how often an API server is tried that cannot be reached.
	reconnectInterval = 500 * time.Millisecond
	// settlingTime is how long an API server that has come back may refuse what
	// it grants later: it answers before it has read roles and accounts itself.
	settlingTime = 30 * time.Second
)

// patience has watches wait for an API server that cannot be reached, or has
// just come back, instead of failing: a reflector tries again after a pause
// that grows to a minute, and for so long this kind would be as it was while
// others have changed.
type patience struct {
	next http.RoundTripper
	log  *slog.Logger

	mu    sync.Mutex
	since time.Time // of the first failure; zero while the API server can be reached
	back  time.Time // when it has come back
}

// RoundTrip implements http.RoundTripper.
func (p *patience) RoundTrip(r *http.Request) (*http.Response, error) {
	for {
		response, err := p.next.RoundTrip(r)
		var op *net.OpError
		switch {
		case r.Body != nil:
			return response, err
		case errors.As(err, &op) && op.Op == "dial":
			p.lost(err)
		case err != nil:
			return nil, err
		case p.settling() && notReady(response.StatusCode):
			_ = response.Body.Close() // it is asked again
			err = fmt.Errorf("the API server is not ready: %s", response.Status)
		default:
			return response, nil
		}
		if !clock.Pause(r.Context(), reconnectInterval) {
			return nil, err
		}
	}
}

// notReady reports whether a status may be that of an API server that is coming up.
func notReady(status int) bool {
	return status == http.StatusUnauthorized || status == http.StatusForbidden || status >= http.StatusInternalServerError
}

// WrappedRoundTripper is how client-go finds the connections to close.
func (p *patience) WrappedRoundTripper() http.RoundTripper { return p.next }

func (p *patience) lost(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.since.IsZero() {
		p.since = time.Now()
		p.log.Warn("the API server cannot be reached; what was known stays in force", "error", err)
	}
}

// settling notes that the API server can be reached, and reports whether it has only just come back.
func (p *patience) settling() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.since.IsZero() {
		p.log.Info("the API server can be reached again", "after", time.Since(p.since).Round(time.Second))
		p.since, p.back = time.Time{}, time.Now()
	}
	return time.Since(p.back) < settlingTime
}
