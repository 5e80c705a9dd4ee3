package acks

import "sync"

// Book keeps the newest Ledger. It may be used by many goroutines.
type Book struct {
	mu      sync.Mutex
	ledger  Ledger
	changed chan struct{}
}

// NewBook has an empty Ledger.
func NewBook() *Book { return &Book{changed: make(chan struct{}, 1)} }

// Record folds an event in.
func (b *Book) Record(e Event) {
	b.mu.Lock()
	b.ledger = Fold(b.ledger, e)
	b.mu.Unlock()
	select {
	case b.changed <- struct{}{}:
	default:
	}
}

// Ledger is the newest one.
func (b *Book) Ledger() Ledger {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ledger
}

// Changed has a value after Record, one for any number of events: for one reader.
func (b *Book) Changed() <-chan struct{} { return b.changed }
