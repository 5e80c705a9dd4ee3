package main

import (
	"context"
	"sync"
)

// broadcast tells all who wait that something has changed. The zero value is ready to use.
type broadcast struct {
	mu sync.Mutex
	ch chan struct{}
}

// wait gives a channel that is closed at the next raise.
func (b *broadcast) wait() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch == nil {
		b.ch = make(chan struct{})
	}
	return b.ch
}

func (b *broadcast) raise() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch != nil {
		close(b.ch)
		b.ch = nil
	}
}

// pokes turns signals, each of which gives a channel that is closed once, into
// one channel that gets a value after any of them, until ctx ends.
func pokes(ctx context.Context, signals ...func() <-chan struct{}) <-chan struct{} {
	out := make(chan struct{}, 1)
	for _, s := range signals {
		go func() {
			for {
				changed := s()
				select {
				case <-ctx.Done():
					return
				case <-changed:
				}
				select {
				case out <- struct{}{}:
				default:
				}
			}
		}()
	}
	return out
}
