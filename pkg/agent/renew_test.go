package agent

import (
	"crypto/x509"
	"testing"
	"time"
)

func TestRenewIn(t *testing.T) {
	for random, want := range map[float64]time.Duration{0: 27 * time.Minute, 0.5: 30 * time.Minute, 1: 33 * time.Minute} {
		if got := renewIn(time.Hour, random); got.Round(time.Second) != want {
			t.Errorf("at %v: %s, want %s", random, got, want)
		}
	}
}

func TestRetryIn(t *testing.T) {
	for n, want := range map[int]time.Duration{
		1: 250 * time.Millisecond, 2: 500 * time.Millisecond, 5: 4 * time.Second, 7: 10 * time.Second, 100: 10 * time.Second, 1 << 40: 10 * time.Second,
	} {
		if got := retryIn(n, maxBackoff, 1); got != want {
			t.Errorf("after %d failures: %s, want %s", n, got, want)
		}
		if got := retryIn(n, maxBackoff, 0); got != want/2 {
			t.Errorf("after %d failures at least %s, want %s", n, got, want/2)
		}
	}
}

func TestRetryLimit(t *testing.T) {
	now := time.Now()
	for left, want := range map[time.Duration]time.Duration{
		time.Hour: maxBackoff, 40 * time.Second: 5 * time.Second, time.Second: minLimit, 0: maxBackoff, -time.Hour: maxBackoff,
	} {
		s := &SVID{Chain: []*x509.Certificate{{NotAfter: now.Add(left)}}}
		if got := retryLimit(s, now); got != want {
			t.Errorf("with %s left: %s, want %s", left, got, want)
		}
	}
	if got := retryLimit(nil, now); got != startBackoff {
		t.Errorf("without a certificate: %s, want %s", got, startBackoff)
	}
}
