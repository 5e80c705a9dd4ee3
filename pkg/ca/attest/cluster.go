package attest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"k8s.io/client-go/rest"

	"github.com/meshd-io/meshd/internal/clock"
)

const (
	discoveryPath = "/.well-known/openid-configuration"
	jwksPath      = "/openid/v1/jwks"
	// refreshEvery the keys are read again; a key that is taken back is trusted no longer than that.
	refreshEvery = 5 * time.Minute
	// refreshAtMost as often for tokens by unknown keys: whoever sends such tokens cannot have the API server asked more often.
	refreshAtMost  = 10 * time.Second
	refreshTimeout = 5 * time.Second
)

// Cluster has the issuer and the keys of a cluster's service-account tokens, as
// its API server publishes them (OpenID discovery). The last good ones stay in
// force while the API server is away.
type Cluster struct {
	http  *http.Client
	base  *url.URL
	clock clock.Clock
	log   *slog.Logger

	reading sync.Mutex // one reader at a time
	mu      sync.Mutex
	issuer  string
	set     jose.JSONWebKeySet
	read    time.Time // the last attempt
}

// NewCluster reads issuer and keys for the first time. clk and log may be nil.
func NewCluster(ctx context.Context, config *rest.Config, clk clock.Clock, log *slog.Logger) (*Cluster, error) {
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("token keys: %w", err)
	}
	base, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return nil, fmt.Errorf("token keys: %w", err)
	}
	if clk == nil {
		clk = clock.System{}
	}
	if log == nil {
		log = slog.Default()
	}
	c := &Cluster{http: client, base: base, clock: clk, log: log}
	return c, c.load(ctx)
}

// Keys as last read.
func (c *Cluster) Keys() (jose.JSONWebKeySet, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.set, nil
}

// Issuer of the cluster's tokens.
func (c *Cluster) Issuer() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.issuer
}

// Refresh reads the keys again, unless that was done a moment ago.
func (c *Cluster) Refresh(ctx context.Context) error {
	c.reading.Lock()
	defer c.reading.Unlock()
	c.mu.Lock()
	recent := c.clock.Now().Before(c.read.Add(refreshAtMost))
	c.mu.Unlock()
	if recent {
		return nil // whoever waited for the lock gets what was read meanwhile
	}
	err := c.load(ctx)
	if err != nil {
		c.log.Warn("issuer's keys cannot be read; the last ones stay in force", "error", err)
	}
	return err
}

// Run reads the keys again from time to time until ctx ends.
func (c *Cluster) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.clock.After(refreshEvery):
			_ = c.Refresh(ctx) // it has said what failed
		}
	}
}

// load replaces issuer and keys together, or leaves both.
func (c *Cluster) load(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, refreshTimeout)
	defer cancel()
	c.mu.Lock()
	c.read = c.clock.Now()
	c.mu.Unlock()
	raw, err := c.get(ctx, discoveryPath)
	if err != nil {
		return err
	}
	var discovery struct {
		Issuer string `json:"issuer"`
	}
	if err := json.Unmarshal(raw, &discovery); err != nil {
		return fmt.Errorf("%s: %w", discoveryPath, err)
	}
	if discovery.Issuer == "" {
		return errors.New(discoveryPath + " names no issuer")
	}
	// Not the document's jwks_uri, which may lead out of the cluster: the API server itself has the keys.
	if raw, err = c.get(ctx, jwksPath); err != nil {
		return err
	}
	set, err := parseJWKS(jwksPath, raw)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.issuer != "" && c.issuer != discovery.Issuer {
		c.log.Warn("the cluster's token issuer has changed", "from", c.issuer, "to", discovery.Issuer)
	}
	c.issuer, c.set = discovery.Issuer, set
	return nil
}

func (c *Cluster) get(ctx context.Context, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base.JoinPath(path).String(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxJWKS+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w", path, err)
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("%s: %s (who reads it needs the ClusterRole system:service-account-issuer-discovery)", path, resp.Status)
	case len(raw) > maxJWKS:
		return nil, fmt.Errorf("%s is larger than %d bytes", path, maxJWKS)
	}
	return raw, nil
}
