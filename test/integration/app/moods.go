package main

import (
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
)

// moods are the ways in which a server fails when it is told to.
type moods struct {
	sick atomic.Bool

	mu    sync.Mutex
	tries map[string]int
}

func (m *moods) handle(mux *http.ServeMux) {
	mux.HandleFunc("/flaky/{key}/{fail}", m.flaky)
	mux.HandleFunc("/tries/{key}", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%d tries", m.count(r.PathValue("key"), 0))
	})
	mux.HandleFunc("/sick", func(http.ResponseWriter, *http.Request) { m.sick.Store(true) })
	mux.HandleFunc("/health", func(w http.ResponseWriter, r *http.Request) {
		if m.sick.Load() {
			http.Error(w, "sick", http.StatusInternalServerError)
			return
		}
		describe(w, r)
	})
}

func (m *moods) count(key string, more int) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.tries == nil {
		m.tries = map[string]int{}
	}
	m.tries[key] += more
	return m.tries[key]
}

// flaky answers 503 to the first FAIL requests of a KEY.
func (m *moods) flaky(w http.ResponseWriter, r *http.Request) {
	fail, err := strconv.Atoi(r.PathValue("fail"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if n := m.count(r.PathValue("key"), 1); n <= fail {
		http.Error(w, "failing on request", http.StatusServiceUnavailable)
	}
}
