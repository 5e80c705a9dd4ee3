package console

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// Source is where the state comes from.
type Source interface {
	// State is what is known now.
	State() State
	// Settle reads the sources anew and returns when every live proxy has
	// acknowledged what follows from them, or when ctx ends.
	Settle(ctx context.Context) error
}

// maxWait bounds ?wait=.
const maxWait = 5 * time.Minute

// Handler serves GET /state, and with ?wait=DURATION after settling for at most that long.
func Handler(source Source) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /state", func(w http.ResponseWriter, r *http.Request) {
		if err := settle(r, source); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(source.State()) // the reader has gone: there is nobody to tell
	})
	return mux
}

// settle fails only for a bad request: a state that has not settled in time is told by State.Synced.
func settle(r *http.Request, source Source) error {
	text := r.URL.Query().Get("wait")
	if text == "" {
		return nil
	}
	wait, err := time.ParseDuration(text)
	if err != nil || wait <= 0 || wait > maxWait {
		return fmt.Errorf("wait: want a duration of at most %s, not %q", maxWait, text)
	}
	ctx, cancel := context.WithTimeout(r.Context(), wait)
	defer cancel()
	_ = source.Settle(ctx) // the answer says what has not settled
	return nil
}
