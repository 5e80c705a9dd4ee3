package console

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// maxAnswer bounds what a client reads of an answer, in bytes.
const maxAnswer = 256 << 20

// Client asks one meshd.
type Client struct {
	where string
	http  *http.Client
}

// NewClient talks to the Unix socket at a path.
func NewClient(socket string) *Client {
	return NewClientOver(socket, func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	})
}

// NewClientOver talks by the connections that dial makes; where is what errors call the other end.
func NewClientOver(where string, dial func(context.Context) (net.Conn, error)) *Client {
	transport := &http.Transport{
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
		DisableKeepAlives: true,
	}
	return &Client{where: where, http: &http.Client{Transport: transport}}
}

// State asks for the state; with wait > 0, after meshd has settled or wait is over.
func (c *Client) State(ctx context.Context, wait time.Duration) (State, error) {
	target := "http://meshd/state"
	if wait > 0 {
		target += "?wait=" + url.QueryEscape(wait.String())
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return State{}, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return State{}, fmt.Errorf("meshd does not answer on %s: %w", c.where, err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return State{}, fmt.Errorf("read the state: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return State{}, fmt.Errorf("meshd on %s: %s", c.where, strings.TrimSpace(string(body)))
	}
	var state State
	if err := json.Unmarshal(body, &state); err != nil {
		return State{}, fmt.Errorf("meshd on %s: %w", c.where, err)
	}
	return state, nil
}
