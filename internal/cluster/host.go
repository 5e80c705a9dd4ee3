package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"syscall"
)

// Up brings a cluster up and returns when its node is ready and answers for names.
// What a former one has left in Dir is removed first; one that is alive is an error.
func Up(ctx context.Context, o Options) (err error) {
	if err := o.check(); err != nil {
		return err
	}
	if p, err := o.node(); err == nil && p.alive() {
		return fmt.Errorf("the cluster in %s is up (PID %d)", o.Dir, p.PID)
	}
	if err := Down(o.Dir); err != nil {
		return fmt.Errorf("remove what is left of a former cluster: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, o.downKeepingLogs())
		}
	}()
	if err := o.writeState(); err != nil {
		return err
	}
	if err := makeCgroups(o.cgroup()); err != nil {
		return err
	}
	ended, err := o.startNode(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		<-ended
		cancel(fmt.Errorf("the node has ended: %s", tail(o.path("log", "supervisor.log"))))
	}()
	if err := o.waitForControl(ctx); err != nil {
		return err
	}
	err = o.control(ctx, http.MethodGet, "/ready", nil)
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

func (o Options) writeState() error {
	for _, dir := range []string{o.Dir, o.path("log"), o.path("etc"), o.data()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	// Container processes of any UID pass through it to their volumes, on the node's tmpfs.
	if err := os.Chmod(o.Dir, 0o711); err != nil {
		return err
	}
	text, err := json.Marshal(o)
	if err != nil {
		return err
	}
	if err := os.WriteFile(o.path("options.json"), text, 0o600); err != nil {
		return err
	}
	return errors.Join(o.writePKI(), o.writeConfig())
}

// startNode starts init in new namespaces, and gives it its link. The channel is closed when init has ended.
func (o Options) startNode(ctx context.Context) (<-chan struct{}, error) {
	log, err := os.OpenFile(o.path("log", "supervisor.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	wait, goAhead, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer goAhead.Close()
	defer wait.Close()
	cmd := exec.Command("/proc/self/exe", "init", "--dir", o.Dir) //nolint:noctx // it outlives this process
	cmd.Stdout, cmd.Stderr, cmd.Dir = log, log, "/"
	cmd.ExtraFiles = []*os.File{wait}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid:     true,
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the node: %w", err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // how it ended is in its log
		close(ended)
	}()
	var n node
	if n.process, err = identify(cmd.Process.Pid); err != nil {
		return nil, fmt.Errorf("%w: %s", err, tail(log.Name()))
	}
	if err := o.note(n); err != nil {
		return nil, err
	}
	if n.Link, err = linkNode(n.PID); err != nil {
		return nil, err
	}
	if err := o.note(n); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	_, err = goAhead.Write([]byte{1})
	return ended, err
}

// node is the node's init as its host sees it, and the host's end of its link by index.
type node struct {
	process
	Link int `json:"link"` // 0: none yet
}

func (o Options) note(n node) error {
	text, err := json.Marshal(n)
	if err != nil {
		return err
	}
	return os.WriteFile(o.path("node.json"), text, 0o600)
}

func (o Options) node() (node, error) {
	var n node
	text, err := os.ReadFile(o.path("node.json"))
	if err != nil {
		return n, err
	}
	return n, json.Unmarshal(text, &n)
}

// Down ends the cluster in dir, whatever state it is in, and removes all that it has made.
func Down(dir string) error {
	o := Options{Dir: dir}
	if err := o.downKeepingLogs(); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

func (o Options) downKeepingLogs() error {
	if _, err := os.Stat(o.Dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	n, err := o.node()
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	// The kernel kills whoever is in init's PID namespace before init is gone.
	if err := n.kill(); err != nil {
		return err
	}
	return errors.Join(unlinkNode(n.Link), removeCgroups(o.cgroup()))
}

// Status asks the supervisor for the node's processes.
func Status(ctx context.Context, dir string) ([]PartStatus, error) {
	o := Options{Dir: dir}
	if p, err := o.node(); err != nil || !p.alive() {
		return nil, fmt.Errorf("no cluster is up in %s", dir)
	}
	var parts []PartStatus
	return parts, o.control(ctx, http.MethodGet, "/parts", &parts)
}

// Stop kills one of the node's processes; Start starts it again.
func Stop(ctx context.Context, dir, part string) error {
	return Options{Dir: dir}.control(ctx, http.MethodPost, "/parts/"+url.PathEscape(part)+"/stop", nil)
}

// Start starts a process that Stop has ended.
func Start(ctx context.Context, dir, part string) error {
	return Options{Dir: dir}.control(ctx, http.MethodPost, "/parts/"+url.PathEscape(part)+"/start", nil)
}

// Import gives the node the images of an archive.
func Import(ctx context.Context, dir, archive string) error {
	return Options{Dir: dir}.control(ctx, http.MethodPost, "/images?archive="+url.QueryEscape(archive), nil)
}

// control calls the supervisor over its socket.
func (o Options) control(ctx context.Context, method, path string, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://node"+path, http.NoBody)
	if err != nil {
		return err
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: o.dialControl}}).Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return errors.New(string(body))
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(body, into)
}

func (o Options) dialControl(ctx context.Context, _, _ string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "unix", o.path("control.sock"))
}
