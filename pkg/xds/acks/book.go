package acks

import "sync"

// Book keeps the newest Ledger. It may be used by many goroutines. An event
// costs the same among any number of proxies; a Ledger is made for who reads.
type Book struct {
	mu     sync.Mutex
	edit   *Edit
	ledger Ledger
	// behind: ledger has not everything that was folded into edit.
	behind bool
	watch  func()
}

// NewBook has an empty Ledger.
func NewBook() *Book { return &Book{edit: Ledger{}.Edit()} }

// Watch has f called after each event that changes the Ledger, outside of all
// locks; one f, set before the first Record. f must not block.
func (b *Book) Watch(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.watch = f
}

// Record folds an event in.
func (b *Book) Record(e Event) {
	b.mu.Lock()
	changed := b.edit.fold(&e)
	b.behind = b.behind || changed
	watch := b.watch
	b.mu.Unlock()
	if changed && watch != nil {
		watch()
	}
}

// Ledger is the newest one.
func (b *Book) Ledger() Ledger {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.behind {
		b.ledger, b.behind = b.edit.Ledger(), false
	}
	return b.ledger
}

// Len is the number of connected proxies.
func (b *Book) Len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.edit.connected
}
