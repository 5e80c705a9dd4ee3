package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"
)

// PartStatus is one process of the node, as Status gives it.
type PartStatus struct {
	Name    string `json:"name"`
	PID     int    `json:"pid,omitempty"` // as the node sees it
	Running bool   `json:"running"`
	Exit    string `json:"exit,omitempty"`
}

// supervisor starts and stops the node's processes. It restarts nothing: a process that ends by itself is a fault to be seen.
type supervisor struct {
	options Options
	ready   chan struct{} // closed when failed has been decided
	failed  error

	mu    sync.Mutex
	parts []*running
}

type running struct {
	part
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended
	exit string        // set before
}

// Supervise runs the node's processes until its own process is killed.
func Supervise(ctx context.Context, dir string) error {
	o, err := load(dir)
	if err != nil {
		return err
	}
	s := &supervisor{options: o, ready: make(chan struct{})}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "unix", o.path("control.sock"))
	if err != nil {
		return err
	}
	go func() {
		s.failed = s.bringUp(ctx)
		close(s.ready)
	}()
	server := &http.Server{Handler: s.handler(), ReadHeaderTimeout: time.Minute}
	return server.Serve(listener)
}

func (s *supervisor) handler() http.Handler {
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, err error) {
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	}
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-s.ready:
			answer(w, s.failed)
		case <-r.Context().Done():
		}
	})
	mux.HandleFunc("GET /parts", func(w http.ResponseWriter, _ *http.Request) {
		if err := json.NewEncoder(w).Encode(s.status()); err != nil {
			fmt.Fprintln(os.Stderr, "status:", err)
		}
	})
	mux.HandleFunc("POST /parts/{name}/stop", func(w http.ResponseWriter, r *http.Request) {
		answer(w, s.stop(r.Context(), r.PathValue("name")))
	})
	mux.HandleFunc("POST /parts/{name}/start", func(w http.ResponseWriter, r *http.Request) {
		answer(w, s.restart(r.PathValue("name")))
	})
	mux.HandleFunc("POST /images", func(w http.ResponseWriter, r *http.Request) {
		answer(w, s.importImage(r.Context(), r.URL.Query().Get("archive")))
	})
	return mux
}

func (s *supervisor) status() []PartStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []PartStatus
	for _, r := range s.parts {
		st := PartStatus{Name: r.name, Running: true}
		select {
		case <-r.done:
			st.Running, st.Exit = false, r.exit
		default:
			st.PID = r.cmd.Process.Pid
		}
		out = append(out, st)
	}
	return out
}

func (s *supervisor) find(name string) (int, *running) {
	i := slices.IndexFunc(s.parts, func(r *running) bool { return r.name == name })
	if i < 0 {
		return i, nil
	}
	return i, s.parts[i]
}

// start runs a part, whose output goes to log/NAME.log.
func (s *supervisor) start(p part) (*running, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.startLocked(p)
}

func (s *supervisor) startLocked(p part) (*running, error) {
	log, err := os.OpenFile(s.log(p.name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(filepath.Join(s.options.Binaries, p.name), p.args...) //nolint:noctx // it ends with the node, or by stop
	r := &running{part: p, cmd: cmd, done: make(chan struct{})}
	r.cmd.Stdout, r.cmd.Stderr = log, log
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := r.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		if err := r.cmd.Wait(); err != nil {
			r.exit = err.Error()
		} else {
			r.exit = "ended by itself"
		}
		close(r.done)
	}()
	if i, _ := s.find(p.name); i >= 0 {
		s.parts[i] = r
	} else {
		s.parts = append(s.parts, r)
	}
	return r, nil
}

func (s *supervisor) log(name string) string { return s.options.path("log", name+".log") }

func (s *supervisor) stop(ctx context.Context, name string) error {
	s.mu.Lock()
	_, r := s.find(name)
	s.mu.Unlock()
	if r == nil {
		return fmt.Errorf("the node has no %q", name)
	}
	// Not SIGTERM: kube-apiserver takes a minute for its farewell.
	if err := r.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-r.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *supervisor) restart(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, r := s.find(name)
	if r == nil {
		return fmt.Errorf("the node has no %q", name)
	}
	select {
	case <-r.done:
		_, err := s.startLocked(r.part)
		return err
	default:
		return fmt.Errorf("%s is running", name)
	}
}

func (s *supervisor) importImage(ctx context.Context, archive string) error {
	out, err := exec.CommandContext(ctx, filepath.Join(s.options.Binaries, "ctr"), "--address", s.options.path("containerd.sock"),
		"--namespace", "k8s.io", "images", "import", archive).CombinedOutput()
	if err != nil {
		return fmt.Errorf("import %s: %w: %s", archive, err, out)
	}
	return nil
}

// until asks every 50 ms whether a condition holds; it gives up when the process that it depends on ends, or the context.
func (s *supervisor) until(ctx context.Context, r *running, what string, holds func(context.Context) error) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := holds(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-r.done:
			return fmt.Errorf("%s: %s has ended (%s): %s", what, r.name, r.exit, tail(s.log(r.name)))
		case <-ctx.Done():
			return fmt.Errorf("%s: not within %s: %w", what, startTimeout, err)
		case <-tick.C:
		}
	}
}
