package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// bank is one service. Its switches are turned over HTTP by the demo.
type bank struct {
	name, host string
	unready    atomic.Bool
	failing    atomic.Bool

	mu    sync.Mutex
	tries map[string]int
}

func serve(args []string) error {
	if len(args) == 0 {
		return errors.New("usage: eazybank serve NAME --port PORT")
	}
	flags := flag.NewFlagSet("serve", flag.ContinueOnError)
	port := flags.Int("port", 8080, "port to listen on")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	b := &bank{name: args[0], host: host, tries: map[string]int{}}
	srv := &http.Server{Addr: fmt.Sprintf(":%d", *port), Handler: b.handler(), ReadHeaderTimeout: 10 * time.Second}

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	done := make(chan error, 1)
	go func() { done <- srv.ListenAndServe() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		bye, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		return srv.Shutdown(bye)
	}
}

func (b *bank) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /"+b.name, b.answer)
	mux.HandleFunc("GET /"+b.name+"/", b.answer)
	mux.HandleFunc("GET /flaky", b.flaky)
	mux.HandleFunc("GET /slow", b.slow)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) {
		if b.unready.Load() {
			http.Error(w, "not ready", http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("POST /switch/ready/{on}", b.turn(&b.unready, true))
	mux.HandleFunc("POST /switch/failing/{on}", b.turn(&b.failing, false))
	return mux
}

// answer says who answered, and what it saw of the caller.
func (b *bank) answer(w http.ResponseWriter, r *http.Request) {
	if b.failing.Load() {
		http.Error(w, "failing on request", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	err := json.NewEncoder(w).Encode(map[string]any{
		"service": b.name, "pod": b.host, "path": r.URL.Path, "host": r.Host, "peer": r.RemoteAddr, "protocol": r.Proto,
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "answer:", err)
	}
}

// flaky answers 503 to the first ?fail= requests of a ?key=.
func (b *bank) flaky(w http.ResponseWriter, r *http.Request) {
	fail, err := strconv.Atoi(r.URL.Query().Get("fail"))
	if err != nil {
		http.Error(w, "fail: "+err.Error(), http.StatusBadRequest)
		return
	}
	b.mu.Lock()
	key := r.URL.Query().Get("key")
	b.tries[key]++
	tries := b.tries[key]
	b.mu.Unlock()
	if tries <= fail {
		http.Error(w, "failing on request", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintf(w, "try %d\n", tries)
}

// slow answers after ?for=, or when the caller has gone.
func (b *bank) slow(w http.ResponseWriter, r *http.Request) {
	wait, err := time.ParseDuration(r.URL.Query().Get("for"))
	if err != nil {
		http.Error(w, "for: "+err.Error(), http.StatusBadRequest)
		return
	}
	select {
	case <-time.After(wait):
		fmt.Fprintln(w, "late")
	case <-r.Context().Done():
	}
}

func (b *bank) turn(flag *atomic.Bool, inverted bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		on, err := strconv.ParseBool(r.PathValue("on"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		flag.Store(on != inverted)
	}
}
