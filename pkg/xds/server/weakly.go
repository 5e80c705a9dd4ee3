package server

import (
	"runtime"
	"sync"
	"weak"
)

// weakly has one value for equal keys, for as long as somebody else keeps it.
type weakly[K comparable, V any] struct {
	mu    sync.Mutex
	known map[K]weak.Pointer[V]
}

// get is the value of key, made where there is none.
func (w *weakly[K, V]) get(key K, make func() *V) *V {
	w.mu.Lock()
	defer w.mu.Unlock()
	if v := w.known[key].Value(); v != nil {
		return v
	}
	v := make()
	if w.known == nil {
		w.known = map[K]weak.Pointer[V]{}
	}
	w.known[key] = weak.Make(v)
	runtime.AddCleanup(v, w.forget, key)
	return v
}

func (w *weakly[K, V]) forget(key K) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.known[key].Value() == nil { // not one that has come since
		delete(w.known, key)
	}
}

func (w *weakly[K, V]) len() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.known)
}
