package peer

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshd-io/meshd/pkg/peer/peerv1"
)

// TestWhatChangesNoReportIsSeldomLookedAt: endpoints that come and go announce
// changes on and on, and every look is at all objects.
func TestWhatChangesNoReportIsSeldomLookedAt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		looks, told, proxies, changed := 0, 0, 1, make(chan struct{})
		change := func(n int) {
			mu.Lock()
			defer mu.Unlock()
			proxies = n
			close(changed)
			changed = make(chan struct{})
		}
		s := NewServer(ServerConfig{
			Changed: func() <-chan struct{} { mu.Lock(); defer mu.Unlock(); return changed },
			Report:  func() (Report, bool) { mu.Lock(); defer mu.Unlock(); looks++; return Report{Proxies: proxies}, true },
		})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = s.report(ctx, func(*peerv1.WatchResponse) error { mu.Lock(); defer mu.Unlock(); told++; return nil })
		}()
		churn := func(n int, d time.Duration) (int, int) {
			for range d / (10 * time.Millisecond) {
				change(n)
				time.Sleep(10 * time.Millisecond)
			}
			mu.Lock()
			defer mu.Unlock()
			l, m := looks, told
			looks, told = 0, 0
			return l, m
		}
		churn(1, 10*time.Second)
		if l, m := churn(1, 20*time.Second); l > 25 || m != 0 {
			t.Errorf("%d looks and %d messages in 20 s, want about one look a second", l, m)
		}
		if _, m := churn(2, 1100*time.Millisecond); m != 1 {
			t.Errorf("%d messages, want what is new within a second or so", m)
		}
		cancel()
		<-ended
	})
}
