package crds

import (
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// reconnectInterval is how often an API server is tried that cannot be reached.
const reconnectInterval = 500 * time.Millisecond

// patience has watches wait for an API server that cannot be reached, instead
// of failing: an informer tries again after a pause that grows to a minute, and
// for so long a cluster that is well again would go unseen.
type patience struct {
	next http.RoundTripper
	log  *slog.Logger

	mu    sync.Mutex
	since time.Time // of the first failure; zero while the API server can be reached
}

// RoundTrip implements http.RoundTripper.
func (p *patience) RoundTrip(r *http.Request) (*http.Response, error) {
	for {
		response, err := p.next.RoundTrip(r)
		var op *net.OpError
		if r.Body != nil || !errors.As(err, &op) || op.Op != "dial" {
			if err == nil {
				p.reached()
			}
			return response, err
		}
		p.lost(err)
		select {
		case <-r.Context().Done():
			return nil, err
		case <-time.After(reconnectInterval):
		}
	}
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

func (p *patience) reached() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.since.IsZero() {
		p.log.Info("the API server can be reached again", "after", time.Since(p.since).Round(time.Second))
		p.since = time.Time{}
	}
}
