package agent

import (
	"context"
	"time"

	"google.golang.org/grpc/status"
)

const (
	firstBackoff = 250 * time.Millisecond
	startBackoff = 3 * time.Second
	maxBackoff   = 10 * time.Second
	minLimit     = time.Second
	// keepOpen is the longest wait for which the connection is kept: meshd's pings on one
	// that is idle for longer cost more than a new one, beside 42 KB of its memory for each
	// agent. With leaves of an hour meshd would end it before the next signing anyway.
	keepOpen = 5 * time.Minute
	// trustPoll is how often the trust file is read: kubelet updates it within a minute anyway.
	trustPoll = 5 * time.Second
	// wallCheck is how often a long sleep looks at the wall clock.
	wallCheck = time.Minute
	// logAgain repeats an unchanged complaint.
	logAgain = time.Minute
)

// renewIn is half of the certificate's life, earlier or later by up to a tenth
// of it, so that replicas that started together do not renew together.
// random is in [0, 1).
func renewIn(life time.Duration, random float64) time.Duration {
	return time.Duration(float64(life) * (0.45 + 0.1*random))
}

// retryIn is the pause after the n-th failure in a row (from 1): doubling up to
// limit, with jitter over its upper half.
func retryIn(n int, limit time.Duration, random float64) time.Duration {
	d := limit
	if n < 16 {
		d = min(firstBackoff<<(n-1), limit)
	}
	return time.Duration(float64(d) * (0.5 + 0.5*random))
}

// retryLimit is the longest pause between tries. A workload without a
// certificate is one that starts, and somebody waits for it; one whose
// certificate comes to its end tries harder, but after the end no more than
// others, since then all of a mesh do.
func retryLimit(s *SVID, now time.Time) time.Duration {
	if s == nil {
		return startBackoff
	}
	if left := s.NotAfter().Sub(now); left > 0 {
		return max(min(maxBackoff, left/8), minLimit)
	}
	return maxBackoff
}

// renew keeps a certificate until ctx ends.
func (a *Agent) renew(ctx context.Context) {
	failures := 0
	for {
		var wait time.Duration
		svid, err := a.meshd.sign(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			failures++
			s, _ := a.board.get()
			wait = retryIn(failures, retryLimit(s.SVID, a.cfg.Clock.Now()), a.cfg.Rand())
			a.complain(err)
		default:
			failures, a.complaint = 0, ""
			a.board.setSVID(svid)
			wait = renewIn(svid.NotAfter().Sub(svid.Since), a.cfg.Rand())
			if wait > keepOpen {
				a.meshd.close()
			}
			a.cfg.Log.Info("certificate received", "id", svid.ID.String(),
				"notAfter", svid.NotAfter().UTC(), "renewIn", wait.Round(time.Second))
		}
		if !a.sleep(ctx, wait) {
			return
		}
	}
}

// sleep waits by the wall clock, by which certificates expire: timers stand
// still while a machine is suspended. It is false when ctx ends.
func (a *Agent) sleep(ctx context.Context, d time.Duration) bool {
	now := func() time.Time { return a.cfg.Clock.Now().Round(0) }
	until := now().Add(d)
	for left := d; left > 0; left = until.Sub(now()) {
		select {
		case <-ctx.Done():
			return false
		case <-a.cfg.Clock.After(min(left, wallCheck)):
		}
	}
	return ctx.Err() == nil
}

// complain says once what is waited for, and again when it changes or a minute has passed.
func (a *Agent) complain(err error) {
	why := err.Error()
	if st, ok := status.FromError(err); ok {
		why = st.Code().String() + ": " + st.Message()
	}
	now := a.cfg.Clock.Now()
	if why == a.complaint && now.Sub(a.complainedAt) < logAgain {
		return
	}
	a.complaint, a.complainedAt = why, now
	s, _ := a.board.get()
	switch {
	case s.SVID == nil:
		a.cfg.Log.Warn("no certificate yet; trying on", "waitingFor", why)
	case now.After(s.SVID.NotAfter()):
		a.cfg.Log.Error("certificate has expired and is not renewed; trying on", "notAfter", s.SVID.NotAfter().UTC(), "waitingFor", why)
	default:
		a.cfg.Log.Warn("certificate is not renewed; the last one is served on", "expires", s.SVID.NotAfter().UTC(),
			"in", s.SVID.NotAfter().Sub(now).Round(time.Second), "waitingFor", why)
	}
}

// watchAnchor serves the trust file's last good content.
func (a *Agent) watchAnchor(ctx context.Context) {
	last := ""
	for {
		_, raw, err := readAnchor(a.cfg.TrustFile)
		switch {
		case err == nil:
			a.board.setAnchor(raw)
			last = ""
		case err.Error() != last:
			last = err.Error()
			a.cfg.Log.Warn("trust anchor is not read", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-a.cfg.Clock.After(trustPoll):
		}
	}
}
