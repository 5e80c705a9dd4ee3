package kubetest

import (
	"context"
	"testing"
	"time"
)

// pollInterval is between two looks at what somebody else does.
const pollInterval = 20 * time.Millisecond

// Until looks until something is so, within Patience. An error is no end: the
// last one is told where it never comes to be so.
func Until(t testing.TB, what string, is func(context.Context) (bool, error)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience) // usable in a Cleanup too
	defer cancel()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	var last error
	for {
		ok, err := is(ctx)
		if ok {
			return
		}
		if ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			t.Fatalf("not within %s: %s; last error: %v", Patience, what, last)
		case <-tick.C:
		}
	}
}
