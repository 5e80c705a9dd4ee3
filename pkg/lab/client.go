package lab

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Client talks to a lab's daemon.
type Client struct {
	socket string
	http   *http.Client
}

// NewClient talks to the lab in a folder.
func NewClient(dir string) *Client {
	socket := filepath.Join(dir, "lab.sock")
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}
	return &Client{socket: socket, http: &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
}

// ErrNoLab tells that no lab runs there.
var ErrNoLab = errors.New("no lab is running; start one with: meshd lab up -f PATH")

// Ping reports whether the daemon answers.
func (c *Client) Ping(ctx context.Context) error {
	body, err := c.do(ctx, http.MethodGet, "/v1/ping", nil)
	if err != nil {
		return err
	}
	return body.Close()
}

// Apply gives the lab documents, and waits for at most that long until they are in force.
func (c *Client) Apply(ctx context.Context, docs []Document, wait time.Duration) (Outcome, error) {
	var out Outcome
	err := c.call(ctx, "/v1/apply", applyRequest{Documents: docs, Wait: wait}, &out)
	return out, err
}

// Delete takes the documents' objects away, and waits for at most that long until their pods have ended.
func (c *Client) Delete(ctx context.Context, docs []Document, wait time.Duration) (Outcome, error) {
	var out Outcome
	err := c.call(ctx, "/v1/delete", applyRequest{Documents: docs, Wait: wait}, &out)
	return out, err
}

// Status asks what runs.
func (c *Client) Status(ctx context.Context) (Status, error) {
	body, err := c.do(ctx, http.MethodGet, "/v1/status", nil)
	if err != nil {
		return Status{}, err
	}
	defer body.Close()
	var s Status
	err = json.NewDecoder(body).Decode(&s)
	return s, err
}

// Logs copies what a container has written to w.
func (c *Client) Logs(ctx context.Context, t Target, follow bool, w io.Writer) error {
	q := url.Values{"namespace": {t.Namespace}, "pod": {t.Pod}, "container": {t.Container}, "follow": {strconv.FormatBool(follow)}}
	body, err := c.do(ctx, http.MethodGet, "/v1/logs?"+q.Encode(), nil)
	if err != nil {
		return err
	}
	defer body.Close()
	_, err = io.Copy(w, body)
	if ctx.Err() != nil {
		return nil // followed for as long as someone looked
	}
	return err
}

// Target names a container; Container "" is the pod's first that is no sidecar.
type Target struct {
	Namespace, Pod, Container string
}

// Streams of a command.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// Exec runs a command in a container and gives its exit code.
func (c *Client) Exec(ctx context.Context, t Target, command []string, s Streams) (int, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", c.socket)
	if err != nil {
		return 0, ErrNoLab
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	raw, err := json.Marshal(execRequest{Namespace: t.Namespace, Pod: t.Pod, Container: t.Container, Command: command})
	if err != nil {
		return 0, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://lab/v1/exec", bytes.NewReader(raw))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", upgradeProtocol)
	if err := req.Write(conn); err != nil {
		return 0, err
	}
	from := bufio.NewReader(conn)
	resp, err := http.ReadResponse(from, req)
	if err != nil {
		return 0, err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		defer resp.Body.Close()
		return 0, failure(resp)
	}
	if s.In != nil {
		go sendInput(conn, s.In) // it ends with the connection, or with the process
	}
	return receive(from, s)
}

func sendInput(conn net.Conn, in io.Reader) {
	frames := &frameWriter{w: conn}
	if _, err := io.Copy(streamWriter{frames, streamStdin}, in); err != nil {
		return
	}
	// Nobody is told if the command has ended meanwhile: its exit code says it.
	_ = frames.write(streamStdin, nil)
}

// receive copies the command's output until its exit.
func receive(from io.Reader, s Streams) (int, error) {
	for {
		stream, data, err := readFrame(from)
		if err != nil {
			return 0, fmt.Errorf("the lab ended before the command did: %w", err)
		}
		switch stream {
		case streamStdout:
			_, err = s.Out.Write(data)
		case streamStderr:
			_, err = s.Err.Write(data)
		case streamExit:
			var last exitMessage
			if err := json.Unmarshal(data, &last); err != nil {
				return 0, err
			}
			if last.Error != "" {
				return 0, errors.New(last.Error)
			}
			return last.Code, nil
		}
		if err != nil {
			return 0, err
		}
	}
}

func (c *Client) call(ctx context.Context, path string, in, out any) error {
	raw, err := json.Marshal(in)
	if err != nil {
		return err
	}
	body, err := c.do(ctx, http.MethodPost, path, raw)
	if err != nil {
		return err
	}
	defer body.Close()
	return json.NewDecoder(body).Decode(out)
}

func (c *Client) do(ctx context.Context, method, path string, in []byte) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://lab"+path, bytes.NewReader(in))
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) && op.Op == "dial" {
			return nil, ErrNoLab
		}
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		return nil, failure(resp)
	}
	return resp.Body, nil
}

func failure(resp *http.Response) error {
	text, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return err
	}
	return errors.New(strings.TrimSpace(string(text)))
}
